"""Proof that somebody holds a key: a signature of a text that the page makes for their login.

Each text is valid for an hour or two.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from state.model.keys import PublicKey
from state.trust.signatures import BadSignatureError, signed_by

NAMESPACE = "lxc-gpu"
"""The signature's purpose (ssh-keygen(1), -n). One for a commit, file or login isn't accepted."""
GOOD_FOR = 3600
MOST = 50
_ARMORED = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n[A-Za-z0-9+/=\n]+\n-----END SSH SIGNATURE-----"
)
_UNQUOTABLE = re.compile(r"[^\w.@-]")
_ENDS = ("", "\n", "\r\n", " \r\n")
"""How `printf`, `echo` and the `echo` of Windows end a text."""


class KeyProofs:
    """Makes texts to sign, and checks the signatures. Texts from before a restart are void."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def text(self, login: str, now: float) -> str:
        """The text that `login` has to sign now. It is safe within a shell's single quotes."""
        return self._text(login, int(now) // GOOD_FOR)

    def proven(self, login: str, pasted: str, now: float) -> frozenset[PublicKey]:
        """The keys whose signatures of the text for `login` are in `pasted`.

        BadSignatureError if a signature is invalid, or there is none.
        """
        armored = _ARMORED.findall(_plain_lines(pasted))[:MOST]
        if not armored:
            raise BadSignatureError("is missing: paste everything that ssh-keygen printed")
        hour = int(now) // GOOD_FOR
        texts = [self._text(login, hour - ago) + end for ago in (0, 1) for end in _ENDS]
        return frozenset(_signer(each.encode() + b"\n", texts) for each in armored)

    def _text(self, login: str, hour: int) -> str:
        of = f"{hour} {login.casefold()}".encode()
        code = hmac.new(self._secret, of, hashlib.sha256).hexdigest()[:32]
        return f"lxc-gpu key of {_UNQUOTABLE.sub('?', login)[:64]} {code}"


def to_sign(text: str) -> str:
    """The command that signs `text`."""
    return f"echo '{text}' | ssh-keygen -Y sign -n {NAMESPACE} -f ~/.ssh/id_ed25519"


def _signer(armored: bytes, texts: list[str]) -> PublicKey:
    for text in texts[:-1]:
        try:
            return signed_by(text.encode(), armored, NAMESPACE.encode())
        except BadSignatureError:
            continue
    return signed_by(texts[-1].encode(), armored, NAMESPACE.encode())


def _plain_lines(pasted: str) -> str:
    return "\n".join(line.strip() for line in pasted.splitlines() if line.strip())
