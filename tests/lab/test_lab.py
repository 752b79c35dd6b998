"""The lab itself: do its machines boot, meet each other and nobody else, and survive mishaps?"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from laboratory import network
from laboratory.directory import people
from laboratory.hosts import Host, Lab
from laboratory.layout import own_release, places
from laboratory.machines import cgroups
from laboratory.progress import ProgressLines

from state.command import run
from state.errors import LxcGpuError
from tests.lab import CHECKOUT
from tests.lab.running import NAME, setup_lab
from tests.patience import HANGS, eventually

LDAPS = "ldaps://ldap.mylab.com"


def ldap(host: Host, tool: str, *words: str, ca: bool = True) -> subprocess.CompletedProcess[str]:
    """Run an LDAP tool of this machine inside the lab's network."""
    env = {"PATH": os.environ["PATH"], "LDAPTLS_REQCERT": "demand", "LDAPTLS_CACERT": "/nowhere"}
    if ca:
        env["LDAPTLS_CACERT"] = str(host.place.ca)
    argv = [*network.inside(host.place), tool, "-x", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=HANGS, check=False)


def as_service(base: str, *words: str) -> tuple[str, ...]:
    return ("-LLL", "-D", people.SERVICE_DN, "-w", people.SERVICE_PASSWORD, "-b", base, *words)


def test_every_host_has_booted_without_a_failed_unit(lab: Lab) -> None:
    done = setup_lab("status", "--json")
    status = json.loads(done.stdout)
    assert done.returncode == 0
    assert status["running"] is True
    assert {host["name"]: (host["state"], host["failed"]) for host in status["hosts"]} == {
        spec.name: ("running", []) for spec in lab.place.specs
    }


def test_status_is_a_table_for_people(lab: Lab) -> None:
    table = setup_lab("status").stdout
    assert "172.16.2.17" in table
    assert "running" in table


class TestExec:
    def test_passes_output_and_status_on(self, lab: Lab) -> None:
        done = setup_lab("exec", "gpu17", "sh", "-c", "hostname; echo wrong >&2; exit 7")
        assert (done.returncode, done.stdout, done.stderr) == (7, "gpu17\n", "wrong\n")

    def test_options_of_the_command_are_its_own(self, lab: Lab) -> None:
        assert setup_lab("exec", "gpu17", "echo", "--help", "-u").stdout == "--help -u\n"

    def test_environment_is_clean(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "of the outer machine")
        assert "SECRET" not in setup_lab("exec", "gpu17", "env").stdout

    def test_as_a_user_in_a_login_session(self, lab: Lab) -> None:
        script = "id -un; pwd; echo $HOME $0"
        done = setup_lab("exec", "-u", "lqchen", "laptop", "sh", "-c", script, "a b")
        assert done.stdout.splitlines() == ["lqchen", "/home/lqchen", "/home/lqchen a b"]

    def test_loads_little(self, lab: Lab) -> None:
        """What is loaded is what takes time: half of 0.1 s on an idle machine."""
        env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
        argv = [str(CHECKOUT / "setup/lab"), *(["--name", NAME] if NAME else [])]
        argv += ["exec", "gpu17", "true"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "laboratory.hosts" in loaded
        for heavy in ("rich", "pydantic", "git", "laboratory.lifecycle", "state.model"):
            assert heavy not in loaded

    def test_unknown_host_is_said_to_be_so(self) -> None:
        done = setup_lab("exec", "gpu99", "true")
        assert done.returncode == 1
        assert "gpu99" in done.stderr
        assert "gpu17" in done.stderr
        assert "Traceback" not in done.stderr


class TestHost:
    def test_run_raises_with_the_hosts_name(self, laptop: Host) -> None:
        with pytest.raises(LxcGpuError, match=r"On laptop, `sh` failed with status 3: oh no"):
            laptop.run(["sh", "-c", "echo oh no >&2; exit 3"])

    def test_write_read_and_push(self, laptop: Host, tmp_path: Path) -> None:
        laptop.write("/tmp/new folder/it's", "ä\n", 0o600, "lqchen:lqchen")
        assert laptop.read("/tmp/new folder/it's") == "ä\n"
        listed = laptop.run(["stat", "-c", "%a %U:%G", "/tmp/new folder/it's"]).stdout
        assert listed == "600 lqchen:lqchen\n"
        local = tmp_path / "script"
        local.write_bytes(b"#!/bin/sh\necho \xff pushed\n")
        local.chmod(0o755)
        laptop.push(local, "/tmp/script")
        assert laptop.run(["/tmp/script"]).stdout == "\\xff pushed\n"

    def test_takes_input_as_a_user(self, laptop: Host) -> None:
        assert laptop.run(["cat"], stdin="in\n", user="lqchen").stdout == "in\n"


class TestNetwork:
    @pytest.mark.parametrize("name", ["ldap", "iam", "gpu17", "gpu18"])
    def test_laptop_reaches_sshd_of_every_host_by_name(self, laptop: Host, name: str) -> None:
        for known_as in (name, f"{name}.mylab.com"):
            script = f"exec 3<>/dev/tcp/{known_as}/22; head -c 7 <&3"
            assert laptop.run(["timeout", "5", "bash", "-c", script]).stdout == "SSH-2.0"

    def test_there_is_no_way_out(self, laptop: Host) -> None:
        assert "default" not in laptop.run(["ip", "route"]).stdout
        done = laptop.run(["ping", "-c1", "-W1", "192.0.2.1"], check=False)
        assert "Network is unreachable" in done.stderr
        outside = run([*network.inside(laptop.place), "ip", "route"]).stdout.split()
        assert "default" not in outside

    def test_outer_machine_has_no_way_in(self, laptop: Host) -> None:
        assert "172.16.2." not in run(["ip", "route"]).stdout

    def test_ssh_from_the_outer_machine(self, lab: Lab) -> None:
        host = lab.host("laptop")
        key = lab.place.identity.with_suffix(".pub").read_text()
        host.write("/home/lqchen/.ssh/authorized_keys", key, 0o600, "lqchen:lqchen")
        options: list[str | Path] = [
            "-F",
            lab.place.ssh_config,
            "-o",
            "BatchMode=yes",
            "-o",
            "LogLevel=ERROR",
        ]
        try:
            for known_as in ("lqchen@laptop", "lqchen@172.16.2.100", "lqchen@laptop.mylab.com"):
                assert run(["ssh", *options, known_as, "hostname"]).stdout == "laptop\n"
        finally:
            host.run(["rm", "/home/lqchen/.ssh/authorized_keys"])

    def test_web_page_is_reached_through_the_loopback(self, lab: Lab) -> None:
        iam = lab.host("iam")
        if not iam.run(["ss", "-Htln", "sport = :80"]).stdout:
            pytest.skip("a bare lab has no web page")
        with urllib.request.urlopen(lab.web_url, timeout=20) as answer:
            assert answer.status == 200


class TestDirectory:
    def test_search_over_tls_with_the_labs_authority(self, lab: Lab) -> None:
        words = as_service(people.BASE_DN, "(uid=lqchen)", "cn", "memberOf")
        done = ldap(lab.host("ldap"), "ldapsearch", "-H", "ldaps://172.16.2.3", *words)
        assert done.returncode == 0, done.stderr
        assert f"dn: {people.LQCHEN.dn}" in done.stdout
        assert f"memberOf: {people.GROUP_DN}" in done.stdout

    def test_no_connection_without_the_authority(self, lab: Lab) -> None:
        words = as_service(people.BASE_DN)
        done = ldap(lab.host("ldap"), "ldapsearch", "-H", "ldaps://172.16.2.3", *words, ca=False)
        assert done.returncode != 0

    def test_starttls_with_everybodys_kind_of_password(self, lab: Lab) -> None:
        for person in (people.LQCHEN, people.CAROL, people.NO_POSIX_NAME, people.STUDENTS[59]):
            words = ("-ZZ", "-H", "ldap://172.16.2.3", "-D", person.dn, "-w", person.password)
            done = ldap(lab.host("ldap"), "ldapwhoami", *words)
            assert done.stdout.strip() == f"dn:{person.dn}", done.stderr

    def test_wrong_password_is_refused(self, lab: Lab) -> None:
        words = ("-ZZ", "-H", "ldap://172.16.2.3", "-D", people.ANN.dn, "-w", "wrong")
        assert "Invalid credentials" in ldap(lab.host("ldap"), "ldapwhoami", *words).stderr

    def test_empty_password_would_be_let_in(self, lab: Lab) -> None:
        words = ("-ZZ", "-H", "ldap://172.16.2.3", "-D", people.ANN.dn, "-w", "")
        assert ldap(lab.host("ldap"), "ldapwhoami", *words).stdout == "anonymous\n"

    def test_nobody_reads_anonymously(self, lab: Lab) -> None:
        words = ("-ZZ", "-H", "ldap://172.16.2.3", "-b", people.BASE_DN)
        assert "No such object" in ldap(lab.host("ldap"), "ldapsearch", *words).stdout

    def test_groups(self, lab: Lab) -> None:
        words = as_service(people.GROUPS_DN, "(objectClass=groupOfNames)", "member")
        done = ldap(lab.host("ldap"), "ldapsearch", "-H", "ldaps://172.16.2.3", *words)
        direct, nested = done.stdout.count(f",{people.PEOPLE_DN}\n"), people.NESTED_GROUP_DN
        assert direct == len([person for person in people.PEOPLE if person.member]) + 1
        assert f"member: {nested}" in done.stdout
        assert people.OUTSIDER.dn not in done.stdout


class TestFiles:
    def test_checkout_is_read_only_and_without_the_lab(self, lab: Lab) -> None:
        for name in ("iam", "gpu17", "gpu18"):
            host = lab.host(name)
            text = (CHECKOUT / "pyproject.toml").read_text()
            assert host.read("/usr/src/lxc-gpu/pyproject.toml") == text
            assert host.run(["ls", f"/usr/src/lxc-gpu/{lab.place.folder.name}"]).stdout == ""
            done = host.run(["touch", "/usr/src/lxc-gpu/x"], check=False)
            assert "Read-only file system" in done.stderr

    def test_template_is_a_system_without_secrets(self, lab: Lab) -> None:
        gpu17 = lab.host("gpu17")
        template = "/var/lib/lxc-gpu/templates/debian-12.tar.zst"
        names = set(gpu17.run(["tar", "-tf", template]).stdout.splitlines())
        assert {"./usr/sbin/sshd", "./usr/bin/sudo", "./etc/machine-id"} <= names
        assert not [name for name in names if "ssh_host_" in name or name == "./dev/null"]
        shadow = gpu17.run(["tar", "-xOf", template, "./etc/shadow"]).stdout
        assert [line.split(":")[1] for line in shadow.splitlines() if line.startswith("root:")] in (
            ["!*"],
            ["*"],
            ["!"],
        )
        assert gpu17.run(["tar", "-xOf", template, "./etc/machine-id"]).stdout == ""

    def test_folders_of_an_image_can_be_renamed(self, lab: Lab) -> None:
        lab.host("gpu18").sh(
            "mv /usr/share/zoneinfo /usr/share/z; mv /usr/share/z /usr/share/zoneinfo"
        )


class TestMishaps:
    def test_second_up_is_harmless_and_makes_nothing_again(self, lab: Lab) -> None:
        before = {
            h.name: h.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout for h in lab.made
        }
        url = lab.web_url
        done = setup_lab("up")
        assert done.returncode == 0, done.stderr
        assert not re.search(r"^\S+ (make|boot|network) ", done.stdout, re.M), done.stdout
        after = {h.name: h.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout for h in lab.made}
        assert after == before
        assert lab.web_url == url

    def test_two_labs_side_by_side(self, lab: Lab, small_lab: Lab) -> None:
        assert [host.name for host in small_lab.made] == ["laptop"]
        small_lab.host("laptop").write("/tmp/only-here", "x")
        done = lab.host("laptop").run(["cat", "/tmp/only-here"], check=False)
        assert done.status == 1
        unreachable = small_lab.host("laptop").run(["ping", "-c1", "-W1", "gpu17"], check=False)
        assert not unreachable.ok

    def test_down_leaves_nothing(self, lab: Lab) -> None:
        name = f"gone{os.getpid()}"
        place = places(name)
        assert setup_lab("up", "--hosts", "laptop,iam", name=name).returncode == 0
        port = int(Lab(place).web_url.rstrip("/").rpartition(":")[2])
        assert setup_lab("down", name=name).returncode == 0
        assert not list(CHECKOUT.glob(f"{place.folder.name}*"))
        assert not place.namespace_file.exists()
        assert not network.forwarder_runs(place)
        assert str(place.folder) not in Path("/proc/self/mountinfo").read_text()
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{place.cgroup}"))
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        assert lab.host("laptop").running
        again = setup_lab("down", name=name)
        assert again.returncode == 0, again.stderr

    @pytest.mark.parametrize("after", [0.15, 0.4, 0.7, 1.0])
    def test_killed_up_is_healed(self, after: float) -> None:
        name = f"killed{os.getpid()}"
        argv = [str(CHECKOUT / "setup/lab"), "--name", name, "up", "--hosts", "laptop,iam"]
        try:
            with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as killed:
                time.sleep(after)
                os.killpg(killed.pid, signal.SIGKILL)
            done = setup_lab("up", "--hosts", "laptop,iam", name=name)
            assert done.returncode == 0, done.stdout + done.stderr
            assert Lab(places(name)).host("laptop").run(["hostname"]).stdout == "laptop\n"
        finally:
            assert setup_lab("down", name=name).returncode == 0
        assert not network.forwarder_runs(places(name))

    def test_killed_monitor_is_healed(self, small_lab: Lab) -> None:
        laptop = small_lab.host("laptop")
        laptop.write("/home/lqchen/kept", "still here")
        group = f"{small_lab.place.cgroup}/laptop"
        before = cgroups.members(group)
        monitors = [n for n in before if _command(n).startswith("[lxc monitor]")]
        assert len(monitors) == 1
        os.kill(monitors[0], signal.SIGKILL)
        time.sleep(0.2)
        done = setup_lab("up", name=small_lab.place.folder.name.removeprefix(".lab-"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert laptop.read("/home/lqchen/kept") == "still here"
        assert not before & cgroups.members(group)

    def test_lost_network_is_healed(self, small_lab: Lab) -> None:
        run(["ip", "netns", "delete", small_lab.place.namespace])
        assert (
            setup_lab("up", name=small_lab.place.folder.name.removeprefix(".lab-")).returncode == 0
        )
        laptop = small_lab.host("laptop")
        assert laptop.run(["ping", "-c1", "-W1", "172.16.2.1"]).ok

    def test_only_own_forwarders_are_ended(self, small_lab: Lab) -> None:
        def sleeper(mark: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(["sleep", "60"], env={network.MARK: mark})

        own, other = sleeper(small_lab.place.id), sleeper("another lab's")
        network.stop_forwarder(small_lab.place)
        assert own.wait(HANGS) == -signal.SIGTERM
        assert other.poll() is None
        other.terminate()
        other.wait()

    def test_two_ups_at_once_take_turns(self) -> None:
        name = f"twice{os.getpid()}"
        argv = [str(CHECKOUT / "setup/lab"), "--name", name, "up", "--hosts", "laptop"]
        try:
            with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as first:
                second = setup_lab("up", "--hosts", "laptop", name=name)
                assert first.wait(HANGS) == 0
            assert second.returncode == 0, second.stderr
        finally:
            assert setup_lab("down", name=name).returncode == 0


class TestRelease:
    def test_machines_have_the_one_that_was_asked_for_and_keep_it(self) -> None:
        name = f"other{os.getpid()}"
        other = "bookworm" if own_release() == "trixie" else "trixie"
        try:
            done = setup_lab("up", "--hosts", "laptop", "--release", other, name=name)
            assert done.returncode == 0, done.stdout + done.stderr
            done = setup_lab("up", "--release", own_release(), name=name)
            assert done.returncode == 1
            assert f"laptop exists already, with Debian's release {other}" in done.stderr
            assert setup_lab("up", "--release", "", name=name).returncode == 0
            status = json.loads(setup_lab("status", "--json", name=name).stdout)
            (laptop,) = (host for host in status["hosts"] if host["state"] != "absent")
            assert (laptop["state"], laptop["release"]) == ("running", other)
            inside = setup_lab("exec", "laptop", "cat", "/etc/os-release", name=name).stdout
            assert f"VERSION_CODENAME={other}\n" in inside
        finally:
            assert setup_lab("down", name=name).returncode == 0

    def test_is_called_by_its_name(self) -> None:
        done = setup_lab("up", "--release", "../13")
        assert done.returncode == 2
        assert "e.g. trixie" in done.stderr


class TestTemplateScript:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["out.tar"], "OUTPUT must end in .tar.zst"),
            (["--nonsense", "out.tar.zst"], "unknown option --nonsense"),
            (["a.tar.zst", "b.tar.zst"], "only one OUTPUT"),
            (["debian-13.tar.zst"], "debian-13.tar.zst is not the name of a system of bookworm"),
            (["ubuntu-24.04.tar.zst"], "Say which release you want: --release"),
            (["--release", "nosuch", "out.tar.zst"], "`debootstrap` failed"),
            (["--hook", "/nowhere", "out.tar.zst"], "/nowhere"),
        ],
    )
    def test_says_what_is_wrong_and_leaves_nothing(
        self, tmp_path: Path, words: list[str], said: str
    ) -> None:
        done = subprocess.run(
            [str(CHECKOUT / "setup/template"), *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=5 * HANGS,
            check=False,
        )
        assert done.returncode != 0
        assert said in done.stderr
        assert not list(tmp_path.iterdir())


class TestProgress:
    def test_says_plainly_what_takes_long(self) -> None:
        out = io.StringIO()
        with ProgressLines(out) as progress:
            with progress.step("quick"):
                pass
            with progress.step("slow"):
                eventually(lambda: "... slow" in out.getvalue())
            with suppress(ValueError), progress.step("wrong"):
                raise ValueError
        lines = out.getvalue().splitlines()
        assert lines[0].startswith("- quick")
        assert lines[1] == "... slow"
        assert re.fullmatch(r"- slow \([0-9.]+ s\)", lines[2])
        assert lines[3] == "x wrong (FAILED)"
        assert "\033" not in out.getvalue()


def _command(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_lab_of_these_tests_has_the_asked_name(lab: Lab) -> None:
    assert lab.place == places(NAME)
