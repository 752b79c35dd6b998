"""The account `iam` of a server: the web page's key has it run rounds, and nothing else."""

from __future__ import annotations

import json

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import Fleet


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
