"""Public keys for tests: well-formed, made of given bytes."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from state.model.keys import PublicKey


def string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def ed25519(seed: object, comment: str = "") -> PublicKey:
    secret = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(repr(seed).encode()).digest())
    body = secret.public_key().public_bytes_raw()
    return PublicKey("ssh-ed25519", string(b"ssh-ed25519") + string(body), comment)


def rsa(modulus: int, exponent: int = 65537, comment: str = "") -> PublicKey:
    blob = string(b"ssh-rsa") + mpint(exponent) + mpint(modulus)
    return PublicKey("ssh-rsa", blob, comment)


def line(kind: str, blob: bytes, comment: str = "") -> str:
    return f"{kind} {b64encode(blob).decode()} {comment}".strip()
