"""What opens an account, and whether a connection would still be opened like that."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.kinds.keys.authorized_keys import host_lines
from reconciler.kinds.keys.register_keys import user_lines
from state.connections.keys import Keys, Opened, keys_in, lines_of

ONE, TWO = "ssh-ed25519 AAAAone", "sk-ssh-ed25519@openssh.com AAAAtwo/+="
REGISTER = "/usr/local/lib/lxc-gpu/register"


def test_lines_of_the_kinds_that_write_them() -> None:
    assert set(lines_of(host_lines([ONE, TWO]))) == {("", ONE), ("", TWO)}
    lines = "\n".join(user_lines("lqchen", [ONE]))
    assert set(lines_of(lines)) == {(f"{REGISTER} lqchen", ONE)}
    assert set(lines_of(f"restrict,pty {ONE} a comment, of words\n")) == {("", ONE)}


@pytest.mark.parametrize("line", ["", "# " + ONE, ONE, f"{ONE} me@laptop", 'command="x ' + ONE])
def test_lines_of_another_form_open_nothing(line: str) -> None:
    assert not {key for _, key in lines_of(line)} & {ONE, TWO}


def test_a_file_that_is_gone_opens_nothing(tmp_path: Path) -> None:
    keys = keys_in(tmp_path / "none")
    assert not Opened(frozenset({ONE}), began=1e12).stands(keys)
    assert not Opened(began=1e12).stands(keys)


@pytest.mark.parametrize(
    ("opened", "stands"),
    [
        (Opened(frozenset({ONE}), began=1), True),
        (Opened(frozenset({TWO}), began=1), False),
        (Opened(frozenset({ONE, TWO}), began=1), False),
        (Opened(began=1), False),
        (Opened(began=2), False),
        (Opened(began=3), True),
    ],
)
def test_unknown_is_revoked_unless_younger_than_the_keys(opened: Opened, stands: bool) -> None:
    assert opened.stands(Keys(frozenset({("", ONE)}), changed=2)) is stands


@pytest.mark.parametrize(
    ("running", "stands"),
    [
        (f"/usr/bin/python3 -IS {REGISTER} lqchen", True),
        (f"/bin/sh -c {REGISTER} lqchen", True),
        (f"/usr/bin/python3 -IS {REGISTER} ann", False),
        (f"/usr/bin/python3 -IS {REGISTER} mylqchen", False),
    ],
)
def test_for_register_key_and_owner_must_match(running: str, stands: bool) -> None:
    keys = Keys(frozenset({(f"{REGISTER} lqchen", ONE), (f"{REGISTER} ann", TWO)}), changed=2)
    assert Opened(frozenset({ONE}), 1, running).stands(keys) is stands
