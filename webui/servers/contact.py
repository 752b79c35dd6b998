"""Talks to a server over ssh: account `iam`, pinned host key, a forced command with line output."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Timer

import paramiko

from state.errors import LxcGpuError, Remedy
from state.model.keys import PublicKey
from state.wire.messages import (
    LONGEST_LINE,
    Answer,
    BadMessageError,
    Message,
    Progress,
    Refusal,
    decode,
)
from webui.servers.rate_limit import RateLimitedSocket, TokenBucket

ACCOUNT = "iam"
CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 600.0
TELL_SECONDS, TELL_BYTES = 20.0, 64 * 1024
"""Limits for a message that a server only has to acknowledge."""
MOST_BYTES = 16 * 1024 * 1024
"""The most that a server may send in one nudge."""

TOO_MUCH = "it sends far too much"
_SLOW = "diffie-hellman"
"""The beginning of the names of key exchanges that Python computes itself. Each takes a second in
which nothing else runs here, and a server may ask for as many as it likes (RFC 4253, 9)."""
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True)
class Target:
    """A server as the state names it."""

    name: str
    address: str
    port: int
    host_key: PublicKey


class UnreachableError(LxcGpuError):
    """The server doesn't answer, or not as it should."""


class Users:
    """Counts who uses a connection: its owner first, and nudges. Who leaves last closes it."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._count = 1
        self._lock = Lock()

    def join(self) -> bool:
        """Keep the connection open until `leave`; False if it is closed already."""
        with self._lock:
            if self._count == 0:
                return False
            self._count += 1
            return True

    def leave(self) -> bool:
        """End this use; False if there are others."""
        with self._lock:
            self._count -= 1
            if self._count > 0:
                return False
        self._close()
        return True


@dataclass(frozen=True)
class Link:
    """A connection to a server, logged in."""

    target: Target
    transport: paramiko.Transport
    connected: RateLimitedSocket
    allowance: TokenBucket
    users: Users


@dataclass(frozen=True)
class Ssh:
    """Talks to servers with the key in a file."""

    key: Path
    account: str = ACCOUNT
    connect_seconds: float = CONNECT_SECONDS
    whole_seconds: float = WHOLE_SECONDS
    standing: dict[Target, Link] = field(default_factory=dict)
    """Connections that stay open, by which the load comes. A nudge over one needs no login."""

    def nudge(self, target: Target, news: bytes | None = None) -> Iterator[Message]:
        """Have `target` run a round: its messages, to the last one. UnreachableError without it.

        `news` are what it lacks of the state (`state.git.news`). One of an earlier release, which
        doesn't take them, is asked to fetch.
        """
        deadline = time.monotonic() + self.whole_seconds
        if news is not None:
            for message in self._round(target, "news", news, deadline):
                if isinstance(message, Refusal) and message.code == "usage":
                    break
                yield message
            else:
                return
        yield from self._round(target, "reconcile", b"", deadline)

    def _round(self, target: Target, verb: str, given: bytes, deadline: float) -> Iterator[Message]:
        """The messages that answer `verb`, over a connection that stands, or one of their own.

        What failed is asked again only before its first message: afterwards a round has begun.
        """
        link = self.standing.get(target)
        if link is not None and link.users.join():
            came = False
            try:
                with link.allowance.more(MOST_BYTES):
                    for message in self._told(link, verb, given, deadline):
                        came = True
                        yield message
                return
            except UnreachableError as error:
                if came or error.code == "nudge-timeout":
                    raise
            finally:
                link.users.leave()
        with self._transport(target, TokenBucket(MOST_BYTES, 0)) as link:
            yield from self._told(link, verb, given, deadline)

    def _told(self, link: Link, verb: str, given: bytes, deadline: float) -> Iterator[Message]:
        with self._session(link, verb, _garbled(link.target, TOO_MUCH)) as channel:
            if given:
                channel.settimeout(self.connect_seconds)
                with suppress(OSError):  # whoever doesn't read it answers all the same
                    channel.sendall(given)
                    channel.shutdown_write()
            yield from _messages(channel, link.target, deadline)

    @contextmanager
    def ask(
        self,
        target: Target,
        verb: str,
        allowance: TokenBucket,
        flood: UnreachableError,
        window: int | None = None,
    ) -> Iterator[paramiko.Channel]:
        """The channel with the answer of `target` to `verb`; nudges may use its connection, too.

        UnreachableError if it breaks off; `flood` is raised if more comes than the allowance.
        Nudges that use the connection then go on, except after a flood.
        """
        with self._transport(target, allowance) as link:
            try:
                with self._session(link, verb, flood, window) as channel:
                    self.standing[target] = link
                    yield channel
                if link.connected.overrun:
                    raise flood
            except UnreachableError as error:
                if error.code == flood.code:
                    link.connected.hang_up()
                raise
            finally:
                self._forget(link)

    @contextmanager
    def _session(
        self, link: Link, verb: str, flood: UnreachableError, window: int | None = None
    ) -> Iterator[paramiko.Channel]:
        try:
            with closing(self._opened(link, verb, window)) as channel:
                yield channel
        except (paramiko.SSHException, OSError, EOFError, UnreachableError) as error:
            if link.connected.overrun:
                raise flood from error
            if isinstance(error, UnreachableError):
                raise
            raise _broken(link.target, error) from error

    def _opened(self, link: Link, verb: str, window: int | None) -> paramiko.Channel:
        """A session that runs `verb`. Nudges no longer wait for a connection that opens none."""
        try:
            channel = link.transport.open_session(window, timeout=self.connect_seconds)
            with _closed_after(self.connect_seconds, channel):
                channel.exec_command(verb)
        except (paramiko.SSHException, OSError, EOFError):
            self._forget(link)
            raise
        return channel

    def _forget(self, link: Link) -> None:
        if self.standing.get(link.target) is link:
            self.standing.pop(link.target, None)

    def tell_accepted(self, target: Target, notices: Sequence[str]) -> None:
        """Tell `target` that the letters of these notices were accepted.

        LxcGpuError unless it acknowledges that.
        """
        words = " ".join(("told", *notices))
        deadline = time.monotonic() + TELL_SECONDS
        with self._transport(target, TokenBucket(TELL_BYTES, 0)) as link:
            *_, end = self._told(link, words, b"", deadline)
        if isinstance(end, Refusal):
            raise end.error()
        if not isinstance(end, Answer):
            raise _garbled(target, "it answers a message with a report")

    def reach(self, target: Target) -> None:
        """Log in to `target` and log out again. UnreachableError says why that fails."""
        with self._transport(target, TokenBucket(MOST_BYTES, 0)):
            return

    @contextmanager
    def _transport(self, target: Target, allowance: TokenBucket) -> Iterator[Link]:
        key = self._private_key()
        try:
            place = (target.address, target.port)
            plain = socket.create_connection(place, self.connect_seconds)
        except OSError as error:
            raise _no_answer(target, error) from error
        connected = RateLimitedSocket(plain, allowance)
        transport = paramiko.Transport(connected)
        users = Users(lambda: self._close(transport, connected))
        try:
            self._log_in(transport, target, key)
            yield Link(target, transport, connected, allowance, users)
        finally:
            if not users.leave():
                last = Timer(self.whole_seconds, connected.hang_up)
                last.daemon = True  # a nudge whose sending hangs doesn't see its own deadline
                last.start()

    def _close(self, transport: paramiko.Transport, connected: RateLimitedSocket) -> None:
        connected.hang_up()  # paramiko's thread has to leave the socket before it is closed
        if transport.is_alive():
            transport.join(self.connect_seconds)
        transport.close()
        connected.close()

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
            options = transport.get_security_options()
            options.key_types = _ALGORITHMS.get(kind, (kind,))
            options.kex = tuple(each for each in options.kex if not each.startswith(_SLOW))
            transport.start_client(timeout=2 * self.connect_seconds)
            if transport.get_remote_server_key().asbytes() != target.host_key.blob:
                raise _other_host_key(target)
            transport.auth_publickey(self.account, key)
        except paramiko.AuthenticationException as error:
            raise UnreachableError(
                "nudge-refused",
                f"{target.name} doesn't let the web page in.",
                f"On {target.name}: `lxc-gpu doctor` checks its sshd and the account iam. If it "
                "finds nothing, this page has a new nudge key: run setup/gpu-server there again.",
                details=str(error),
            ) from error
        except paramiko.SSHException as error:
            if "no acceptable host key" in str(error).lower():
                raise _other_host_key(target) from error
            raise _broken(target, error) from error
        except (OSError, EOFError, ValueError) as error:
            raise _broken(target, error) from error


@contextmanager
def _closed_after(seconds: float, channel: paramiko.Channel) -> Iterator[None]:
    """Close `channel` after `seconds`: paramiko waits forever for the answer to a verb.

    Only the channel, since others may use the connection.
    """

    def close() -> None:
        with suppress(paramiko.SSHException, OSError, EOFError):  # the connection has ended
            channel.close()

    timer = Timer(seconds, close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _messages(channel: paramiko.Channel, target: Target, deadline: float) -> Iterator[Message]:
    lines = lines_of(channel, lambda: deadline - time.monotonic(), LONGEST_LINE)
    try:
        for line in lines:
            message = decode(line)
            yield message
            if not isinstance(message, Progress):
                return
    except TimeoutError:
        raise _too_long(target) from None
    except BadMessageError as error:
        raise _garbled(target, str(error)) from error
    raise _garbled(target, "it ended without a report")


def lines_of(channel: paramiko.Channel, left: Callable[[], float], longest: int) -> Iterator[bytes]:
    """The lines that come. TimeoutError after `left()` seconds; BadMessageError for a long line."""
    rest = b""
    while True:
        seconds = left()
        if seconds <= 0:
            raise TimeoutError
        channel.settimeout(seconds)
        got = channel.recv(65536)
        *lines, rest = (rest + got).split(b"\n")
        if len(rest) > longest:
            raise BadMessageError(TOO_MUCH)
        yield from lines
        if not got:
            return


def _no_answer(target: Target, error: OSError) -> UnreachableError:
    why = "refuses connections" if isinstance(error, ConnectionRefusedError) else "doesn't answer"
    return UnreachableError(
        "nudge-unreachable",
        f"{target.name} ({target.address}, port {target.port}) {why}.",
        "It will catch up automatically when it is back.",
        Remedy.WAIT,
        str(error),
    )


def _other_host_key(target: Target) -> UnreachableError:
    return UnreachableError(
        "nudge-host-key",
        f"The machine at {target.address} isn't {target.name}: it has another ssh host key.",
        f"If {target.name} was reinstalled, put its new key into servers/{target.name}.yaml.",
    )


def _broken(target: Target, error: Exception) -> UnreachableError:
    return UnreachableError(
        "nudge-broken",
        f"The connection to {target.name} broke.",
        "It will catch up automatically within minutes.",
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
        f"On {target.name}, `lxc-gpu status` shows what it is doing.",
        Remedy.WAIT,
    )
