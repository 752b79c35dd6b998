"""The account `register`: a key registers its owner, and nobody else."""

from __future__ import annotations

import shlex

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import Fleet

REGISTER = "/usr/local/lib/lxc-gpu/register"


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
