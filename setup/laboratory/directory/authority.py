"""A certificate authority of the lab's own."""

from __future__ import annotations

from pathlib import Path

from state.command import run

NEW_CERTIFICATE = (
    *("openssl", "req", "-x509", "-days", "3650", "-sha256"),
    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
)
"""Begins a command that makes a key and a certificate for it."""


def make(certificate: Path) -> None:
    """Make an authority: its certificate, and beside it the key (ca.pem, ca.key)."""
    run(
        [
            *NEW_CERTIFICATE,
            *("-subj", "/CN=lxc-gpu lab authority", "-addext", "keyUsage=critical,keyCertSign"),
            *("-keyout", certificate.with_suffix(".key"), "-out", certificate),
        ]
    )


def issue(authority: Path, stem: Path, names: tuple[str, ...]) -> None:
    """Issue a server certificate for `names` (host names or addresses): STEM.pem and STEM.key."""
    kinds = ("IP" if name.replace(".", "").isdigit() else "DNS" for name in names)
    alternatives = ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names, strict=True))
    run(
        [
            *NEW_CERTIFICATE,
            *("-CA", authority, "-CAkey", authority.with_suffix(".key")),
            *("-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={alternatives}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", "extendedKeyUsage=serverAuth"),
            *("-keyout", stem.with_suffix(".key"), "-out", stem.with_suffix(".pem")),
        ]
    )
