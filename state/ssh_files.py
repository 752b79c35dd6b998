"""The ssh files that a user saves: a configuration to `Include`, and the host keys to expect.

Pure, with the standard library and `state.view` only: the web page hands them out, and a round
puts the same into each container.
"""

from __future__ import annotations

from collections.abc import Mapping

from state.view import Neighbour

CONFIG = "lxc-gpu.config"
"""What the configuration is called in a user's ~/.ssh."""

KNOWN_HOSTS = "lxc-gpu.known_hosts"
"""What the host keys are called in a user's ~/.ssh: the configuration names it."""


def ssh_config(
    user: str, account: str, port: int, servers: Mapping[str, Neighbour], *, connect: bool = False
) -> str:
    """Two hosts for each server: `gpu17-manage`, the server, and `gpu17`, the user's container.

    `account` is the user's on the servers, `port` the port of their containers. Host keys are
    looked up under those names, so that a server and the containers on it, all at one address,
    each have a key of their own.
    A user given on the command line wins: `ssh register@gpu17-manage`.
    With `connect`, ssh reaches the container through the server, which starts it first.
    """
    lines = [
        f"# lxc-gpu: the servers, for {user}. Made from the state repository: fetch it again",
        "# instead of editing it. Goes before all `Host` lines of ~/.ssh/config, as",
        f"#     Include {CONFIG}",
        *(_many_keys(servers) if servers else ()),
    ]
    for name, server in sorted(servers.items()):
        lines += ["", *_host(manage(name), server.address, account, server.ssh_port)]
        lines += ["", *_host(name, server.address, user, port)]
        lines += [f"    ProxyCommand ssh -T {manage(name)} connect"] if connect else []
    return "\n".join(lines) + "\n"


def known_hosts(
    port: int,
    servers: Mapping[str, Neighbour],
    server_keys: Mapping[str, str],
    container_keys: Mapping[str, str],
) -> str:
    """One line for each server, and one for each of the user's containers.

    `server_keys` are the servers' own host keys by server; `container_keys` are those of the
    user's containers, by the servers that the user is registered on.
    """
    lines = []
    for name, server in sorted(servers.items()):
        if name in server_keys:
            known_as = f"{manage(name)},{_place(server.address, server.ssh_port)}"
            lines.append(f"{known_as} {_bare(server_keys[name])}")
        if name in container_keys:
            known_as = f"{name},{_place(server.address, port)}"
            lines.append(f"{known_as} {_bare(container_keys[name])}")
    return "".join(f"{line}\n" for line in lines)


def _many_keys(servers: Mapping[str, Neighbour]) -> list[str]:
    """What to do with many keys in an agent: sshd hangs up after six of them (MaxAuthTries)."""
    hosts = " ".join(f"{name} {manage(name)}" for name in sorted(servers))
    return [
        "#",
        '# "Too many authentication failures"? ssh offers all keys of your agent, one by one. Copy',
        "# these lines to the end of ~/.ssh/config, with the file of the key that you saved:",
        f"#     Host {hosts}",
        "#         IdentityFile ~/.ssh/id_ed25519",
        "#         IdentitiesOnly yes",
    ]


def manage(server: str) -> str:
    """The name under which users reach the server itself, not their container on it."""
    return f"{server}-manage"


def _host(alias: str, address: str, user: str, port: int) -> list[str]:
    return [
        f"Host {alias}",
        f"    HostName {address}",
        f"    Port {port}",
        f"    User {user}",
        f"    HostKeyAlias {alias}",
        "    StrictHostKeyChecking yes",
        f"    UserKnownHostsFile ~/.ssh/{KNOWN_HOSTS} ~/.ssh/known_hosts",
    ]


def _place(address: str, port: int) -> str:
    return address if port == 22 else f"[{address}]:{port}"


def _bare(key: str) -> str:
    """The key's type and body: a comment has no place in known_hosts."""
    return " ".join(key.split()[:2])
