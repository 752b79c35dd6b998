"""A state repository with many users, for measuring. The keys are well-formed and nobody's."""

from __future__ import annotations

import base64
import io
import struct
import tarfile

SERVER = "gpu18"


def key(number: int) -> str:
    """An ed25519 public key that differs for each number; no private key belongs to it."""
    parts = (b"ssh-ed25519", number.to_bytes(32, "big"))
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def files(users: int, *, registered: bool = True) -> dict[str, str]:
    """The files of a state with so many users, all of them registered on one server, or none."""
    made = {
        "fleet.yaml": "format: 1\nuids: {first: 30000, last: 39999}\n"
        "ports: {first: 10000, last: 19999}\n",
        f"servers/{SERVER}.yaml": f"address: 172.16.2.18\nhost_key: {key(10**9)}\n"
        f"state_key: {key(10**9 + 1)}\n",
    }
    for n in range(users):
        name = f"user{n:04}"
        made[f"users/{name}.yaml"] = (
            f"name: User Number {n}\nlogin: {name}\ndirectory_id: id-{n}\nuid: {30000 + n}\n"
            f"port: {10000 + n}\nsubid: {10_000_000 + 262_144 * n}\n"
            f"keys:\n  - {key(n + 1)} laptop\n"
        )
        if registered:
            made[f"registrations/{SERVER}/{name}.yaml"] = f"host_key: {key(10**6 + n)}\n"
    return made


def as_tar(made: dict[str, str]) -> bytes:
    """The files as an archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, text in made.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return stream.getvalue()
