"""The manage account: what it does, and everything else that it doesn't."""

from __future__ import annotations

import json
import shlex

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import Fleet, end_at_once, running
from tests.patience import eventually

FILES_LIVE_ELSEWHERE = "No files live here: this account only starts and stops your container."
SEE_HELP = "Try `help`: ssh SERVER-manage help"


def manage(fleet: Fleet, request: str = "", options: str = "") -> Finished:
    """Ask the manage account for something, as lqchen."""
    return fleet.types(f"ssh {options} gpu17-manage -- {shlex.quote(request)}")


class TestVerbs:
    def test_stop_and_start_and_restart(self, fleet: Fleet, lqchen_is_up: None) -> None:
        done = manage(fleet, "stop")
        assert (done.status, done.stdout) == (0, "Your container on gpu17 is shut down.\n")
        done = manage(fleet, "stop")
        assert (done.status, done.stdout) == (0, "Your container on gpu17 was not running.\n")
        done = manage(fleet, "status")
        assert done.stdout.startswith("Your container on gpu17: stopped\n")
        assert "Start it:  ssh gpu17-manage\n" in done.stdout
        assert json.loads(manage(fleet, "status --json").stdout)["running"] is False
        done = manage(fleet, "start")
        assert done.stdout.startswith("Your container on gpu17 is up.\nLog in:  ssh gpu17 ")
        assert "- starting the container\n" in done.stderr
        assert fleet.types("ssh gpu17 true").ok, "sshd answered before start did"
        assert manage(fleet, "").stdout.startswith("Your container on gpu17 runs already.\n")
        boot = "ssh gpu17 cat /proc/sys/kernel/random/boot_id"
        before = fleet.types(boot).stdout
        assert manage(fleet, "restart").stdout.startswith("Your container on gpu17 is up.\n")
        assert fleet.types(boot).stdout != before

    def test_what_is_more_than_a_look_at_what_runs_is_charged(
        self, fleet: Fleet, lqchen_is_up: None
    ) -> None:
        def charged(*requests: str) -> bool:
            begun = fleet.gpu17.sh("date +@%s.%N").stdout.strip()
            assert all(manage(fleet, request).ok for request in requests)
            shows = f"journalctl --sync; journalctl -q -o cat _PID=1 --since={begun}"
            return "Work of lxc-gpu for lqchen" in fleet.gpu17.sh(shows).stdout

        assert not charged("start")
        assert fleet.types("ssh gpu17 chmod 777 .").ok
        assert charged("start"), "the way to the keys was mended"
        assert not charged("start")
        assert charged("status")
        assert manage(fleet, "stop").ok
        assert charged("start")

    def test_json_of_every_verb_parses(self, fleet: Fleet, lqchen_is_up: None) -> None:
        for verb in ("start", "status"):
            facts = json.loads(manage(fleet, f"{verb} --json").stdout)
            assert (facts["server"], facts["user"], facts["running"]) == ("gpu17", "lqchen", True)
            assert facts["host"] == "172.16.2.17"
            assert isinstance(facts["port"], int)

    def test_help(self, untouched: Host, fleet: Fleet) -> None:
        text = manage(fleet, "help").stdout
        for verb in ("start", "stop", "restart", "status", "help"):
            assert f"\n  {verb} " in text
            assert manage(fleet, f"help {verb}").stdout.startswith(f"{verb}: ")


class TestNonsense:
    @pytest.mark.parametrize(
        "request_",
        ["bash", "sh -c id", "/bin/sh", "; touch /tmp/pwned", "start; touch /tmp/pwned",
         "$(touch /tmp/pwned)", "`touch /tmp/pwned`", "| touch /tmp/pwned", "&& touch /tmp/pwned",
         "'", '"', "\\", "-c touch /tmp/pwned", "--", "START", "../start", "register", "reconcile",
         "iam", "начать"],
    )  # fmt: skip
    def test_is_told_apart_and_not_run(self, fleet: Fleet, untouched: Host, request_: str) -> None:
        done = manage(fleet, request_)
        assert done.status == 1
        assert done.stdout == ""
        verb = request_.split()[0]
        assert done.stderr == f"✗ There is no `{verb}` here.\n  {SEE_HELP}\n"

    @pytest.mark.parametrize("word", ["ann", "--user=ann", "--json=x", "; id", "$(id)"])
    def test_verbs_take_nothing_else(self, fleet: Fleet, untouched: Host, word: str) -> None:
        done = manage(fleet, f"stop {word}")
        assert (done.status, done.stdout) == (1, "")
        assert done.stderr.startswith(f"✗ `stop` takes no `{word.split()[0]}`.")

    def test_lines_and_bytes_that_are_no_text(self, fleet: Fleet, untouched: Host) -> None:
        for raw in (r"status\nbash", r"status\tx", r"\xff\xfe", r"\x1b[2J", r"status\r"):
            done = fleet.types(f"ssh gpu17-manage \"$(printf '{raw}')\"")
            assert (done.status, done.stdout) == (1, "")
            assert done.stderr.startswith("✗ That request holds control characters, or isn't UTF-8")
            assert "\x1b" not in done.stderr

    def test_a_hundred_thousand_letters(self, fleet: Fleet, untouched: Host) -> None:
        done = fleet.types('ssh gpu17-manage "$(head -c 100000 /dev/zero | tr "\\0" a)"')
        assert (done.status, done.stdout) == (1, "")
        assert done.stderr.startswith("✗ That is too long to be a request.")

    def test_environment_from_outside_changes_nothing(self, fleet: Fleet, untouched: Host) -> None:
        names = ("LC_ALL=xx", "LC_PAPER=$(touch /tmp/pwned)", "LANG=../../etc", "LC_TIME=%n%n",
                 "PYTHONPATH=/tmp", "PYTHONSTARTUP=/tmp/x", "LD_PRELOAD=/tmp/x", "BASH_ENV=/tmp/x",
                 "SSH_ORIGINAL_COMMAND=stop")  # fmt: skip
        sets = "-o " + shlex.quote("SetEnv=" + " ".join(f'"{name}"' for name in names))
        done = manage(fleet, "status", options=sets)
        assert done.stdout.startswith("Your container on gpu17: running\n")
        assert "Traceback" not in done.stderr


class TestOnlyVerbs:
    @pytest.mark.parametrize(
        "line",
        [
            "scp -O /etc/hostname gpu17-manage:",
            "scp -O gpu17-manage:/etc/passwd .",
            "ssh gpu17-manage rsync --server -logDtpre.iLsfxCIvu . .",
            "ssh gpu17-manage tar -cf- /etc",
            "ssh gpu17-manage git-upload-pack /var/lib/lxc-gpu/state.git",
            "echo put /etc/hostname | sftp -b - gpu17-manage",
            "sftp gpu17-manage:/etc/passwd .",
        ],
    )
    def test_files_are_sent_elsewhere(self, fleet: Fleet, untouched: Host, line: str) -> None:
        files = untouched.sh("find /home/lqchen").stdout
        done = fleet.types(f"cd $(mktemp -d); {line} || true; find . -type f")
        assert FILES_LIVE_ELSEWHERE in done.stderr
        assert done.stdout.replace("Connected to gpu17-manage.", "").strip() == ""
        assert untouched.sh("find /home/lqchen").stdout == files

    def test_todays_scp_is_at_least_told_no(self, fleet: Fleet, untouched: Host) -> None:
        """It speaks sftp, and shows nobody what the other side has to say."""
        done = fleet.types("scp /etc/hostname gpu17-manage:")
        assert (done.status, done.stdout) == (1, "")
        assert 'scp: dest open ".": Permission denied' in done.stderr
        done = fleet.types("scp gpu17-manage:/etc/passwd .")
        assert (done.status, done.stdout) == (1, "")

    @pytest.mark.parametrize("account", ["gpu17-manage", "register@gpu17-manage"])
    @pytest.mark.parametrize(
        "options",
        ["-L 7777:127.0.0.1:22", "-R 7777:127.0.0.1:22", "-D 7777", "-W 127.0.0.1:22", "-A",
         "-w 0:0", "-N -L ./s:/run/lxc-gpu/root.sock"],
    )  # fmt: skip
    def test_nothing_is_forwarded(
        self, fleet: Fleet, untouched: Host, account: str, options: str
    ) -> None:
        """Ports of the server, sockets of it, and the agent of the user."""
        through = "--socks5 127.0.0.1:7777 127.0.0.1:22" if "-D" in options else "127.0.0.1:7777"
        use = f"curl -sS --http0.9 --max-time 2 {through}"
        limit = 3 if "-N" in options else 30
        script = f"""
            eval $(ssh-agent) >&2; trap 'ssh-agent -k >&2' EXIT
            timeout {limit} ssh {options} {account} status >out 2>&1 </dev/null &
            while kill -0 $! 2>&-; do
                {use} 2>&-
                test -e s && timeout 2 curl -sS --http0.9 --unix-socket s http://x
                sleep 0.1
            done
            cat out
            """
        done = fleet.types(f"cd $(mktemp -d); set +e; {script}")
        assert "SSH-" not in done.stdout
        assert '"refusal"' not in done.stdout
        if "-W" in options:
            assert "administratively prohibited" in done.stdout
        if "-R" in options:
            assert "remote port forwarding failed" in done.stdout

    def test_no_shell_even_on_a_terminal(self, fleet: Fleet, untouched: Host) -> None:
        done = fleet.types("ssh -tt gpu17-manage sh </dev/null")
        assert done.status == 1
        assert "There is no `sh` here." in done.stdout
        assert "$ " not in done.stdout.replace("`sh`", "")

    def test_no_password_opens_it(self, fleet: Fleet, untouched: Host) -> None:
        for account in ("lqchen", "register", "iam", "lxc-gpu"):
            done = fleet.types(
                f"ssh -o PubkeyAuthentication=no -o PreferredAuthentications=password,"
                f"keyboard-interactive -l {account} gpu17-manage status"
            )
            assert done.status == 255
            assert "Permission denied (publickey" in done.stderr

    def test_other_peoples_keys_open_nothing(self, fleet: Fleet, untouched: Host) -> None:
        for account in ("lqchen", "iam", "root"):
            done = fleet.types(f"ssh -l {account} gpu17-manage status", user="ann")
            assert done.status == 255
            assert "Permission denied" in done.stderr


class TestTwoAtOnce:
    def test_two_starts_take_turns(self, fleet: Fleet) -> None:
        end_at_once(fleet.gpu17, "lqchen")
        done = fleet.types("""
            ssh gpu17-manage >one 2>&1 & first=$!
            ssh gpu17-manage >two 2>&1; wait $first
            cat one two; rm one two""")
        assert done.ok
        assert done.stdout.count("Your container on gpu17 is up.") == 1
        assert done.stdout.count("Your container on gpu17 runs already.") == 1

    def test_what_was_begun_goes_on_without_its_asker(self, fleet: Fleet) -> None:
        end_at_once(fleet.gpu17, "lqchen")
        fleet.types(
            """
            rm -f /tmp/asked; ssh gpu17-manage 2>/tmp/asked &
            until grep -q starting /tmp/asked; do sleep 0.05; done
            kill -INT $! 2>&-; kill $!; wait""",
            wait=30,
        )
        eventually(lambda: running(fleet.gpu17, "lqchen"))
        eventually(lambda: fleet.types("ssh gpu17 true").ok)

    def test_ctrl_c_says_that_it_goes_on(self, fleet: Fleet, untouched: Host) -> None:
        fleet.gpu17.sh("mkdir -p /run/lxc-gpu/locks")
        done = fleet.types("""
            rm -f typed said; mkfifo typed
            ssh -tt gpu17-manage restart <typed >said &
            exec 3>typed
            until grep -q 'shutting' said; do sleep 0.05; done
            printf '\\003' >&3
            wait $! || true
            cat said""")
        assert "Interrupted: what was begun goes on; `status` shows how it went." in done.stdout
        assert "Traceback" not in done.stdout
        eventually(lambda: running(fleet.gpu17, "lqchen"))
        eventually(lambda: fleet.types("ssh gpu17 true").ok)
