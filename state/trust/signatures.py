"""Who signed a commit, or another text: ssh signatures, verified here, without a program.

`git verify-commit` starts two programs for each commit; a thousand take half a minute. What it
does is short: take the signature out of the commit (gitformat-signature(5)), and verify it over the
rest (OpenSSH's PROTOCOL.sshsig). No configuration, keyring or agent of this machine has a say.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from state.model.keys import PublicKey, parse_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

LONGEST_SIGNATURE = 16 * 1024
"""Bytes; one by an RSA key of 16384 bits takes 6,000."""
NAMESPACE = b"git"
"""What Git signs commits for: a signature of a file, or of a login, is no signature of a commit."""

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
        raise BadSignatureError("is no ssh signature (only those count)")
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

    verify = _VERIFIERS.get(signature.kind)
    if verify is None or signature.kind not in _KINDS_OF.get(signature.key.type, ()):
        raise BadSignatureError("is of an unknown kind")
    try:
        verify(signature, message)
    except BadSignatureError:
        raise
    except InvalidSignature:
        raise BadSignatureError("is of another text") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadSignatureError("is damaged") from None


def _ed25519(signature: Signature, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    _nothing_more(signature)
    raw = _strings(signature.key.blob)[1]
    Ed25519PublicKey.from_public_bytes(raw).verify(signature.body, message)


def _rsa(signature: Signature, message: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    _nothing_more(signature)
    exponent, modulus = (int.from_bytes(n, "big") for n in _strings(signature.key.blob)[1:3])
    algorithm: HashAlgorithm = hashes.SHA512()
    if signature.kind == b"rsa-sha2-256":
        algorithm = hashes.SHA256()
    size = (modulus.bit_length() + 7) // 8
    key = RSAPublicNumbers(exponent, modulus).public_key()
    key.verify(signature.body.rjust(size, b"\0"), message, PKCS1v15(), algorithm)


def _ecdsa(signature: Signature, message: bytes) -> None:
    _nothing_more(signature)
    _verify_point(signature, message)


def _sk_ed25519(signature: Signature, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    parts = _strings(signature.key.blob)
    signed = _by_security_key(parts[2], signature.extra, message)
    Ed25519PublicKey.from_public_bytes(parts[1]).verify(signature.body, signed)


def _sk_ecdsa(signature: Signature, message: bytes) -> None:
    parts = _strings(signature.key.blob)
    _verify_point(signature, _by_security_key(parts[3], signature.extra, message))


def _verify_point(signature: Signature, message: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    parts = _strings(signature.key.blob)
    curves: dict[bytes, tuple[ec.EllipticCurve, HashAlgorithm]] = {
        b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
        b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
        b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
    }
    curve, algorithm = curves[parts[1]]
    r, s = (int.from_bytes(number, "big") for number in _strings(signature.body))
    key = ec.EllipticCurvePublicKey.from_encoded_point(curve, parts[2])
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(algorithm))


def _by_security_key(application: bytes, extra: bytes, message: bytes) -> bytes:
    """What a security key really signed (OpenSSH's PROTOCOL.u2f)."""
    if len(extra) != 5:
        raise ValueError("flags and counter are missing")
    if not extra[0] & _PRESENT:
        raise BadSignatureError("was made without a touch of the security key")
    return hashlib.sha256(application).digest() + extra + hashlib.sha256(message).digest()


def _nothing_more(signature: Signature) -> None:
    if signature.extra:
        raise BadSignatureError("is damaged")


_VERIFIERS: dict[bytes, Callable[[Signature, bytes], None]] = {
    b"ssh-ed25519": _ed25519,
    b"rsa-sha2-256": _rsa,
    b"rsa-sha2-512": _rsa,
    b"ecdsa-sha2-nistp256": _ecdsa,
    b"ecdsa-sha2-nistp384": _ecdsa,
    b"ecdsa-sha2-nistp521": _ecdsa,
    b"sk-ssh-ed25519@openssh.com": _sk_ed25519,
    b"sk-ecdsa-sha2-nistp256@openssh.com": _sk_ecdsa,
}
_KINDS_OF = {
    **{kind.decode("ascii"): (kind,) for kind in _VERIFIERS if not kind.startswith(b"rsa")},
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
