"""Public keys: what is taken, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.command import run
from state.model.keys import KEY_TYPES, PublicKey, parse_key
from tests.unit.state.keyring import ed25519, line, mpint, rsa, string

GOOD = ed25519("good", "lqchen@laptop")
comments = st.text(st.characters(exclude_categories=("C", "Z")), min_size=0, max_size=30)


@given(st.binary(min_size=1), comments)
def test_a_key_reads_back_what_it_was_written_as(seed: bytes, comment: str) -> None:
    key = ed25519(seed, comment)
    again = parse_key(str(key))
    assert again == key
    assert again.comment == comment
    assert str(again) == str(key)


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none()))
def test_anything_else_is_a_value_error(anything: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_key(anything)


@given(st.integers(0, 50), st.integers(0, 255))
def test_a_damaged_key_never_passes_for_another_type(at: int, byte: int) -> None:
    blob = bytearray(GOOD.blob)
    blob[at] = byte
    try:
        key = parse_key(line("ssh-ed25519", bytes(blob)))
    except ValueError:
        return
    assert key.blob[:15] == GOOD.blob[:15]


@pytest.mark.parametrize(
    ("kind", "size", "bits"),
    [("ed25519", "", 256), ("rsa", "2048", 2048), ("rsa", "3072", 3072)]
    + [("ecdsa", bits, int(bits)) for bits in ("256", "384", "521")],
)
def test_we_agree_with_ssh_keygen(tmp_path: Path, kind: str, size: str, bits: int) -> None:
    path = tmp_path / "key"
    sized = ["-b", size] if size else []
    run(["ssh-keygen", "-q", "-t", kind, *sized, "-N", "", "-C", "who on earth", "-f", path])
    text = path.with_suffix(".pub").read_text()
    key = parse_key(text)
    shown = run(["ssh-keygen", "-l", "-f", path.with_suffix(".pub")]).stdout.split()
    assert (key.bits, key.fingerprint) == (int(shown[0]), shown[1])
    assert key.bits == bits
    assert key.comment == "who on earth"
    assert str(key) == text.strip()
    with pytest.raises(ValueError, match="private key; never paste it") as caught:
        parse_key(path.read_text())
    assert path.read_text().splitlines()[1] not in str(caught.value)


def test_keys_in_security_keys_are_taken() -> None:
    ed = line(
        "sk-ssh-ed25519@openssh.com",
        string(b"sk-ssh-ed25519@openssh.com") + string(bytes(32)) + string(b"ssh:"),
        "yubi",
    )
    point = b"\x04" + bytes(64)
    name = b"sk-ecdsa-sha2-nistp256@openssh.com"
    ec = line(name.decode(), string(name) + string(b"nistp256") + string(point) + string(b"ssh:me"))
    assert [str(parse_key(each)) for each in (ed, ec)] == [ed, ec]
    assert {parse_key(each).bits for each in (ed, ec)} == {256}
    assert "security key" in parse_key(ed).strength


def test_blanks_and_line_ends_around_a_key_do_not_matter() -> None:
    kind, body, comment = str(GOOD).split(" ")
    assert str(parse_key(f"  {kind}\t {body}   {comment}\r\n")) == str(GOOD)
    assert parse_key(f"{kind} {body}").comment == ""
    assert parse_key(f"{kind} {body}  a  b ").comment == "a  b"


def test_the_comment_is_no_part_of_the_key() -> None:
    assert ed25519(1, "one") == ed25519(1, "two")
    assert len({ed25519(1, "one"), ed25519(1, "two"), ed25519(2, "one")}) == 2


BODY = str(GOOD).split(" ")[1]
ODD = (1 << 2047) + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("hello", "known key type"),
        (f'command="ls" {GOOD}', "options before the key"),
        (f'from="10.0.0.1",restrict {GOOD}', "options before the key"),
        (f"ssh-ed25519 {BODY[:40]}\n{BODY[40:]}", "several lines"),
        (BODY, "first word missing"),
        (BODY[:60], "first word missing"),
        ("ssh-ed25519", "missing"),
        (f"ssh-ed25519 {BODY[:-4]}", "cut off"),
        (f"ssh-ed25519 {BODY[:-1]}", "base64"),
        (f"ssh-ed25519 {BODY}=", "base64"),
        (f"ssh-ed25519 {BODY}é", "base64"),
        (f"ssh-rsa {BODY}", "another type"),
        (f"{GOOD}\x1b[31m", "control characters"),
        (f"{GOOD}\u202e", "control characters"),
        (f"{GOOD}\x00", "control characters"),
        (f"{GOOD}{'x' * 300}", "comment is longer"),
        ("ssh-dss AAAA", "too weak"),
        (f"ssh-ed25519-cert-v01@openssh.com {BODY}", "certificates"),
        (f"ssh-rsa-cert-v01@openssh.com {BODY}", "certificates"),
        (f"ssh-ed448 {BODY}", "known key type"),
        ("x" * 20_000_000, "longer than 16 KiB"),
        ("---- BEGIN SSH2 PUBLIC KEY ----", "ssh-keygen -i"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "never paste"),
        (str(rsa((1 << 1023) + 1)), "1024 bits is too weak"),
        (str(rsa((1 << 2046) + 1)), "2047 bits is too weak"),
        (str(rsa((1 << 16384) + 1)), "at most 16384"),
        (str(rsa(ODD, exponent=1)), "don't make an RSA key"),
        (str(rsa(ODD, exponent=4)), "don't make an RSA key"),
        (str(rsa(ODD + 1)), "don't make an RSA key"),
        (line("ssh-rsa", string(b"ssh-rsa") + mpint(3) + string(b"\xff" * 256)), "not positive"),
        (line("ssh-rsa", string(b"ssh-rsa") + mpint(3) + string(b"")), "not positive"),
        (line("ssh-rsa", string(b"ssh-rsa") + mpint(3) + string(b"\0\0\xff")), "not positive"),
        (line("ssh-rsa", string(b"ssh-rsa") + mpint(3)), "parts"),
        (line("ssh-ed25519", string(b"ssh-ed25519") + string(bytes(31))), "32 bytes"),
        (line("ssh-ed25519", GOOD.blob + string(b"more")), "parts"),
        (line("ssh-ed25519", GOOD.blob + b"\0"), "cut off"),
    ],
)
def test_what_is_refused_and_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_key(text)


@pytest.mark.parametrize(
    ("curve", "point", "said"),
    [
        (b"nistp384", b"\x04" + bytes(64), "curve"),
        (b"nistp256", b"\x04" + bytes(63), "point"),
        (b"nistp256", b"\x02" + bytes(32), "point"),
        (b"nistp256", b"", "point"),
    ],
)
def test_an_ecdsa_key_must_lie_on_its_curve(curve: bytes, point: bytes, said: str) -> None:
    name = b"ecdsa-sha2-nistp256"
    with pytest.raises(ValueError, match=said):
        parse_key(line(name.decode(), string(name) + string(curve) + string(point)))


def test_bytes_are_taken_if_they_are_text() -> None:
    assert parse_key(str(GOOD).encode()) == GOOD
    with pytest.raises(ValueError, match="UTF-8"):
        parse_key(b"ssh-ed25519 \xff")
    with pytest.raises(ValueError, match="line of text"):
        parse_key(22)


def test_every_type_has_a_size_and_a_strength() -> None:
    for kind in KEY_TYPES:
        key = rsa(ODD) if kind == "ssh-rsa" else PublicKey(kind, b"")
        assert key.bits >= 256
        assert key.strength
