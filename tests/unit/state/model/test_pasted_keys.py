"""Keys that somebody pastes: what is refused of what the state itself may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.command import run
from state.model.keys import PublicKey, parse_key
from state.model.pasted_keys import KeyProblemsError, parse_keys
from tests.unit.state.keyring import ed25519, line, mpint, rsa, string

GOOD = ed25519("good", "lqchen@laptop")
OTHER = ed25519("other", "lqchen@desktop")
MODULUS = (1 << 3071) + 1
ED25519 = b"ssh-ed25519"
EIGHTH = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
P256 = b"ecdsa-sha2-nistp256"


def _ed25519_of(point: bytes) -> str:
    return line(ED25519.decode(), string(ED25519) + string(point))


def test_a_pasted_text_may_hold_several_keys_and_notes() -> None:
    text = f"# mine\r\n{ed25519(1, 'a')}\r\n\n  \n{ed25519(2, 'b')}\n{ed25519(1, 'again')}\n"
    keys = parse_keys(text)
    assert keys == (ed25519(1), ed25519(2))
    assert [key.comment for key in keys] == ["a", "b"]
    assert parse_keys("\n# nothing\n") == ()


def test_every_bad_line_of_a_pasted_text_is_named() -> None:
    with pytest.raises(KeyProblemsError) as caught:
        parse_keys(f"nonsense\n{GOOD}\nssh-dss AAAA\n")
    assert [number for number, _ in caught.value.problems] == [1, 3]
    assert "line 3: DSA keys" in caught.value.message
    assert caught.value.code == "bad-key"


def test_a_pasted_private_key_is_refused_once_and_never_echoed() -> None:
    secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n-----END OPENSSH PRIVATE KEY-----\n"
    with pytest.raises(KeyProblemsError) as caught:
        parse_keys(f"{GOOD}\n{text}")
    assert [number for number, _ in caught.value.problems] == [2]
    assert secret not in str(caught.value)
    assert "never paste it" in caught.value.message


def test_megabytes_are_refused_quickly() -> None:
    with pytest.raises(KeyProblemsError):
        parse_keys("x\n" * 1_000_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{GOOD} {OTHER}", "two keys on one line"),
        (str(GOOD).split(" lqchen")[0] + str(OTHER), "two keys on one line"),
        (f"{GOOD}{OTHER}", "two keys on one line"),
        (f"{GOOD} {str(OTHER).split()[1]}", "a part of another key"),
        (f"\ufeff{GOOD}", r"zero width no-break space \(U\+FEFF\)"),
        (str(GOOD).replace("AAAA", "AAAA\u200b", 1), r"zero width space \(U\+200B\)"),
        (str(GOOD).replace(" ", "\u00a0", 1), r"no-break space \(U\+00A0\)"),
        (f"{GOOD}\u202e", r"right-to-left override \(U\+202E\)"),
        (f"{GOOD}\0", r"a control character \(U\+0000\)"),
        (_ed25519_of(bytes(32)), "no private key can fit it"),
        (_ed25519_of(b"\1" + bytes(31)), "no private key can fit it"),
        (_ed25519_of(bytes.fromhex(EIGHTH)), "no private key can fit it"),
        (_ed25519_of(b"\2" + bytes(31)), "no private key can fit it"),
        (_ed25519_of(b"\xff" * 32), "no private key can fit it"),
        (line(P256.decode(), string(P256) + string(b"nistp256") + string(b"\4" + b"\1" * 64)),
         "no private key can fit it"),
        (line("ssh-rsa", string(b"ssh-rsa") + mpint((1 << 2000) + 1) + mpint(MODULUS)),
         "no private key can fit it"),
    ],
)  # fmt: skip
def test_what_no_key_of_a_person_is_like_is_named(text: str, said: str) -> None:
    with pytest.raises(KeyProblemsError, match=said):
        parse_keys(text)


def test_what_stands_in_the_state_is_read_all_the_same() -> None:
    """Or an upgrade would make a state invalid, and no key would be revoked any more."""
    assert parse_key(_ed25519_of(bytes(32))).bits == 256
    assert parse_key(f"{GOOD} {OTHER}").comment.endswith(str(OTHER))


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_keys_that_ssh_keygen_makes_are_possible(tmp_path: Path, kind: str) -> None:
    for each in range(3):
        path = tmp_path / f"key{each}"
        run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "who on earth", "-f", path])
        (key,) = parse_keys(path.with_suffix(".pub").read_text())
        assert isinstance(key, PublicKey)


def test_people_may_be_called_what_they_are_called() -> None:
    (key,) = parse_keys(f"{GOOD} von Jürgen 李")
    assert key.comment == "lqchen@laptop von Jürgen 李"
    assert parse_keys(str(rsa(MODULUS)))
