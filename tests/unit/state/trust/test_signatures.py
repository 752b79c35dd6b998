"""Signatures of commits: what Git and ssh-keygen make, and what a forger might."""

from __future__ import annotations

import hashlib
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from state.model.keys import PublicKey
from state.trust.lineage import BadCommitError, commits, parse_commit
from state.trust.signatures import BadSignatureError, signed_by
from tests.unit.state.keyring import string
from tests.unit.state.workshop import Workshop, make_key


def sshsig(key: Path, payload: bytes, namespace: str = "git", *options: str) -> bytes:
    """What ssh-keygen, as Git runs it, prints."""
    words = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key), *options]
    return subprocess.run(words, input=payload, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "kind", ["ed25519", "rsa", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 2048"]
)
def test_what_ssh_keygen_signs_is_verified(tmp_path: Path, kind: str) -> None:
    name, *options = kind.split()
    words = ["ssh-keygen", "-q", "-t", name, *options, "-N", "", "-f", str(tmp_path / "k")]
    subprocess.run(words, check=True)
    payload = b"tree 0\n\nmessage\n"
    for choice in ((), ("-O", "hashalg=sha256")):
        armored = sshsig(tmp_path / "k", payload, "git", *choice)
        key = signed_by(payload, armored)
        assert str(key) == " ".join((tmp_path / "k.pub").read_text().split()[:2])
        with pytest.raises(BadSignatureError, match="is of another text"):
            signed_by(payload + b" ", armored)


def test_commits_of_git_are_verified_as_git_verifies_them(tmp_path: Path) -> None:
    shop = Workshop.open(tmp_path)
    for kind in ("ed25519", "rsa", "ecdsa"):
        shop.key(kind, kind)
        shop.commit(kind, {"a": kind}, "Ünïcode\n\nbody\n\n-----BEGIN SSH SIGNATURE-----")
    shop.commit(None, {"a": "unsigned"})
    revisions = shop.git("rev-list", "HEAD").split()
    unsigned, *signed = commits(shop.repository.git, revisions)
    assert unsigned.signature is None
    found = [signed_by(c.payload, c.signature or b"") for c in signed]
    assert found == [shop.key(kind) for kind in ("ecdsa", "rsa", "ed25519")]
    allowed = tmp_path / "allowed"
    allowed.write_text("".join(f"* {key}\n" for key in shop.keys.values()))
    shop.git("-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", *revisions[1:])


def by_security_key(payload: bytes, flags: int, application: bytes = b"ssh:") -> bytes:
    """A signature as an ed25519 security key makes it (OpenSSH's PROTOCOL.u2f), by hand."""
    private = Ed25519PrivateKey.generate()
    kind = b"sk-ssh-ed25519@openssh.com"
    blob = string(kind) + string(private.public_key().public_bytes_raw()) + string(application)
    head = string(b"git") + string(b"") + string(b"sha512")
    message = b"SSHSIG" + head + string(hashlib.sha512(payload).digest())
    extra = bytes([flags]) + (7).to_bytes(4, "big")
    over = hashlib.sha256(application).digest() + extra + hashlib.sha256(message).digest()
    inner = string(kind) + string(private.sign(over)) + extra
    return armor(b"SSHSIG" + (1).to_bytes(4, "big") + string(blob) + head + string(inner))


def armor(content: bytes) -> bytes:
    text = b64encode(content)
    lines = b"\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return b"-----BEGIN SSH SIGNATURE-----\n" + lines + b"\n-----END SSH SIGNATURE-----\n"


def test_a_security_key_must_have_been_touched(tmp_path: Path) -> None:
    armored = by_security_key(b"payload", 0x01)
    assert signed_by(b"payload", armored).type == "sk-ssh-ed25519@openssh.com"
    (tmp_path / "signature").write_bytes(armored)
    done = subprocess.run(  # OpenSSH thinks the same of the one made by hand
        ["ssh-keygen", "-Y", "check-novalidate", "-n", "git", "-s", tmp_path / "signature"],
        input=b"payload",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(BadSignatureError, match="without a touch"):
        signed_by(b"payload", by_security_key(b"payload", 0x00))
    with pytest.raises(BadSignatureError, match="of another text"):
        signed_by(b"other", armored)


@pytest.mark.parametrize(
    ("armored", "why"),
    [
        (b"", "isn't an ssh signature"),
        (
            b"-----BEGIN PGP SIGNATURE-----\nAAAA\n-----END PGP SIGNATURE-----",
            "isn't an ssh signature",
        ),
        (armor(b""), "isn't an ssh signature"),
        (armor(b"SSHSIG"), "damaged"),
        (armor(b"SSHSIG\0\0\0\x02"), "unknown version"),
        (armor(b"SSHSIG\0\0\0\x01\xff\xff\xff\xff"), "damaged"),
        (armor(b"x" * 20_000), "isn't an ssh signature"),
    ],
)
def test_what_is_no_signature(armored: bytes, why: str) -> None:
    with pytest.raises(BadSignatureError, match=why):
        signed_by(b"payload", armored)


def test_a_signature_for_something_else_does_not_count(tmp_path: Path) -> None:
    make_key(tmp_path / "k")
    with pytest.raises(BadSignatureError, match="for something else"):
        signed_by(b"payload", sshsig(tmp_path / "k", b"payload", "file"))


def test_no_byte_of_a_signature_can_be_changed(tmp_path: Path) -> None:
    key = make_key(tmp_path / "k")
    text = sshsig(tmp_path / "k", b"payload")
    from binascii import a2b_base64

    raw = a2b_base64(b"".join(text.splitlines()[1:-1]))
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(BadSignatureError):
            assert signed_by(b"payload", armor(changed)) != key
    with pytest.raises(BadSignatureError):
        signed_by(b"payload", armor(raw + b"\0"))


def test_a_weak_or_unknown_key_is_none() -> None:
    for kind, body in ((b"ssh-dss", b"x"), (b"ssh-ed25519", b"short"), (b"\xff", b"")):
        blob = string(kind) + string(body)
        content = b"SSHSIG\0\0\0\x01" + string(blob) + string(b"git") + string(b"")
        content += string(b"sha512") + string(string(kind) + string(b"s"))
        with pytest.raises(BadSignatureError, match="unusable key"):
            signed_by(b"payload", armor(content))


HEAD = b"tree " + b"a" * 40 + b"\nauthor A <a@b> 0 +0000\ncommitter C <c@d> 0 +0000\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEAD,
        b"parent " + b"b" * 40 + b"\n" + HEAD + b"\nm",
        HEAD.replace(b"tree a", b"tree  ") + b"\nm",
        HEAD + b"gpgsig one\ngpgsig two\n\nm",
        HEAD + b"gpgsig-sha256 one\n\nm",
        HEAD + b"gpgsig one\nx y\ngpgsig two\n\nm",
    ],
)
def test_odd_commits_are_refused(content: bytes) -> None:
    with pytest.raises(BadCommitError):
        parse_commit("c" * 40, content)


def test_a_carriage_return_ends_no_header() -> None:
    odd = HEAD + b"x y\rgpgsig z\n\nm"
    commit = parse_commit("c" * 40, odd)
    assert (commit.signature, commit.payload) == (None, odd)
    assert PublicKey("t", b"").comment == ""
