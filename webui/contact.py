"""One nudge over ssh: `iam@server`, host key pinned, a forced command that reports line by line."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from state.errors import LxcGpuError, Remedy
from state.keys import PublicKey
from state.wire import LONGEST_LINE, BadMessageError, Message, Progress, decode

ACCOUNT = "iam"
CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 600.0
MOST_BYTES = 16 * 1024 * 1024

_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True)
class Target:
    """A server as the state names it."""

    name: str
    address: str
    port: int
    host_key: PublicKey


class UnreachableError(LxcGpuError):
    """The server, or its half of the conversation, isn't there."""


@dataclass(frozen=True)
class Ssh:
    """Nudges servers with the key in a file."""

    key: Path
    account: str = ACCOUNT
    connect_seconds: float = CONNECT_SECONDS
    whole_seconds: float = WHOLE_SECONDS

    def nudge(self, target: Target) -> Iterator[Message]:
        """Run a round on `target`; the last message ends it. UnreachableError if none comes."""
        deadline = time.monotonic() + self.whole_seconds
        with self._transport(target) as transport:
            try:
                channel = transport.open_session(timeout=self.connect_seconds)
                channel.exec_command("reconcile")
                yield from _messages(channel, target, deadline)
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise _broken(target, error) from error

    def reach(self, target: Target) -> None:
        """Log in to `target` and leave again. UnreachableError says why that doesn't work."""
        with self._transport(target):
            return

    @contextmanager
    def _transport(self, target: Target) -> Iterator[paramiko.Transport]:
        key = self._private_key()
        try:
            place = (target.address, target.port)
            connected = socket.create_connection(place, self.connect_seconds)
        except OSError as error:
            raise _no_answer(target, error) from error
        transport = paramiko.Transport(connected)
        try:
            self._log_in(transport, target, key)
            yield transport
        finally:
            transport.close()

    def _private_key(self) -> paramiko.PKey:
        try:
            return paramiko.Ed25519Key.from_private_key_file(str(self.key))
        except (OSError, ValueError, paramiko.SSHException) as error:
            raise UnreachableError(
                "nudge-key",
                "The web page can't read its own nudge key.",
                "Sysadmin: run `setup/web-server` again on the web machine.",
                details=str(error),
            ) from error

    def _log_in(self, transport: paramiko.Transport, target: Target, key: paramiko.PKey) -> None:
        kind = target.host_key.type
        transport.banner_timeout = self.connect_seconds
        transport.auth_timeout = 2 * self.connect_seconds
        try:
            transport.get_security_options().key_types = _ALGORITHMS.get(kind, (kind,))
            transport.start_client(timeout=2 * self.connect_seconds)
            if transport.get_remote_server_key().asbytes() != target.host_key.blob:
                raise _other_host_key(target)
            transport.auth_publickey(
                self.account, paramiko.Ed25519Key.from_private_key_file(self.key)
            )
        except paramiko.AuthenticationException as error:
            raise UnreachableError(
                "nudge-refused",
                f"{target.name} doesn't let the web page in.",
                "Run `setup/gpu-server` there with the nudge key of this web page.",
                details=str(error),
            ) from error
        except paramiko.SSHException as error:
            if "no acceptable host key" in str(error).lower():
                raise _other_host_key(target) from error
            raise _broken(target, error) from error
        except (OSError, EOFError, ValueError) as error:
            raise _broken(target, error) from error


def _messages(channel: paramiko.Channel, target: Target, deadline: float) -> Iterator[Message]:
    for line in _lines(channel, target, deadline):
        try:
            message = decode(line)
        except BadMessageError as error:
            raise _garbled(target, str(error)) from error
        yield message
        if not isinstance(message, Progress):
            return
    raise _garbled(target, "it ended without a report")


def _lines(channel: paramiko.Channel, target: Target, deadline: float) -> Iterator[bytes]:
    rest, total = b"", 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _too_long(target)
        channel.settimeout(left)
        try:
            got = channel.recv(65536)
        except TimeoutError:
            raise _too_long(target) from None
        total += len(got)
        *lines, rest = (rest + got).split(b"\n")
        if len(rest) > LONGEST_LINE or total > MOST_BYTES:
            raise _garbled(target, "it says far too much")
        yield from lines
        if not got:
            return


def _no_answer(target: Target, error: OSError) -> UnreachableError:
    why = "refuses connections" if isinstance(error, ConnectionRefusedError) else "doesn't answer"
    return UnreachableError(
        "nudge-unreachable",
        f"{target.name} ({target.address}, port {target.port}) {why}.",
        "It will catch up by itself as soon as it is back.",
        Remedy.WAIT,
        str(error),
    )


def _other_host_key(target: Target) -> UnreachableError:
    return UnreachableError(
        "nudge-host-key",
        f"What answers at {target.address} isn't {target.name}: its ssh host key is another one.",
        f"If it was installed anew, its sysadmin puts the new key into servers/{target.name}.yaml.",
    )


def _broken(target: Target, error: Exception) -> UnreachableError:
    return UnreachableError(
        "nudge-broken",
        f"The connection to {target.name} broke.",
        "It will catch up by itself within minutes.",
        Remedy.WAIT,
        f"{type(error).__name__}: {error}",
    )


def _garbled(target: Target, details: str) -> UnreachableError:
    return UnreachableError(
        "nudge-garbled",
        f"{target.name} gave no report that this page understands.",
        f"On {target.name}, `lxc-gpu status` and `journalctl -u lxc-gpu-reconcile` tell more.",
        details=details,
    )


def _too_long(target: Target) -> UnreachableError:
    return UnreachableError(
        "nudge-timeout",
        f"{target.name} is still busy after {WHOLE_SECONDS / 60:g} minutes.",
        f"On {target.name}, `lxc-gpu status` tells what it is doing.",
        Remedy.WAIT,
    )
