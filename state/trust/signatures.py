"""Verifies ssh signatures of commits and other texts, without starting a program.

`git verify-commit` starts two programs for each commit; a thousand commits take half a minute. Its
work is short: take the signature out of the commit (gitformat-signature(5)), and verify it over the
rest (OpenSSH's PROTOCOL.sshsig). This machine's configuration, keyrings and agents don't matter.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass

from state.model.keys import KEY_TYPES, PublicKey, parse_key

LONGEST_SIGNATURE = 16 * 1024
"""Bytes; one by an RSA key of 16384 bits takes 6,000."""
NAMESPACE = b"git"
"""The namespace of commits: a signature of a file or of a login doesn't count for a commit."""

_MAGIC = b"SSHSIG"
_ARMOR = re.compile(
    rb"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)\n-----END SSH SIGNATURE-----\n?"
)
_PRESENT = 0x01
"""The flag by which a security key says that somebody touched it (U2F raw messages, 5.1)."""


class BadSignatureError(ValueError):
    """A signature that does not hold; the message ends the sentence "its signature ..."."""


@dataclass(frozen=True)
class Signature:
    """An ssh signature, taken apart."""

    key: PublicKey
    hash_name: bytes
    reserved: bytes
    kind: bytes
    """How it was made: the name of a signature algorithm."""
    body: bytes
    extra: bytes
    """What security keys add: flags and counter."""


def signed_by(payload: bytes, armored: bytes, namespace: bytes = NAMESPACE) -> PublicKey:
    """The key that made the signature `armored` of `payload`. BadSignatureError if none did."""
    signature = _taken_apart(armored, namespace)
    if signature.hash_name not in (b"sha256", b"sha512"):
        raise BadSignatureError("uses an unknown hash")
    digest = hashlib.new(signature.hash_name.decode("ascii"), payload).digest()
    fields = (namespace, signature.reserved, signature.hash_name, digest)
    _verify(signature, _MAGIC + b"".join(_string(each) for each in fields))
    return signature.key


def _taken_apart(armored: bytes, expected: bytes) -> Signature:
    found = _ARMOR.fullmatch(armored) if len(armored) <= LONGEST_SIGNATURE else None
    if found is None:
        raise BadSignatureError("isn't an ssh signature (only those count)")
    try:
        reader = _Reader(binascii.a2b_base64(found[1].replace(b"\n", b""), strict_mode=True))
    except binascii.Error:
        raise BadSignatureError("is damaged") from None
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != 1:
        raise BadSignatureError("is of an unknown version")
    blob, namespace, reserved, hash_name = (reader.string() for _ in range(4))
    inner = _Reader(reader.string())
    reader.end()
    kind, body = inner.string(), inner.string()
    if namespace != expected:
        raise BadSignatureError("was made for something else")
    return Signature(_key(blob), hash_name, reserved, kind, body, inner.rest())


def _key(blob: bytes) -> PublicKey:
    try:
        kind = _Reader(blob).string().decode("ascii")
        return parse_key(f"{kind} {b64encode(blob).decode('ascii')}")
    except ValueError as error:
        raise BadSignatureError(f"is by an unusable key ({error})") from None


def _verify(signature: Signature, message: bytes) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if signature.kind not in _KINDS_OF.get(signature.key.type, ()):
        raise BadSignatureError("is of an unknown kind")
    if signature.kind.startswith(b"sk-"):
        message = _by_security_key(signature.key.parts[-1], signature.extra, message)
    elif signature.extra:
        raise BadSignatureError("is damaged")
    try:
        _verify_by(signature, message)
    except InvalidSignature:
        raise BadSignatureError("is of another text") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadSignatureError("is damaged") from None


def _verify_by(signature: Signature, message: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    key = load_ssh_public_key(_without_security_key(signature.key))
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature.body, message)
    elif isinstance(key, RSAPublicKey):
        sha2 = hashes.SHA256() if signature.kind == b"rsa-sha2-256" else hashes.SHA512()
        key.verify(signature.body.rjust((key.key_size + 7) // 8, b"\0"), message, PKCS1v15(), sha2)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        hashed = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.key_size]
        r, s = (int.from_bytes(number, "big") for number in _strings(signature.body))
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashed))
    else:
        raise BadSignatureError("is of an unknown kind")


def _without_security_key(key: PublicKey) -> bytes:
    """The line of the bare key: cryptography refuses applications that don't begin with `ssh:`."""
    if not key.type.startswith("sk-"):
        return str(key).encode()
    kind = key.type.removeprefix("sk-").removesuffix("@openssh.com").encode()
    blob = b"".join(_string(part) for part in (kind, *key.parts[1:-1]))
    return kind + b" " + b64encode(blob)


def _by_security_key(application: bytes, extra: bytes, message: bytes) -> bytes:
    """What a security key really signed (OpenSSH's PROTOCOL.u2f)."""
    if len(extra) != 5:
        raise BadSignatureError("is damaged")  # flags and counter are missing
    if not extra[0] & _PRESENT:
        raise BadSignatureError("was made without a touch of the security key")
    return hashlib.sha256(application).digest() + extra + hashlib.sha256(message).digest()


_KINDS_OF = {
    **{kind: (kind.encode("ascii"),) for kind in KEY_TYPES},
    "ssh-rsa": (b"rsa-sha2-256", b"rsa-sha2-512"),
}
"""The signatures that a key of each type makes; `ssh-rsa`, by SHA-1, is not among them."""


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _strings(blob: bytes) -> list[bytes]:
    reader = _Reader(blob)
    found = []
    while not reader.done:
        found.append(reader.string())
    return found


class _Reader:
    """Reads numbers and strings as ssh writes them (RFC 4251 section 5)."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._content)

    def take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise BadSignatureError("is damaged")
        self._at += count
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def rest(self) -> bytes:
        return self.take(len(self._content) - self._at)

    def end(self) -> None:
        if not self.done:
            raise BadSignatureError("is damaged")
