"""The root helper: one request over the socket, one process, done as root.

systemd starts one for each connection (systemd.socket(5), Accept=yes), with the connection as
stdin and stdout. What was begun is finished even if the other side has gone.
"""

from __future__ import annotations

import os
import pwd
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence

from reconciler import power
from reconciler.newest import current_view
from reconciler.plan import Tell
from shells import messages
from shells.request import LONGEST_REQUEST, Request, Verb, decode, whose
from state import wire
from state.errors import LxcGpuError
from state.view import View

PATIENCE = 10
"""Seconds that the other side has to say what it wants."""
Do = Callable[[str, Tell], wire.Answer | wire.Report]


def main(argv: Sequence[str]) -> int:
    """Serve the connection on stdin; the exit status, 1 if the request wasn't done."""
    send = _Sender(sys.stdout.fileno())
    try:
        asker = _asker()
        request = decode(_read_line())
        user = whose(request, asker)
        _log(f"event=asked verb={request.verb} asker={asker} user={user or '-'}")
        send(_do(request, user, send))
    except LxcGpuError as error:
        _log(f"event=refused code={error.code} message={error.message!r} {error.details}")
        send(wire.refusal(error))
        return 1
    except Exception:
        import traceback

        _log(traceback.format_exc())
        send(wire.Refusal("bug", "Something went wrong in lxc-gpu itself.",
                          "Sysadmin: `journalctl -t lxc-gpu` has the details."))  # fmt: skip
        return 1
    return 0


class _Sender:
    """Sends messages until nobody listens; then goes on without."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gone = False

    def __call__(self, message: wire.Message) -> None:
        raw = wire.encode(message).encode()
        while raw and not self._gone:
            try:
                raw = raw[os.write(self._descriptor, raw) :]
            except OSError:
                self._gone = True


def _asker() -> str:
    """The account at the other end, by the kernel's word (unix(7), SO_PEERCRED)."""
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as connection:
        size = struct.calcsize("3i")
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", raw)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError as error:
        raise LxcGpuError("not-allowed", f"Nobody here has the uid {uid}.") from error


def _read_line() -> bytes:
    line, deadline = b"", time.monotonic() + PATIENCE
    while not line.endswith(b"\n") and len(line) <= LONGEST_REQUEST:
        left = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], left)
        chunk = os.read(sys.stdin.fileno(), LONGEST_REQUEST) if ready else b""
        if not chunk:
            break
        line += chunk
    return line


def _do(request: Request, user: str, tell: Tell) -> wire.Answer | wire.Report:
    if request.verb is Verb.RECONCILE:
        from shells.rounds import reconcile

        return reconcile(tell)
    if request.verb is Verb.REGISTER:
        from shells.rounds import register

        return register(user, tell)
    verbs: dict[Verb, Callable[[str, Tell], wire.Answer]] = {
        Verb.START: _start,
        Verb.STOP: _stop,
        Verb.RESTART: _restart,
        Verb.STATUS: _status,
    }
    return verbs[request.verb](user, tell)


def _start(user: str, tell: Tell) -> wire.Answer:
    started = power.start(user, tell)
    view = started.view
    text = messages.started(view, user, view.residents[user], was_running=started.was_running)
    lines = [*(f"Note: {note}" for note in started.notes), text]
    facts = {"was_running": started.was_running, "notes": list(started.notes)}
    return wire.Answer("\n".join(lines), {**_facts(view, user, running=True), **facts})


def _stop(user: str, tell: Tell) -> wire.Answer:
    stopped, view = power.stop(user, tell), current_view()
    what = "is shut down" if stopped else "was not running"
    text = f"Your container on {view.server} {what}."
    return wire.Answer(text, {**_facts(view, user, running=False), "was_running": stopped})


def _restart(user: str, tell: Tell) -> wire.Answer:
    power.stop(user, tell)
    return _start(user, tell)


def _status(user: str, tell: Tell) -> wire.Answer:
    view = current_view()
    resident = power.resident_of(view, user)
    now = power.power_of(user)
    lines = [f"Your container on {view.server}: {'running' if now.running else 'stopped'}"]
    if now.running:
        lines += [
            f"  since    {now.since}",
            f"  memory   {messages.size(now.memory)}",
            f"  tasks    {'-' if now.tasks is None else now.tasks}",
        ]
    lines += [f"  address  {resident.address} (inside this server)"]
    lines += [messages.how_to_log_in(view, user, resident)] if now.running else []
    lines += [] if now.running else [f"Start it:  ssh {view.server}-manage"]
    facts = {
        **_facts(view, user, running=now.running),
        "since": now.since,
        "memory_bytes": now.memory,
        "tasks": now.tasks,
    }
    return wire.Answer("\n".join(lines), facts)


def _facts(view: View, user: str, *, running: bool) -> dict[str, object]:
    resident = view.residents[user]
    return {
        "server": view.server,
        "user": user,
        "running": running,
        "host": view.address,
        "port": resident.port,
        "address": resident.address,
    }


def _log(line: str) -> None:
    """One event, on stderr: the journal."""
    print(line, file=sys.stderr, flush=True)
