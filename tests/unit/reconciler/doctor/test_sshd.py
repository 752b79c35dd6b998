"""Whom sshd lets in, where it listens, and which line is to blame: by what real sshds print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.doctor.sshd import files as sshd_files
from reconciler.doctor.sshd import in_effect as sshd
from reconciler.doctor.sshd import place as sshd_place
from reconciler.doctor.sshd.access import SshdRefusal, SshLogin, fits, names, refusal
from reconciler.doctor.sshd.files import ConfigLine
from state.wire.findings import Level

ALICE = SshLogin("alice", frozenset({"alice", "lxc-gpu-users"}), "172.16.2.9")
OURS, SITE = (f"/etc/ssh/sshd_config.d/{name}.conf" for name in ("20-lxc-gpu", "10-site"))
PIECE = ConfigLine(OURS, 1, "match", "Group lxc-gpu-users", in_match=True)
ACCOUNT = sshd.SshdAccount("alice", ALICE.groups, sshd.USERS, ("172.16.2.17", sshd.OUTSIDE))
RIGHT = "".join(f"{name} {value}\n" for name, value in sshd.USERS.items())


class TestAccess:
    @pytest.mark.parametrize(
        ("pattern", "named"),
        [
            ("alice", True), ("a*e", True), ("?????", True), ("*", True), ("bob", False),
            ("Alice", False), ("[a]lice", False), ("alic", False), ("alice,bob", False),
            ("!alice", False), ("!bob", False),  # sshd negates hosts only
            ("alice@172.16.2.9", True), ("*@172.16.*", True), ("alice@172.16.0.0/16", True),
            ("alice@10.0.0.0/8", False), ("bob@172.16.2.9", False), ("alice@gpu17", False),
            ("alice@!172.16.2.9,172.16.*", False), ("alice@172.16.*,!172.16.3.0/24", True),
            ("alice@!10.0.0.1", False), ("alice@10.0.0.1,172.16.2.?", True),
        ],
    )  # fmt: skip
    def test_who_is_named(self, pattern: str, named: bool) -> None:
        assert names(pattern, ALICE) is named

    @pytest.mark.parametrize(
        ("shown", "refused"),
        [
            ("port 22\n", None),
            ("allowusers bob\nallowusers alice\n", None),
            ("allowusers bob\nallowusers carol\n", SshdRefusal("AllowUsers", ("bob", "carol"))),
            (
                "denyusers bob\ndenyusers al*\nallowusers alice\n",
                SshdRefusal("DenyUsers", ("al*",)),
            ),
            ("allowgroups x\n", SshdRefusal("AllowGroups", ("x",))),
            ("allowgroups x\nallowgroups lxc-*\n", None),
            ("denygroups lxc-*\nallowgroups alice\n", SshdRefusal("DenyGroups", ("lxc-*",))),
            ("allowusers bob\ndenygroups alice\n", SshdRefusal("AllowUsers", ("bob",))),
            ("allowgroups !x\n", SshdRefusal("AllowGroups", ("!x",))),
        ],
    )
    def test_in_the_order_of_sshd(self, shown: str, refused: SshdRefusal | None) -> None:
        assert refusal(shown, ALICE) == refused

    def test_nothing_but_stars_and_question_marks_is_special(self) -> None:
        assert fits("a.b*", "a.bc")
        assert not fits("a.b*", "axbc")


class TestFiles:
    @pytest.fixture
    def main(self, tmp_path: Path) -> Path:
        pieces = tmp_path / "d"
        pieces.mkdir()
        (pieces / "20-lxc-gpu.conf").write_text("Match User iam\n    ForceCommand x\nMatch all\n")
        (pieces / "10-site.conf").write_text("\nallowusers=alice bob # no more\n")
        file = tmp_path / "sshd_config"
        file.write_text(f"# first\nInclude {pieces}/*.conf\nPort 22\nMatch all\n  UseDNS yes\n")
        return file

    def test_lines_come_in_the_order_of_sshd(self, main: Path) -> None:
        found = [(Path(li.file).name, li.number, li.keyword, li.value) for li in read(main)]
        assert found[1:3] == [
            ("10-site.conf", 2, "allowusers", "alice bob"),
            ("20-lxc-gpu.conf", 1, "match", "User iam"),
        ]
        assert found[-1] == ("sshd_config", 5, "usedns", "yes")
        assert [li.keyword for li in read(main) if li.in_match and not li.ours] == [
            "match",
            "usedns",
        ]

    def test_files_that_include_themselves_end(self, tmp_path: Path) -> None:
        file = tmp_path / "sshd_config"
        file.write_text(f"Include {file}\n")
        assert len(read(file)) == sshd_files.DEEPEST + 1

    def test_who_is_to_blame(self) -> None:
        site = ConfigLine(SITE, 2, "forcecommand", "/bin/sh", in_match=True)
        first = sshd_files.setting(
            [ConfigLine(SITE, 1, "forcecommand", "other", True), site, PIECE],
            "forcecommand",
            "/bin/sh",
            "lxc-gpu",
        )
        assert first.startswith(f"{SITE} is read before {OURS}: take line 2 out of it")
        behind = sshd_files.setting(
            [PIECE, ConfigLine("/etc/ssh/sshd_config", 9, "pubkeyauthentication", "no", False)],
            "pubkeyauthentication",
            "no",
            "yes",
        )
        assert behind.startswith("Take `pubkeyauthentication no` out of /etc/ssh/sshd_config:9")
        assert "setup/gpu-server" in sshd_files.setting([PIECE], "forcecommand", "none", "lxc-gpu")


def read(main: Path) -> tuple[ConfigLine, ...]:
    return sshd_files.read(main)


class TestAccounts:
    def test_what_is_right_and_what_is_not(self) -> None:
        assert list(sshd.troubles(RIGHT, ACCOUNT, "192.0.2.1", [PIECE])) == []
        (found,) = sshd.troubles(
            RIGHT.replace("forcecommand lxc-gpu\n", ""), ACCOUNT, "192.0.2.1", [PIECE]
        )
        assert found.text == "sshd has forcecommand '-', not 'lxc-gpu'."

    def test_a_refusal_names_the_line(self) -> None:
        site = ConfigLine(SITE, 3, "allowusers", "bob carol", in_match=False)
        shown = f"{RIGHT}allowusers bob\nallowusers carol\n"
        (found,) = sshd.troubles(shown, ACCOUNT, "192.0.2.1", [site, PIECE])
        assert found.text == (
            f"sshd refuses every key: `AllowUsers bob carol` ({SITE}:3) doesn't name them."
        )
        assert found.hint.startswith(
            f"In {SITE}:3, let groups in instead: AllowGroups with lxc-gpu-"
        )

    def test_users_that_sshd_cannot_tell_apart_are_asked_about_once(self) -> None:
        many = [replace(ACCOUNT, name=f"user{number}") for number in range(500)]
        lines = [PIECE, ConfigLine(SITE, 1, "match", "User user7,root Address 10.0.0.0/8", True)]
        assert len({sshd.sort_of(account, [PIECE]) for account in many}) == 1
        assert len({sshd.sort_of(account, lines) for account in many}) == 2
        lines += [ConfigLine(SITE, 2, "denyusers", "user1?@10.*", False)]
        assert len({sshd.sort_of(account, lines) for account in many}) == 3


class TestPlace:
    BOTH = "listenaddress [::]:22\nlistenaddress 0.0.0.0:22\n"

    def test_where_people_ask(self) -> None:
        for shown in (self.BOTH, "listenaddress 172.16.2.17:22\n", ""):
            assert sshd_place.listening(shown, "172.16.2.17", 22, "gpu17", ()) is None

    def test_another_port(self) -> None:
        line = ConfigLine(SITE, 1, "port", "2222", in_match=False)
        shown = self.BOTH.replace(":22\n", ":2222\n")
        found = sshd_place.listening(shown, "172.16.2.17", 22, "gpu17", [line])
        assert found is not None
        assert found.hint.startswith(f"Take `Port 2222` out of {SITE}:1; ")
        assert "`ssh_port: 2222` in servers/gpu17.yaml" in found.hint
        assert sshd_place.listening(shown, "172.16.2.17", 2222, "gpu17", [line]) is None

    @pytest.mark.parametrize("only", ["127.0.0.1", "[::]", "172.16.3.17"])
    def test_another_address(self, only: str) -> None:
        line = ConfigLine(SITE, 1, "listenaddress", only, in_match=False)
        found = sshd_place.listening(f"listenaddress {only}:22\n", "172.16.2.17", 22, "x", [line])
        assert found is not None
        assert f"`ListenAddress {only}` ({SITE}:1)" in found.hint

    @pytest.mark.parametrize(
        ("said", "level", "word"),
        [
            ("iam@172.16.2.17: Permission denied (publickey).\r\n", Level.OK, "answers"),
            ("iam@x: Permission denied (publickey,password).", Level.WRONG, "publickey,password"),
            ("Host key verification failed.", Level.WRONG, "another ssh host key"),
            ("ssh: connect to host x port 22: Connection refused", Level.WRONG, "refused"),
            ("kex_exchange_identification: Connection reset by peer", Level.WRONG, "reset"),
            ("", Level.WRONG, "no message"),
        ],
    )
    def test_what_ssh_said(self, said: str, level: Level, word: str) -> None:
        found = sshd_place.answer(said, "172.16.2.17, port 22", "gpu17")
        assert found.level is level
        assert word in found.text

    def test_who_may_be_punished_for_others(self) -> None:
        shown = "persourcepenalties crash:90\npersourcepenaltyexemptlist 172.16.2.2,172.16.2.17\n"
        assert list(sshd_place.punished(shown, ["172.16.2.17"])) == []
        (found,) = sshd_place.punished(shown, ["172.16.2.17", "172.16.2.18"])
        assert "172.16.2.18" in found.text
        assert list(sshd_place.punished("port 22\n", ["172.16.2.18"])) == [], "before OpenSSH 9.8"
        off = "persourcepenalties no\npersourcepenaltyexemptlist none\n"
        assert list(sshd_place.punished(off, ["172.16.2.18"])) == []
