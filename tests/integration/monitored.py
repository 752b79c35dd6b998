"""The web page with a fleet whose loads a test makes up: no server is asked, nobody logs in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.integration.slapd import Certificates, Slapd
from tests.integration.web import Web, made_key, make_web, push

FULL_NAMES = {
    "lqchen": "Lequn Chen",
    "ann": "Ann Lee",
    "bob": "Bartholomew Featherstonehaugh-Cholmondeley",
    "chi": "Chi Nguyen",
    "dora": "Dora Weiß",
    "emil": "Emil Sørensen",
    "fay": "Fay O'Neill",
    "gus": "Gustavo de la Fuente",
    "hana": "Hana Sato",
}


def make_monitored(
    folder: Path, servers: int, full_names: Mapping[str, str] = FULL_NAMES
) -> tuple[Web, tuple[str, ...]]:
    """The page, not started, and the names of its servers: gpu17 and so on."""
    names = tuple(f"gpu{17 + number}" for number in range(servers))
    addresses = {name: (f"127.0.1.{number + 1}", 1) for number, name in enumerate(names)}
    folder.mkdir(parents=True, exist_ok=True)
    nothing = folder / "nothing"
    nothing.write_text("")
    nobody = Slapd("ldap://127.0.0.1:1", "", Certificates(nothing, nothing, nothing), nothing)
    web = make_web(folder, nobody, addresses)
    _add_users(folder / "work", full_names)
    return web, names


def _add_users(work: Path, full_names: Mapping[str, str]) -> None:
    (work / "users").mkdir()
    for place, (user, name) in enumerate(full_names.items()):
        text = f'name: "{name}"\nlogin: {user}\nuid: {20000 + place}\nport: {22000 + place}\n'
        text += f"subid: {10_000_000 + 262_144 * place}\nkeys:\n  - {made_key(place)}\n"
        (work / "users" / f"{user}.yaml").write_text(text)
    push(work, "Add users")
