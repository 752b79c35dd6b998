"""The root helper: who may ask it for what; nobody holds it up or takes another's place."""

from __future__ import annotations

import json
import shlex
import time

import pytest
from laboratory.hosts import Host

from tests.patience import eventually

SOCKET = "/run/lxc-gpu/root.sock"
ASK = """
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.settimeout(25); s.connect("/run/lxc-gpu/root.sock")
exec(sys.argv[1])
while part := s.recv(65536):
    sys.stdout.write(part.decode())
"""
"""Talks to the root helper as any program of a user can."""


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
