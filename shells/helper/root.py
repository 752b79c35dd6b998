"""The root helper: one request over the socket, one process, done as root.

systemd starts one for each connection (systemd.socket(5), Accept=yes), with the connection as
stdin and stdout. What was begun is finished even if the other side has gone, unless nobody has
anything of it then: that ends, and with this program all that it started (systemd.kill(5)).
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial

from reconciler.container.undertaking import AskerGoneError
from reconciler.host import key_days
from reconciler.host.locks import one_of
from reconciler.host.places import AUTHORIZED_KEYS
from reconciler.host.published import published_view
from reconciler.plan import Tell
from shells.helper.charged import charge
from shells.helper.request import (
    BUG,
    LONGEST_REQUEST,
    OF_SERVICES,
    Request,
    decode,
    ends_with_its_asker,
    whose,
)
from shells.usage import Verb
from shells.verbs import VerbRequest, serve
from state.connections.sshd import must_stand
from state.errors import LxcGpuError, Remedy
from state.model.manage_account import OTHER
from state.view import View
from state.wire import messages

PATIENCE = 10
"""Seconds that the other side has to say what it wants: our programs connect, then are loaded."""
PLACES = 8
"""Requests that one account may have under way: the socket takes 200 connections, of all together.
So many are enough for `iam`, whose page asks three times at once at most."""
REGISTRATIONS = 64
"""Those of the account `register`, of different users (`shells.helper.registration`)."""


def main(argv: Sequence[str]) -> int:
    """Serve the connection on stdin; the exit status, 1 if the request wasn't done.

    `argv` is the unit that this runs in.
    """
    send = _Sender(sys.stdout.fileno())
    try:
        account, uid, pid = _asker()
        with _place(account, uid):
            view = published_view()
            asker = _user(view, account, uid)
            line, descriptor = _receive()
            if not line:  # it asks nothing after all (shells.helper.ahead)
                return 0
            request = decode(line)
            user = whose(request, asker)
            _ask_for_the_key(account, pid)
            _log(f"event=asked verb={request.verb} asker={asker} user={user or '-'}")
            payer = view.account_of(user) if view else user
            charged = cache(partial(charge, payer, *argv))  # once: its scope is there then
            if request.verb is not Verb.START and asker not in OF_SERVICES:
                charged()
            with _waited_for() if ends_with_its_asker(request) else nullcontext():
                asked = VerbRequest(user, request.options, descriptor, charged)
                answer = _do(request, asked, send)
            send(answer)
    except LxcGpuError as error:
        _log(f"event=refused code={error.code} message={error.message!r} {error.details}")
        send(messages.refusal(error))
        return 1
    except AskerGoneError:
        _log("event=asker-gone")
        return 1
    except Exception:
        import traceback

        _log(traceback.format_exc())
        send(BUG)
        return 1
    return 0


class _Sender:
    """Sends messages until nobody listens; then goes on without."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gone = False

    def __call__(self, message: messages.Message) -> None:
        raw = messages.encode(message).encode()
        while raw and not self._gone:
            try:
                raw = raw[os.write(self._descriptor, raw) :]
            except OSError:
                self._gone = True


def _asker() -> tuple[str, int, int]:
    """The account, its uid and the process at the other end, by the kernel's word.

    SO_PEERCRED, unix(7).
    """
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as connection:
        size = struct.calcsize("3i")
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = struct.unpack("3i", raw)
    try:
        return pwd.getpwuid(uid).pw_name, uid, pid
    except KeyError as error:
        raise LxcGpuError("not-allowed", f"Nobody here has the uid {uid}.") from error


def _user(view: View | None, account: str, uid: int) -> str:
    """The user who owns the account; for root and the services, the account's own name.

    LxcGpuError if it can't be a user's: a server may have people's own accounts besides ours, and
    one in the way of ours has the same name.
    """
    if view is None or account == "root" or account in OF_SERVICES:
        return account
    user = view.user_of(account)
    resident = view.residents.get(user)
    if user.startswith(OTHER) or (resident is not None and resident.uid != uid):
        raise LxcGpuError("not-allowed", f"The account {account} isn't that of a user of lxc-gpu.")
    return user


def _ask_for_the_key(account: str, pid: int) -> None:
    """Note that the asker's key was used today. LxcGpuError if it no longer opens the account."""
    if account == "root":
        return
    keys = must_stand(pid, AUTHORIZED_KEYS / account)
    with suppress(OSError):  # a full disk keeps nobody out
        key_days.note(keys)


@contextmanager
def _place(account: str, uid: int) -> Iterator[None]:
    """One of the account's places, while the request takes; LxcGpuError if none is free."""
    if account == "root":
        yield
        return
    places = REGISTRATIONS if account == "register" else PLACES
    with one_of(f"place-{uid}", places) as free:
        if not free:
            whose = f"of the account {account}" if account in OF_SERVICES else "of yours"
            raise LxcGpuError(
                "busy",
                f"{places} requests {whose} are under way on this server, the most allowed.",
                "Wait until one has ended, then type the same again.",
                Remedy.WAIT,
            )
        yield


def _receive() -> tuple[bytes, int | None]:
    """The request's line, and the descriptor that came with it (unix(7), SCM_RIGHTS)."""
    line, descriptors, deadline = b"", list[int](), time.monotonic() + PATIENCE
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as connection:
        while not line.endswith(b"\n") and len(line) <= LONGEST_REQUEST:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([connection], [], [], left)
            if not ready:
                break
            chunk, sent, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, 1)
            for descriptor in sent:
                os.set_inheritable(descriptor, False)
            descriptors += sent
            if not chunk:
                break
            line += chunk
    for unasked in descriptors[1:]:
        os.close(unasked)
    return line, descriptors[0] if descriptors else None


@contextmanager
def _waited_for() -> Iterator[None]:
    """Raise AskerGoneError in the block as soon as the other side hangs up."""
    main_thread = threading.get_ident()

    def watch() -> None:
        poll = select.poll()
        poll.register(sys.stdin, 0)  # POLLHUP and POLLERR always count (poll(2))
        poll.poll()
        signal.pthread_kill(main_thread, signal.SIGUSR1)

    def leave(*_: object) -> None:
        raise AskerGoneError

    signal.signal(signal.SIGUSR1, leave)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _do(request: Request, asked: VerbRequest, tell: Tell) -> messages.Message:
    if request.verb is Verb.RECONCILE:
        from shells.helper.rounds import reconcile_together

        return reconcile_together(tell, asked.descriptor)
    if request.verb is Verb.REGISTER:
        from shells.helper.registration import register

        return register(asked, tell)
    if request.verb is Verb.TOLD:
        from shells.helper.told import told

        return told(asked.options)
    return serve(request.verb, asked, tell)


def _log(line: str) -> None:
    """One event, on stderr: the journal."""
    print(line, file=sys.stderr, flush=True)
