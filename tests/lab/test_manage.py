"""The manage account and its two neighbours: what they do, and everything else that they don't."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import Fleet, end_at_once, reconcile, running, watched
from tests.patience import eventually

FILES_LIVE_ELSEWHERE = "No files live here: this account only starts and stops your container."
SEE_HELP = "Try `help`: ssh SERVER-manage help"
SOCKET = "/run/lxc-gpu/root.sock"
REGISTER = "/usr/local/lib/lxc-gpu/register"
ASK = """
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.settimeout(25); s.connect("/run/lxc-gpu/root.sock")
exec(sys.argv[1])
while part := s.recv(65536):
    sys.stdout.write(part.decode())
"""
"""Talks to the root helper as any program of a user can."""


@pytest.fixture(scope="class")
def seen(fleet: Fleet) -> list[str]:
    """What was seen of the server after the tests of the class so far, the newest last.

    It begins on the newest revision: others' tests commit, and some requests run a round.
    """
    assert reconcile(fleet.gpu17).ok
    return []


@pytest.fixture
def untouched(fleet: Fleet, seen: list[str], lqchen_is_up: None) -> Iterator[Host]:
    """A server that has to be afterwards what it was before."""
    before = seen[-1] if seen else watched(fleet.gpu17)
    yield fleet.gpu17
    seen.append(watched(fleet.gpu17))
    assert seen[-1] == before
    assert fleet.gpu17.sh("ls -A /tmp/pwned* 2>&- || true").stdout == ""


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


class TestRegisterAccount:
    @pytest.mark.parametrize(
        "typed",
        ["ann", "lqchen ann", "; id", "$(touch /tmp/pwned)", "`touch /tmp/pwned`", "../lqchen",
         "bash", "root", "lqchen\nann"],
    )  # fmt: skip
    def test_the_key_says_who(self, fleet: Fleet, untouched: Host, typed: str) -> None:
        done = fleet.types(f"ssh register@gpu17-manage {shlex.quote(typed)}")
        assert (done.status, done.stdout) == (1, "")
        assert done.stderr == (
            "✗ This key is lqchen's: it registers lqchen and nobody else.\n"
            "  Type `lqchen` in place of what you typed.\n"
        )

    def test_a_second_time_is_harmless(self, fleet: Fleet, untouched: Host) -> None:
        for typed in ("lqchen", "LQChen", ""):
            done = fleet.types(f"ssh register@gpu17-manage {typed}")
            assert done.ok, done.stderr
            assert done.stdout.startswith("Your container on gpu17 was registered before.\n")
            assert "Could not chdir" not in done.stderr

    def test_forty_at_once_are_one_or_told_so(self, fleet: Fleet, untouched: Host) -> None:
        """As forty sessions of sshd would run it: no more than one begins at a time."""
        said = untouched.sh(f"""
            cd $(mktemp -d); chmod 755 .
            for n in $(seq 40); do
                runuser -u register -- {REGISTER} lqchen >$n 2>&1 &
            done
            wait; cat *; rm *""").stdout
        ended = said.count("Your container on gpu17 was registered before.")
        told = said.count("✗ A registration of lqchen on gpu17 is under way already.")
        assert (ended >= 1, told >= 20, ended + told) == (True, True, 40), said
        assert "Traceback" not in said
        assert "Interrupted" not in said

    def test_transfers_nothing(self, fleet: Fleet, untouched: Host) -> None:
        for line in ("scp /etc/hostname register@gpu17-manage:",
                     "echo ls | sftp -b - register@gpu17-manage"):  # fmt: skip
            done = fleet.types(line)
            assert not done.ok
            assert "Connection closed" in done.stderr or "it registers lqchen" in done.stderr


@pytest.mark.usefixtures("nudges")
class TestIamAccount:
    """Its one key is the web page's, on iam."""

    def ask(self, fleet: Fleet, words: str) -> Finished:
        find = "grep -rl 'OPENSSH PRIVATE KEY' /etc/lxc-gpu /var/lib/lxc-gpu 2>&-"
        ssh = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        ssh += " -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
        return fleet.iam.sh(f"""
            for key in $({find}); do
                {ssh} -i $key {words} && exit 0
                test $? = 255 || exit 1
            done
            exit 255""", check=False)  # fmt: skip

    def test_has_one_verb(self, fleet: Fleet, untouched: Host) -> None:
        done = self.ask(fleet, "iam@gpu17 reconcile")
        report = json.loads(done.stdout.splitlines()[-1])["report"]
        assert report["server"] == "gpu17"
        assert report["failures"] == []

    @pytest.mark.parametrize("words", ["", "bash", "'reconcile; id'", "'reconcile lqchen'",
                                       "register", "'load; id'", "'load x'",
                                       "'news x'"])  # fmt: skip
    def test_and_no_other(self, fleet: Fleet, untouched: Host, words: str) -> None:
        done = self.ask(fleet, f"iam@gpu17 {words}")
        assert done.status == 1
        assert json.loads(done.stdout) == {"refusal": {
            "code": "usage", "message": "The verbs here: reconcile, news, load, told.", "hint": "",
            "remedy": "person"}}  # fmt: skip


class TestRootSocket:
    """As a program of a user on the server itself would attack it."""

    def ask(self, host: Host, code: str, user: str = "lqchen") -> str:
        script = f"timeout 40 python3 -c {shlex.quote(ASK)} {shlex.quote(code)}"
        return host.sh(f"runuser -u {user} -- {script}").stdout

    def says(self, host: Host, line: str, user: str = "lqchen") -> dict[str, object]:
        raw = f"{line}\n".encode()
        (answer,) = self.ask(host, f"s.sendall({raw!r})", user).splitlines()
        facts: dict[str, object] = json.loads(answer)
        return facts

    @pytest.mark.parametrize(
        ("verb", "user"),
        [("stop", "ann"), ("start", "root"), ("status", "ann"), ("shell", "ann"), ("register", ""),
         ("register", "lqchen"), ("register", "ann"), ("reconcile", ""), ("reconcile", "lqchen"),
         ("stop", "../ann"), ("stop", "ann\n")],
    )  # fmt: skip
    def test_users_act_on_themselves_only(self, untouched: Host, verb: str, user: str) -> None:
        answer = self.says(untouched, json.dumps({"verb": verb, "user": user}))
        assert answer["refusal"]["code"] == "not-allowed"  # type: ignore[index]
        assert answer["refusal"]["message"] == f"lqchen may not ask for `{verb}` there."  # type: ignore[index]

    def test_strangers_are_refused(self, untouched: Host) -> None:
        stop = json.dumps({"verb": "stop", "user": ""})
        assert "not-registered" in str(self.says(untouched, stop, user="nobody"))
        for service in ("register", "iam"):
            assert "not-allowed" in str(self.says(untouched, stop, user=service))
        rounds = json.dumps({"verb": "reconcile", "user": ""})
        assert "not-allowed" in str(self.says(untouched, rounds, user="register"))

    @pytest.mark.parametrize(
        "line",
        ["", "start", "[]", "{}", "null", '{"verb": "start"}', '{"verb": "start", "user": 7}',
         '{"verb": "bash", "user": ""}', '{"verb": "stop", "user": "", "root": true}',
         '{"verb": ["stop"], "user": ""}', "[" * 4000, "\x00\x00", "é" * 3000],
    )  # fmt: skip
    def test_garbage_is_refused(self, untouched: Host, line: str) -> None:
        answer = self.says(untouched, line)
        assert answer["refusal"]["code"] == "bad-request"  # type: ignore[index]

    def test_bytes_and_endless_lines_are_refused(self, untouched: Host) -> None:
        assert "bad-request" in self.ask(untouched, r"s.sendall(b'\xff\xfe\n')")
        many = "try: s.sendall(b'x' * 50_000_000)\nexcept OSError: pass"
        code = f"{many}\ntry: print(s.recv(999))\nexcept OSError: print('closed')\nsys.exit()"
        self.ask(untouched, code)
        assert untouched.sh("systemctl is-active lxc-gpu-root.socket").stdout == "active\n"

    def test_silence_and_trickling_end(self, untouched: Host) -> None:
        """Half a line, then nothing; and a letter now and then: neither holds root for long."""
        begun = time.monotonic()
        silent = 's.send(b"{")'
        trickle = """
try:
    while time.sleep(0.5) is None: s.send(b"x")
except OSError: pass"""
        ask = f"runuser -u lqchen -- timeout 40 python3 -c {shlex.quote(ASK)}"
        said = untouched.sh(f"""
            {ask} {shlex.quote(silent)} & {ask} {shlex.quote(trickle)} || true
            wait""").stdout
        assert "bad-request" in said
        assert time.monotonic() - begun < 16
        listing = "systemctl list-units --plain --no-legend 'lxc-gpu-root@*'"
        eventually(lambda: not untouched.sh(listing).stdout)

    def test_nobody_takes_the_places_of_the_others(self, untouched: Host) -> None:
        """Twenty connections of one, without a word: that one is told to wait, nobody else."""
        status = json.dumps({"verb": "status", "user": ""}) + "\n"
        asks = f"s.sendall({status.encode()!r})"
        crowd = f"""
import select
def knock():
    one = socket.socket(socket.AF_UNIX); one.connect("/run/lxc-gpu/root.sock"); return one
silent = [knock() for _ in range(20)]
select.select(silent, [], [])
s = knock(); {asks}
print(s.recv(65536).decode(), end="", flush=True)
for one in silent:
    while part := one.recv(65536): print(part.decode(), end="")
sys.exit()"""
        ask = f"timeout 40 python3 -c {shlex.quote(ASK)}"
        said = untouched.sh(f"""
            cd $(mktemp -d)
            runuser -u lqchen -- {ask} {shlex.quote(crowd)} >crowd &
            until test -s crowd; do sleep 0.05; done
            runuser -u ann -- {ask} {shlex.quote(asks)}
            wait; cat crowd; rm crowd""").stdout.splitlines()
        anns, *lqchens = map(json.loads, said)
        assert anns["answer"]["facts"]["user"] == "ann"
        codes = [each["refusal"]["code"] for each in lqchens]
        assert set(codes) == {"busy"}, "who had a place and said nothing is told nothing"
        assert lqchens[0]["refusal"]["remedy"] == "wait"
        assert 9 <= len(codes) <= 20
        assert "answer" in self.ask(untouched, asks), "the places are free again"

    def test_a_crowd_closes_the_socket_for_nobody(self, untouched: Host) -> None:
        """systemd would stop listening for good when so many come within two seconds."""
        knock = f"one = socket.socket(socket.AF_UNIX); one.connect({SOCKET!r}); one.close()"
        self.ask(untouched, f"for _ in range(300): {knock}\nsys.exit()")
        status = "runuser -u ann -- /usr/local/lib/lxc-gpu/login-shell -c status"
        eventually(lambda: untouched.sh(status, check=False).ok)

    def test_rounds_asked_for_at_once_go_together(self, untouched: Host) -> None:
        """Twelve nudges: three rounds begin, and another at most serves all who wait."""
        ask = f"timeout 60 python3 -u -c {shlex.quote(ASK)}"
        nudge = 's.sendall(b\'{"verb": "reconcile", "user": ""}\\n\')'
        said = untouched.sh(f"""
            cd $(mktemp -d); chmod 755 .
            flock /run/lxc-gpu/locks/publish sh -c 'until test -e go; do sleep 0.1; done' &
            for n in $(seq 12); do runuser -u iam -- {ask} {shlex.quote(nudge)} >$n & done
            until test $(cat [0-9]* | grep -c refusal) = 4 &&
                test $(cat [0-9]* | grep -c 'other rounds') = 5; do sleep 0.1; done
            touch go; wait; cat [0-9]*; rm *""").stdout
        ends = [json.loads(line) for line in said.splitlines() if '"progress"' not in line]
        reports = [end["report"] for end in ends if "report" in end]
        assert (len(ends), len(reports)) == (12, 8)
        assert len({report["finished"] for report in reports}) <= 4
        assert all(report["failures"] == [] for report in reports)
        refusals = [end["refusal"] for end in ends if "refusal" in end]
        assert {refusal["code"] for refusal in refusals} == {"busy"}

    def test_who_asks_can_t_be_seen_or_changed_by_another(self, untouched: Host) -> None:
        done = untouched.sh("runuser -u ann -- ls /etc/lxc-gpu/keys /var/lib/lxc-gpu/host_keys "
                            "/var/lib/lxc-gpu 2>&1 || true")  # fmt: skip
        assert done.stdout.count("Permission denied") == 3


class TestLoaded:
    """The root helper that is loaded before it is asked (`shells.helper.loaded`)."""

    STATUS = "runuser -u lqchen -- /usr/local/lib/lxc-gpu/login-shell -c status"

    def test_it_is_in_the_request_s_unit_and_ends_with_it(self, untouched: Host) -> None:
        children = """
            main=$(systemctl show --property=MainPID --value lxc-gpu-loaded)
            cat /proc/$main/task/$main/children"""
        ask = f"timeout 40 python3 -c {shlex.quote(ASK)} pass >/dev/null"
        untouched.sh(f"runuser -u lqchen -- {ask} 2>&1 &")
        eventually(lambda: bool(untouched.sh(children).stdout.strip()))
        (child,) = untouched.sh(children).stdout.split()
        eventually(lambda: "/lxc-gpu-root@" in untouched.read(f"/proc/{child}/cgroup"))
        untouched.sh("systemctl kill --signal=KILL 'lxc-gpu-root@*'")
        eventually(lambda: not untouched.sh(children).stdout.strip())

    def test_who_hangs_or_is_gone_is_in_nobody_s_way(self, untouched: Host) -> None:
        untouched.sh("systemctl kill --signal=STOP lxc-gpu-loaded")
        try:
            assert untouched.sh(self.STATUS).ok
        finally:
            untouched.sh("systemctl kill --signal=CONT lxc-gpu-loaded")
        untouched.sh("systemctl stop lxc-gpu-loaded")
        try:
            assert untouched.sh(self.STATUS).ok
        finally:
            untouched.sh("systemctl start lxc-gpu-loaded")
