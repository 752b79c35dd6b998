"""One server's stream of loads over ssh. Everything else that it sends becomes an error."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import paramiko

from state.errors import LxcGpuError, Remedy
from state.wire import server_load
from state.wire.messages import BadMessageError
from state.wire.server_load import ServerLoad
from webui.monitor.past.accounting import SHORTEST_PATIENCE, patience
from webui.servers.contact import Ssh, Target, UnreachableError, lines_of
from webui.servers.rate_limit import TokenBucket

MOST_BYTES = 3 * server_load.LONGEST_LINE
BYTES_A_SECOND = 40_000
"""Bytes that a stream may send at once, and per second in the long run. 500 users need 18,000."""
MOST_LOADS = 10
LOADS_A_SECOND = 1.0
"""Loads that may come at once (after the network hung), and per second in the long run."""
WINDOW = 256 * 1024
"""ssh's window: bytes that sshd sends before we read them."""


def loads(ssh: Ssh, target: Target) -> Generator[ServerLoad, None, None]:
    """The loads of `target`, one every few seconds, until it ends the stream.

    UnreachableError for silence, garbage, floods, and another server's name. LxcGpuError if the
    server itself reports an error.
    """
    allowance = TokenBucket(MOST_BYTES, BYTES_A_SECOND)
    with ssh.ask(target, "load", allowance, _flood(target), WINDOW) as channel:
        yield from _heard(channel, target)


def _heard(channel: paramiko.Channel, target: Target) -> Iterator[ServerLoad]:
    most = TokenBucket(MOST_LOADS, LOADS_A_SECOND)
    until = time.monotonic() + SHORTEST_PATIENCE
    lines = lines_of(channel, lambda: until - time.monotonic(), server_load.LONGEST_LINE)
    try:
        for line in lines:
            if not most.spend(1):
                raise _flood(target)
            load = _decoded(line, target)
            if load.server != target.name:
                raise _other_name(target, load.server)
            until = time.monotonic() + patience(load)
            yield load
    except TimeoutError:
        raise _stalled(target) from None
    except BadMessageError as error:
        raise _garbled(target, str(error)) from error


def _decoded(line: bytes, target: Target) -> ServerLoad:
    try:
        return server_load.decode(line)
    except LxcGpuError as error:  # the server refuses
        if error.code == "usage":
            raise _older(target) from error
        raise


def _stalled(target: Target) -> UnreachableError:
    return UnreachableError(
        "load-stalled",
        f"{target.name} keeps the connection open, but sends nothing.",
        f"If it lasts, log in to {target.name}: does it hang?",
        Remedy.WAIT,
    )


def _garbled(target: Target, details: str) -> UnreachableError:
    return UnreachableError(
        "load-garbled",
        f"{target.name} sends something that this page doesn't understand.",
        f"Does it have the same release of lxc-gpu? Run `setup/gpu-server` on {target.name}.",
        details=details[:500],
    )


def _older(target: Target) -> UnreachableError:
    return UnreachableError(
        "load-unknown",
        f"{target.name} has an older lxc-gpu, which can't tell its load.",
        f"Run `setup/gpu-server` of this release on {target.name}.",
    )


def _flood(target: Target) -> UnreachableError:
    return UnreachableError(
        "load-flood",
        f"{target.name} sends far too much, so the page listens to it only from time to time.",
        "Something is wrong there. Did somebody take over its account iam?",
    )


def _other_name(target: Target, name: str) -> UnreachableError:
    return UnreachableError(
        "load-other-name",
        f"The machine at {target.address} calls itself {name}, not {target.name}.",
        f"`name` in its /etc/lxc-gpu/server.toml and servers/{target.name}.yaml have to agree.",
    )
