"""OpenSSH public keys: one line of a `.pub` file, taken apart and judged.

Everything that a person pastes passes through here, so every message is for that person. A line
is decoded down to its numbers (RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4,
OpenSSH's PROTOCOL.u2f), because sshd skips a broken line in silence.
Standard library only.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field

LONGEST_LINE = 16 * 1024
"""Characters; an RSA key of 16384 bits, OpenSSH's largest, takes 2.8 thousand."""
LONGEST_COMMENT = 200

PRIVATE = re.compile(r"PRIVATE KEY|PuTTY-User-Key-File|OPENSSH PRIVATE|openssh-key-v1")
PRIVATE_MESSAGE = "that is a private key; never paste it; give the .pub file"
_FOLDED = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")
_SMALLEST_RSA = 2048
_LARGEST_RSA = 16384


@dataclass(frozen=True)
class PublicKey:
    """A public key. Two are equal if they are the same key, whatever their comments say."""

    type: str
    blob: bytes
    """The key itself, as it goes over the wire (RFC 4253 section 6.6)."""
    comment: str = field(default="", compare=False)

    def __str__(self) -> str:
        words = (self.type, b64encode(self.blob).decode("ascii"), self.comment)
        return " ".join(word for word in words if word)

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` prints: SHA256 and base64 without padding."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + b64encode(digest).decode("ascii").rstrip("=")

    @property
    def parts(self) -> tuple[bytes, ...]:
        """What it consists of, the type first."""
        return _fields(self.blob)

    @property
    def bits(self) -> int:
        """The size of the key in bits, as `ssh-keygen -l` counts it."""
        if self.type == "ssh-rsa":
            return int.from_bytes(self.parts[2], "big").bit_length()
        return _BITS[self.type]

    @property
    def strength(self) -> str:
        """How good the key is, in a few words for its owner."""
        if self.type.startswith("sk-"):
            return "strong, kept in a security key"
        if self.type == "ssh-rsa":
            return "good" if self.bits >= 3072 else "fair: an ed25519 key is stronger"
        return "strong" if self.type == "ssh-ed25519" else "good"


def parse_key(line: object) -> PublicKey:
    """The key in one line of a `.pub` file. ValueError, worded for people, if it holds none."""
    text = _line(line)
    first, _, rest = text.partition(" ")
    if first not in _BODIES:
        raise ValueError(_why_not(first, rest))
    body, _, comment = rest.strip().partition(" ")
    blob = _decoded(body)
    parts = _fields(blob)
    if parts[0] != first.encode("ascii"):
        raise ValueError(f"the line says {first}, but the key in it is of another type")
    _BODIES[first](parts)
    return PublicKey(first, blob, _comment(comment))


def _line(line: object) -> str:
    """`line` as one line of text, its blanks made single around the key."""
    if isinstance(line, bytes):
        try:
            line = line.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it is not text (UTF-8)") from None
    if not isinstance(line, str):
        raise ValueError("a public key is a line of text")
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it is longer than {LONGEST_LINE // 1024} KiB; no public key is")
    if PRIVATE.search(line):
        raise ValueError(PRIVATE_MESSAGE)
    text = line.strip()
    if not text:
        raise ValueError("it is empty")
    if text.startswith("---- BEGIN SSH2 PUBLIC KEY"):
        raise ValueError("that is the format of another program; convert it: ssh-keygen -i -f FILE")
    if "\n" in text or "\r" in text:
        raise ValueError("it is broken over several lines; a public key is one line")
    return re.sub(r"[ \t]+", " ", text, count=2)


def _why_not(first: str, rest: str) -> str:
    """Why a line that begins with the word `first` isn't a key that we take."""
    if first.removesuffix("@openssh.com").endswith(("-cert-v01", "-cert-v00")):
        return "certificates are not accepted; give the plain public key"
    if first in ("ssh-dss", "ssh-dsa"):
        return "DSA keys (ssh-dss) are too weak; make one with `ssh-keygen -t ed25519`"
    if any(kind in f" {rest}" for kind in (*(f" {t} " for t in _BODIES), " ssh-dss ")):
        return "it has options before the key; give the key alone, from its type on"
    if _FOLDED.fullmatch(first):
        return "it does not begin with a key type; is the line broken, or its first word missing?"
    return "it does not begin with a known key type, such as ssh-ed25519"


def _decoded(body: str) -> bytes:
    try:
        blob = binascii.a2b_base64(body.encode("ascii"), strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are ValueErrors
        raise ValueError("the key is damaged or cut off (not valid base64)") from None
    if b64encode(blob).decode("ascii") != body:
        raise ValueError("the key is damaged or cut off (not valid base64)")
    return blob


def _fields(blob: bytes) -> tuple[bytes, ...]:
    """The length-prefixed strings that `blob` consists of (RFC 4251 section 5, `string`)."""
    parts: list[bytes] = []
    at = 0
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        if at + 4 > len(blob) or end > len(blob):
            raise ValueError("the key is cut off")
        parts.append(blob[at + 4 : end])
        at = end
    if not parts:
        raise ValueError("the key is missing after its type")
    return tuple(parts)


def _comment(text: str) -> str:
    text = text.strip()
    if not all(c.isprintable() for c in text):
        raise ValueError("the comment holds control characters")
    if len(text) > LONGEST_COMMENT:
        raise ValueError(f"the comment is longer than {LONGEST_COMMENT} characters")
    return text


def _expect(parts: tuple[bytes, ...], count: int) -> None:
    if len(parts) != count:
        raise ValueError("the key is damaged (it has too many or too few parts)")


def _check_ed25519(parts: tuple[bytes, ...]) -> None:
    _expect(parts, 2)
    if len(parts[1]) != 32:
        raise ValueError("the key is damaged (an ed25519 key has 32 bytes)")


def _check_rsa(parts: tuple[bytes, ...]) -> None:
    _expect(parts, 3)
    exponent, modulus = _positive(parts[1]), _positive(parts[2])
    if exponent < 3 or exponent % 2 == 0 or modulus % 2 == 0:
        raise ValueError("the key is damaged (its numbers don't make an RSA key)")
    if modulus.bit_length() < _SMALLEST_RSA:
        raise ValueError(
            f"an RSA key of {modulus.bit_length()} bits is too weak (at least {_SMALLEST_RSA});"
            " make one with `ssh-keygen -t ed25519`"
        )
    if modulus.bit_length() > _LARGEST_RSA:
        raise ValueError(f"an RSA key may have at most {_LARGEST_RSA} bits")


def _positive(number: bytes) -> int:
    """The value of a positive `mpint` (RFC 4251 section 5) in its one shortest form."""
    if not number or number[0] >= 0x80 or (number[0] == 0 and (number[1:2] or b"\0") < b"\x80"):
        raise ValueError("the key is damaged (a number in it is not positive)")
    return int.from_bytes(number, "big")


def _check_point(curve: bytes, point: bytes, expected: str) -> None:
    if curve != expected.encode("ascii"):
        raise ValueError("the key is damaged (its curve is not that of its type)")
    if len(point) != 1 + 2 * _POINT_BYTES[expected] or point[0] != 4:
        raise ValueError("the key is damaged (its point has the wrong length or form)")


def _ecdsa(curve: str) -> Callable[[tuple[bytes, ...]], None]:
    def check(parts: tuple[bytes, ...]) -> None:
        _expect(parts, 3)
        _check_point(parts[1], parts[2], curve)

    return check


def _check_application(application: bytes) -> None:
    if not application or not application.isascii() or not application.decode().isprintable():
        raise ValueError("the key is damaged (its application isn't a text)")


def _check_sk_ed25519(parts: tuple[bytes, ...]) -> None:
    _expect(parts, 3)
    _check_ed25519(parts[:2])
    _check_application(parts[2])


def _check_sk_ecdsa(parts: tuple[bytes, ...]) -> None:
    _expect(parts, 4)
    _check_point(parts[1], parts[2], "nistp256")
    _check_application(parts[3])


_POINT_BYTES = {"nistp256": 32, "nistp384": 48, "nistp521": 66}
"""Bytes of one coordinate (RFC 5656 section 3.1, SEC 1 section 2.3.3)."""

_BODIES: dict[str, Callable[[tuple[bytes, ...]], None]] = {
    "ssh-ed25519": _check_ed25519,
    "ssh-rsa": _check_rsa,
    "ecdsa-sha2-nistp256": _ecdsa("nistp256"),
    "ecdsa-sha2-nistp384": _ecdsa("nistp384"),
    "ecdsa-sha2-nistp521": _ecdsa("nistp521"),
    "sk-ssh-ed25519@openssh.com": _check_sk_ed25519,
    "sk-ecdsa-sha2-nistp256@openssh.com": _check_sk_ecdsa,
}

_BITS = {
    "ssh-ed25519": 256,
    "ecdsa-sha2-nistp256": 256,
    "ecdsa-sha2-nistp384": 384,
    "ecdsa-sha2-nistp521": 521,
    "sk-ssh-ed25519@openssh.com": 256,
    "sk-ecdsa-sha2-nistp256@openssh.com": 256,
}

KEY_TYPES = tuple(_BODIES)
"""The types of keys that are taken."""
