"""A small fleet whose people are written to: ann and bob on gpu17, bob on gpu18 too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from state.model.documents import Fleet as FleetFile
from state.model.documents import Registration, Server, State, User
from state.wire.notices import Facts, Notice, NoticeKind
from webui.config import WebConfig, parse
from webui.outbox import sending
from webui.outbox.sending import Sending

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICksGFWxceR+jU7ob6NmGGtrsHQ4yyZdCVrHd79h9vUW"
NOW = 1.8e9
MAILS = {"ann": "ann@mylab.com", "bob": "bob@mylab.com"}


def user(name: str, number: int) -> User:
    return User.model_validate(
        {"name": name.title(), "login": name, "uid": 20000 + number, "port": 22000 + number,
         "subid": 10_000_000 + 262_144 * number, "keys": (KEY,)}
    )  # fmt: skip


def server(last: int) -> Server:
    return Server.model_validate({"address": f"10.0.0.{last}", "host_key": KEY, "state_key": KEY})


_HERE = Registration.model_validate({"host_key": KEY})
STATE = State(
    FleetFile(format=1),
    servers={"gpu17": server(17), "gpu18": server(18)},
    users={"ann": user("ann", 1), "bob": user("bob", 2), "cy": user("cy", 3)},
    registrations={"gpu17": {"ann": _HERE, "bob": _HERE, "cy": _HERE}, "gpu18": {"bob": _HERE}},
)


def notice(number: int, user: str = "ann", kind: NoticeKind = NoticeKind.IDLE) -> Notice:
    return Notice(f"{number:012x}", user, kind, NOW, Facts(at=NOW - 86400, until=NOW + 86400))


def config(folder: Path, more: str = "") -> WebConfig:
    return parse(
        f"""
        public_url = "https://iam.mylab.com"
        repository = "/var/lib/lxc-gpu/state.git"
        clone = "{folder}/web-clone"
        signing_key = "/signing"
        nudge_key = "/nudge"
        [directory]
        servers = ["ldaps://ldap.mylab.com"]
        base = "dc=mylab,dc=com"
        allow = "(cn=*)"
        {more}""",
        "web.toml",
    )


class World:
    """What the page knows, as a test changes it; what servers were told."""

    def __init__(self) -> None:
        self.now, self.ahead = NOW, 0.0
        """The time, and how wrong the page's clock is."""
        self.addresses: dict[str, str] | None = dict(MAILS)
        self.seen: dict[str, Any] = {}
        self.standings: dict[str, Any] = {}
        self.told: list[tuple[str, list[str]]] = []
        self.tell: Callable[[str, list[str]], None] = lambda server, ids: self.told.append(
            (server, list(ids))
        )

    def sending(self, config: WebConfig) -> Sending:
        parts = sending.FleetAccess(
            state=lambda: STATE,
            addresses=lambda: self.addresses,
            seen=lambda: self.seen,
            standings=lambda: self.standings,
            tell=lambda server, ids: self.tell(server, list(ids)),
        )
        return Sending(config, parts, lambda: self.now + self.ahead, lambda: self.now)
