"""A small sound fleet for tests, as files; each test changes what it is about."""

from __future__ import annotations

from state.model.documents import State
from state.reading.load import load
from tests.unit.state.keyring import ed25519

FLEET = """\
format: 1
# who may sign
signers:
  - name: Root Admin
    role: admin
    key: {admin}
"""


def fleet_yaml() -> str:
    return FLEET.format(admin=ed25519("admin", "root@desk"))


def server_yaml(name: str, address: str) -> str:
    return (
        f"address: {address}\n"
        f"host_key: {ed25519((name, 'host'))}\n"
        f"state_key: {ed25519((name, 'state'))}\n"
    )


def user_yaml(place: int, name: str, login: str, *keys: str) -> str:
    lines = [
        f"name: {name}",
        f"login: {login}",
        f"directory_id: 6d1f0000-{place:04}",
        f"uid: {20000 + place}",
        f"port: {22000 + place}",
        f"subid: {10_000_000 + 262_144 * place}",
    ]
    return "\n".join(lines + (["keys:"] if keys else []) + [f"  - {key}" for key in keys]) + "\n"


def files(**changed: str | None) -> dict[str, bytes]:
    """The fleet's files; `changed` replaces, adds or (None) removes some, `/` written as `__`."""
    texts = {
        "fleet.yaml": fleet_yaml(),
        "servers/gpu17.yaml": server_yaml("gpu17", "172.16.2.17"),
        "servers/gpu18.yaml": server_yaml("gpu18", "172.16.2.18"),
        "users/ann.yaml": user_yaml(0, "Ann Example", "Ann", str(ed25519("ann", "ann@home"))),
        "users/lqchen.yaml": user_yaml(
            1, "Lequn Chen", "LQChen", str(ed25519("lq1", "laptop")), str(ed25519("lq2", "desk"))
        ),
        "former/bob.yaml": user_yaml(2, "Bob Gone", "bob", str(ed25519("bob", "bob@old"))),
        "registrations/gpu17/ann.yaml": f"host_key: {ed25519('ann@gpu17')}\n",
        "registrations/gpu17/bob.yaml": f"host_key: {ed25519('bob@gpu17')}\n",
        "README.md": "# ours",
    }
    for name, text in changed.items():
        path = name.replace("__", "/") + ".yaml"
        if text is None:
            del texts[path]
        else:
            texts[path] = text
    return {path: text.encode() for path, text in texts.items()}


def state() -> State:
    return load(files())
