"""Public keys for tests: well-formed, made of given bytes, nobody's."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from state.model.keys import PublicKey


def string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def ed25519(seed: object, comment: str = "") -> PublicKey:
    body = hashlib.sha256(repr(seed).encode()).digest()
    return PublicKey("ssh-ed25519", string(b"ssh-ed25519") + string(body), comment)


def rsa(modulus: int, exponent: int = 65537, comment: str = "") -> PublicKey:
    blob = string(b"ssh-rsa") + mpint(exponent) + mpint(modulus)
    return PublicKey("ssh-rsa", blob, comment)


def line(kind: str, blob: bytes, comment: str = "") -> str:
    return f"{kind} {b64encode(blob).decode()} {comment}".strip()
