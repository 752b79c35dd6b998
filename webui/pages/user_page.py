"""What a user's page shows, made from a state. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from state.git.commits import Commit
from state.model.documents import State, User
from state.model.keys import PublicKey
from state.ssh_files import CONFIG, KNOWN_HOSTS, known_hosts, ssh_config
from state.view import Neighbour
from state.wire.messages import Report
from webui.pages.page_owner import proposed
from webui.pages.saving import stamp
from webui.words import KeyCard, key_card


@dataclass(frozen=True)
class UserPage:
    """Everything on the page except what is typed into its form."""

    name: str
    """The user's name, or a newcomer's login: the end of the page's address."""
    proposed: str
    """The name that a newcomer will get; empty for a user."""
    title: str
    login: str
    user: User | None
    left: bool
    """Whether this user is a former one, who may come back."""
    cards: tuple[KeyCard, ...]
    keys: tuple[PublicKey, ...]
    stamp: str
    rows: int
    registered: tuple[str, ...]
    unregistered: tuple[str, ...]
    kept: Mapping[str, str]
    """By server: why an idle container there isn't stopped."""
    templates: Mapping[str, Mapping[str, str]]
    """By server: the templates to choose from, each with its description. Servers that offer no
    choice are left out."""
    example: str
    fetch_commands: str
    connect_commands: str
    """The commands for an ssh configuration that starts the container automatically."""
    include_command: str
    account: str
    """The name of the user's account on the servers."""
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
    """The page at `address`: of the user `owner`, or of a newcomer if there is none.

    `login` is the newcomer's login, if it isn't the address. `reports` are the newest ones of the
    servers; they say when a key was last used.
    """
    user, former = state.users.get(owner or ""), state.former.get(owner or "")
    known = user or former
    name, login, keys = owner or address, login or address, user.keys if user else ()
    registered, unregistered = _servers_by_registration(state, name)
    return UserPage(
        name=name,
        proposed="" if known else proposed(state, login),
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
        templates={s: t for s in unregistered if (t := state.servers[s].other_templates)},
        example=(registered or unregistered or ("gpu17",))[0],
        fetch_commands=fetch_commands(name, public_url),
        connect_commands=fetch_commands(name, public_url, "config-connect"),
        include_command=include_command(),
        account=state.fleet.account_of(name),
        ssh_config=config_text(state, name) if user else "",
        known_hosts=known_hosts_text(state, name) if user else "",
        history=tuple(history),
    )


def _servers_by_registration(state: State, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The servers on which the user is registered, and all others."""
    servers = sorted(state.servers)
    registered = tuple(s for s in servers if name in state.registrations.get(s, {}))
    return registered, tuple(s for s in servers if s not in registered)


def last_used(key: PublicKey, reports: Sequence[Report]) -> str:
    """The last day on which this key was used on any server."""
    return max((each.key_days.get(key.fingerprint, "") for each in reports), default="")


def fetch_commands(name: str, public_url: str, config: str = "config") -> str:
    """Commands that save the two ssh files. ssh refuses files that their group can write.

    `config` is the last part of the configuration's address. Both configurations are saved under
    one name, so that fetching one replaces the other.
    """
    here = f"{public_url}/user/{name}/.ssh"
    return (
        f"curl -fsS --create-dirs {here}/{config} -o ~/.ssh/{CONFIG}\n"
        f"curl -fsS {here}/known_hosts -o ~/.ssh/{KNOWN_HOSTS}\n"
        f"chmod 600 ~/.ssh/{CONFIG} ~/.ssh/{KNOWN_HOSTS}"
    )


def include_command() -> str:
    """Commands that have ssh read the saved configuration, which must come first. To run once."""
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
    """The host keys of the servers and of the containers of user `name`, as known_hosts."""
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
