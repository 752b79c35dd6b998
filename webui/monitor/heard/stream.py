"""One server's stream of loads over ssh: everything that isn't one becomes words."""

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
"""What a stream may take: at once, and for good. 500 users take 18,000 a second."""
MOST_LOADS = 10
LOADS_A_SECOND = 1.0
"""How many may come: at once, after the network was stuck, and for good."""
WINDOW = 256 * 1024
"""Bytes that an honest sshd sends before we read them."""


def loads(ssh: Ssh, target: Target) -> Generator[ServerLoad, None, None]:
    """What `target` does, each few seconds, until it ends the stream.

    UnreachableError for whatever isn't that: silence, garbage, floods, another server's name.
    LxcGpuError if the server says why it can't.
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
        f"{target.name} keeps the connection open, but says nothing.",
        f"If it lasts, log in to {target.name}: does it hang?",
        Remedy.WAIT,
    )


def _garbled(target: Target, details: str) -> UnreachableError:
    return UnreachableError(
        "load-garbled",
        f"{target.name} says nothing that this page understands.",
        f"Is lxc-gpu there of the same release as here? Run `setup/gpu-server` on {target.name}.",
        details=details[:500],
    )


def _older(target: Target) -> UnreachableError:
    return UnreachableError(
        "load-unknown",
        f"{target.name} has an older lxc-gpu, which can't say what the server is doing.",
        f"Run `setup/gpu-server` of this release on {target.name}.",
    )


def _flood(target: Target) -> UnreachableError:
    return UnreachableError(
        "load-flood",
        f"{target.name} says far more than it should, so it is listened to only from time to time.",
        "Something is wrong there: did somebody get hold of its account iam?",
    )


def _other_name(target: Target, name: str) -> UnreachableError:
    return UnreachableError(
        "load-other-name",
        f"What answers at {target.address} calls itself {name}, and not {target.name}.",
        f"`name` in /etc/lxc-gpu/server.toml there and servers/{target.name}.yaml have to agree.",
    )
