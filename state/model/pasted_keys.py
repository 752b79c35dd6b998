"""Keys that somebody pastes: judged more strictly than keys that stand in the state already.

What was saved once goes on being read, or an upgrade would make a state invalid. What is new has to
be a key that can open something, alone on its line, without a letter that nobody sees.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from state.errors import LxcGpuError
from state.model.keys import KEY_TYPES, PRIVATE, PRIVATE_MESSAGE, PublicKey, parse_key

MOST_LINES = 1000
"""Lines of a pasted text that are looked at."""
LARGEST_EXPONENT = 64
"""Bits; with larger ones OpenSSL refuses to compute (OPENSSL_RSA_MAX_PUBEXP_BITS)."""

_BEGIN = re.compile(rf"(?:{'|'.join(map(re.escape, KEY_TYPES))})\s+AAAA")
_MORE = re.compile(r"AAAA[A-Za-z0-9+/]{30,}")
_UNSEEN = frozenset(("Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"))
"""Categories of letters that leave no mark (Unicode Standard, 4.5)."""

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL = frozenset((0, 1, _P - 1, _OF_ORDER_8, _P - _OF_ORDER_8))
"""y of the eight points that everybody knows the secret of (RFC 8032, 5.1: the cofactor is 8)."""
_CURVES: Mapping[str, ec.EllipticCurve] = {
    "nistp256": ec.SECP256R1(),
    "nistp384": ec.SECP384R1(),
    "nistp521": ec.SECP521R1(),
}


class KeyProblemsError(LxcGpuError):
    """Lines of a pasted text that aren't usable public keys.

    `problems` holds (line number, message), the lines counted from 1.
    """

    def __init__(self, problems: tuple[tuple[int, str], ...]) -> None:
        self.problems = problems
        only = len(problems) == 1 and problems[0][0] == 1
        text = "; ".join(m if only else f"line {line}: {m}" for line, m in problems[:20])
        super().__init__(
            "bad-key",
            f"Not a usable public key: {text}.",
            "Paste what `cat ~/.ssh/id_ed25519.pub` prints; `ssh-keygen -t ed25519` makes a key.",
        )


def parse_keys(text: str) -> tuple[PublicKey, ...]:
    """The keys of a pasted text, one a line, each once; blank lines and `#` lines are skipped.

    KeyProblemsError names every line that isn't a usable key.
    """
    if found := PRIVATE.search(text):
        before = text[: found.start()].count("\n")
        raise KeyProblemsError(((before + 1, PRIVATE_MESSAGE),))
    keys: dict[PublicKey, None] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if number > MOST_LINES:
            problems.append((number, f"more than {MOST_LINES} lines"))
            break
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            keys.setdefault(_parse_pasted(line))
        except ValueError as error:
            problems.append((number, str(error)))
    if problems:
        raise KeyProblemsError(tuple(problems))
    return tuple(keys)


def _parse_pasted(line: str) -> PublicKey:
    """ValueError, worded for people."""
    line = line.strip(" \t")
    if (letter := next(filter(_unseen, line), None)) is not None:
        name = unicodedata.name(letter, "a control character").lower()
        raise ValueError(
            f"it holds a letter that nobody sees, {name} (U+{ord(letter):04X}); "
            "copy the key from the .pub file itself"
        )
    if len(_BEGIN.findall(line)) > 1:
        raise ValueError("there are two keys on one line; put each on a line of its own")
    key = parse_key(line)
    if _MORE.search(key.comment):
        raise ValueError("a part of another key follows it; put each key on a line of its own")
    if not _possible(key):
        raise ValueError("its numbers are wrong: no private key can fit it; copy it again")
    return key


def _unseen(letter: str) -> bool:
    return letter not in " \t" and unicodedata.category(letter) in _UNSEEN


def _possible(key: PublicKey) -> bool:
    """Whether a private key to it can exist, which sshd would take."""
    parts = key.parts
    if key.type == "ssh-rsa":
        return int.from_bytes(parts[1], "big").bit_length() <= LARGEST_EXPONENT
    if "ed25519" in key.type:
        return _is_ed25519_point(parts[1])
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[parts[1].decode()], parts[2])
    except ValueError:
        return False
    return True


def _is_ed25519_point(encoded: bytes) -> bool:
    """Whether this is a point of the curve, and none of the eight trivial ones (RFC 8032, 5.1.3).

    The point has an x if (y^2 - 1) / (d y^2 + 1) is a square; by Euler's criterion, so is the
    product of the two.
    """
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    if y >= _P or y in _SMALL:
        return False
    product = (y * y - 1) * (_D * y * y + 1) % _P
    return pow(product, (_P - 1) // 2, _P) == 1
