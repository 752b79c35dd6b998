"""What somebody's page shows, made from a state. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from state.git.commits import Commit
from state.model.documents import State, User
from state.model.keys import PublicKey
from state.ssh_files import CONFIG, KNOWN_HOSTS, known_hosts, ssh_config
from state.view import Neighbour
from state.wire.messages import Report
from webui.pages.saving import stamp
from webui.pages.whose import proposed
from webui.words import KeyCard, key_card


@dataclass(frozen=True)
class UserPage:
    """Everything on the page but what is typed into it."""

    address: str
    """What stands in the page's address: a name, or a newcomer's login."""
    proposed: str
    """What a newcomer will be called; empty for who is known."""
    name: str
    title: str
    login: str
    user: User | None
    left: bool
    """Whether this user has left, and may come back."""
    cards: tuple[KeyCard, ...]
    keys: tuple[PublicKey, ...]
    stamp: str
    rows: int
    registered: tuple[str, ...]
    unregistered: tuple[str, ...]
    kept: Mapping[str, str]
    """Why their container there is not stopped when nobody uses it, by server."""
    templates: Mapping[str, Mapping[str, str]]
    """What these servers offer, each with a line for people; servers without a choice left out."""
    example: str
    fetch_commands: str
    connect_commands: str
    """The same for who wants ssh to start the container by itself."""
    include_command: str
    account: str
    """What the user's account on the servers is called."""
    ssh_config: str
    known_hosts: str
    history: tuple[Commit, ...]


def user_page(
    state: State,
    address: str,
    owner: str | None,
    history: Sequence[Commit],
    public_url: str,
    reports: Sequence[Report] = (),
    login: str = "",
) -> UserPage:
    """The page at `address`, which is that of the user `owner`, or a newcomer's.

    `login` is the newcomer's, where it isn't the address.
    `reports` are the servers' latest: they know when a key was last used.
    """
    user = state.users.get(owner or "")
    former = state.former.get(owner or "")
    known = user or former
    name, login = owner or address, login or address
    keys = user.keys if user else ()
    registered = tuple(s for s in sorted(state.servers) if name in state.registrations.get(s, {}))
    unregistered = tuple(s for s in sorted(state.servers) if s not in registered)
    return UserPage(
        address=name,
        proposed="" if known else proposed(state, login),
        name=name,
        title=known.name if known else f"Welcome, {login}",
        login=known.login if known else login,
        user=user,
        left=user is None and former is not None,
        cards=tuple(key_card(key, last_used(key, reports)) for key in keys),
        keys=keys,
        stamp=stamp(keys) if user else "",
        rows=min(12, max(5, len(keys) + 3)),
        registered=registered if user else (),
        unregistered=unregistered,
        kept={s: why for s in registered if (why := state.registrations[s][name].keep) is not None},
        templates={s: t for s in unregistered if (t := state.servers[s].templates)},
        example=(registered or unregistered or ("gpu17",))[0],
        fetch_commands=fetch_commands(name, public_url),
        connect_commands=fetch_commands(name, public_url, "config-connect"),
        include_command=include_command(),
        account=state.fleet.account_of(name),
        ssh_config=config_text(state, name) if user else "",
        known_hosts=known_hosts_text(state, name) if user else "",
        history=tuple(history),
    )


def last_used(key: PublicKey, reports: Sequence[Report]) -> str:
    """The last day that any server tells of this key."""
    return max((each.key_days.get(key.fingerprint, "") for each in reports), default="")


def fetch_commands(name: str, public_url: str, config: str = "config") -> str:
    """What to paste to save the two ssh files; ssh refuses those that a group may write.

    `config` is the configuration's plain-text address: whichever it is, it is saved as the same
    file, so that fetching the other one changes over.
    """
    here = f"{public_url}/user/{name}/.ssh"
    return (
        f"curl -fsS --create-dirs {here}/{config} -o ~/.ssh/{CONFIG}\n"
        f"curl -fsS {here}/known_hosts -o ~/.ssh/{KNOWN_HOSTS}\n"
        f"chmod 600 ~/.ssh/{CONFIG} ~/.ssh/{KNOWN_HOSTS}"
    )


def include_command() -> str:
    """What to paste, once, so that ssh reads the saved configuration: it must stand first."""
    line = f"Include {CONFIG}"
    return (
        "touch ~/.ssh/config\n"
        f"if ! grep -qx '{line}' ~/.ssh/config; then\n"
        f"  {{ echo '{line}'; cat ~/.ssh/config; }} > ~/.ssh/config.new\n"
        "  chmod 600 ~/.ssh/config.new && mv ~/.ssh/config.new ~/.ssh/config\n"
        "fi"
    )


def config_text(state: State, name: str, *, connect: bool = False) -> str:
    """The ssh configuration of the user `name`; with `connect`, the one that starts containers."""
    account, port = state.fleet.account_of(name), state.users[name].port
    return ssh_config(name, account, port, _neighbours(state), connect=connect)


def known_hosts_text(state: State, name: str) -> str:
    """The host keys that the user `name` should meet."""
    containers = {
        server: str(users[name].host_key)
        for server, users in state.registrations.items()
        if name in users
    }
    servers = {server: str(each.host_key) for server, each in state.servers.items()}
    return known_hosts(state.users[name].port, _neighbours(state), servers, containers)


def _neighbours(state: State) -> dict[str, Neighbour]:
    return {
        name: Neighbour(str(server.address), server.ssh_port, str(server.host_key))
        for name, server in state.servers.items()
    }
