"""Run a program in a container that runs: as its root, in all its namespaces and its cgroup.

What runs there belongs to the container and may be hostile. So the child is confined as the
container is before it does anything there, and a program gets nothing of ours but what is lent to
it: no environment, no descriptors.
`lxc-attach` from outside the container's cgroup fails for containers started by users
(lxc/lxc#4440); namespaces(7), setns(2), nsenter(1).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.children import denied
from reconciler.children.forked import Child, readable
from reconciler.host import places
from reconciler.host.monitors import children, monitors
from state import command
from state.errors import LxcGpuError

PID_NAMESPACE = "pid"
NAMESPACES = ("user", "mnt", "uts", "ipc", "net", "cgroup")
"""All others, in the order in which they are entered."""
TIME_NAMESPACE = "time"
"""Entered last, where the container has its own (reconciler.container.clock)."""
LONGEST = 1 << 16
"""Bytes of what a program says that are kept: the last ones."""
LENT = 9
"""The descriptor that a lent file has inside."""
CGROUPS = Path("/sys/fs/cgroup")
GRACE = 2.0
"""Seconds between being asked to end and being killed."""
LEFT_BEHIND = 1.0
"""Seconds that being killed may take."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


@dataclass(frozen=True)
class Ended:
    """How a program in a container ended."""

    status: int | None
    """None: it ran too long and was killed."""
    said: str
    """The end of its output; whatever a hostile program likes."""


@dataclass(frozen=True)
class _Init:
    """A container's init: where it is, and what it may do."""

    pid_namespace: int
    namespaces: Sequence[int]
    groups: str
    """Its control groups (/proc/PID/cgroup)."""
    label: str
    """AppArmor's; empty if it isn't confined by a profile."""


def run(
    user: str,
    argv: Sequence[str],
    *,
    lent: int,
    patience: float,
    tick: Callable[[float], None],
) -> Ended:
    """Run `argv` to its end, the descriptor `lent` as descriptor LENT; `tick` gets the seconds.

    LxcGpuError if the container doesn't run.
    """

    def act(says: int) -> None:
        os.dup2(says, 1)
        os.dup2(says, 2)
        os.dup2(lent, LENT)
        os.set_inheritable(LENT, True)  # should it have been that one already
        os.execvpe(argv[0], list(argv), command.environment({"HOME": "/root"}))  # noqa: S606

    return begun(user, act, (lent,)).wait(patience, tick)


@dataclass(frozen=True)
class Begun:
    """A child in a container whose output is heard on this side."""

    child: Child
    output: int
    """The descriptor of a pipe."""
    said: bytearray = field(default_factory=bytearray)
    """What was read of it already."""

    def first_line(self, patience: float) -> str:
        """The first line that it says; `wait` gives it, too. Empty: not within so many seconds."""
        until = time.monotonic() + patience
        while b"\n" not in self.said and len(self.said) < LONGEST:
            left = until - time.monotonic()
            chunk = os.read(self.output, LONGEST) if readable([self.output], left) else b""
            if not chunk:
                return ""
            self.said.extend(chunk)
        return self.said.partition(b"\n")[0].decode("utf-8", "replace")

    def wait(
        self,
        patience: float,
        tick: Callable[[float], None] = lambda _: None,
        *,
        leave: bool = True,
        left_behind: float = LEFT_BEHIND,
    ) -> Ended:
        """Wait for its end, and end it after `patience` seconds; `tick` gets the seconds.

        What it left running inside is the container's own business, if it may `leave` anything.
        `left_behind`: as for `end`.
        """
        try:
            return _waited(self, patience, tick, leave, left_behind)
        finally:
            os.close(self.output)
            self.child.leave()


def begun(
    user: str, act: Callable[[int], None], kept: Collection[int] = (), monitor: str = ""
) -> Begun:
    """Start a child as `started` does; `act` gets the descriptor that is heard here."""
    output, says = os.pipe2(os.O_CLOEXEC)
    try:
        child = started(user, lambda: act(says), kept=(says, *kept), says=says, monitor=monitor)
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(says)
    return Begun(child, output)


def started(
    user: str, act: Callable[[], None], *, kept: Collection[int], says: int, monitor: str = ""
) -> Child:
    """Start a child that is in the user's container, as its root, and there calls `act`.

    It leads a session of its own, keeps the descriptors `kept` only, and what it can't do it writes
    to `says`. `monitor`: the process id of its lxc-start, where the caller has just asked for it.
    LxcGpuError if the container doesn't run.
    """
    with ExitStack() as opened:
        init = _init(user, monitor or monitors([user])[user], opened)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            with _children_in(libc, init.pid_namespace):
                return Child(lambda: _become(libc, init, act, says), [*kept, *init.namespaces])
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
                raise
            raise _not_running() from error  # it has ended meanwhile


def _waited(
    begun: Begun, patience: float, tick: Callable[[float], None], leave: bool, left_behind: float
) -> Ended:
    child, stream, said = begun.child, begun.output, bytes(begun.said)
    began = time.monotonic()
    os.set_blocking(stream, False)
    watched = {stream, child.fileno()}
    while (passed := time.monotonic() - began) < patience:
        tick(passed)
        ready = readable(watched, min(0.5, patience - passed))
        said = (said + (raw := _read(stream)))[-LONGEST:]
        if stream in ready and not raw:
            watched.remove(stream)  # closed
        if child.fileno() in ready:
            if not leave:  # before its number, which is the session's, is another's
                _signal_session(child.pid, signal.SIGKILL)
            child.has_ended()
            return Ended(child.status, said.decode("utf-8", "replace"))
    end(child, grace=0, left_behind=left_behind)
    return Ended(None, said.decode("utf-8", "replace"))


def end(child: Child, grace: float = GRACE, left_behind: float = LEFT_BEHIND) -> None:
    """Hang up on the child and on all of its session; what is still there then is killed.

    That may take `left_behind` seconds. One that waits for a FUSE program of the container's
    can't be killed. It is left behind, and ends with the container (setup/executables/ended).
    """
    if grace:
        _signal_session(child.pid, signal.SIGHUP)
        until = time.monotonic() + grace
        while any(_session(child.pid)) and time.monotonic() < until:
            time.sleep(0.05)
    for _ in range(10):  # one that forks all the time isn't caught at once
        if not _signal_session(child.pid, signal.SIGKILL):
            break
        time.sleep(0.01)
    child.kill(left_behind)  # it may not lead a session yet
    child.leave()


def cgroups_of(text: str) -> tuple[str, ...]:
    """The files to write a process id to, to join who has this /proc/PID/cgroup. Pure."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    unified = "unified" if any(number != "0" for number, _, _ in lines) else ""
    return tuple(
        f"{name.removeprefix('name=') or unified}{path.rstrip('/')}/cgroup.procs".lstrip("/")
        for _, name, path in lines
    )


def others_of(text: str) -> Iterator[Path]:
    """Those of `cgroups_of` that this process isn't in yet: to join one may take milliseconds."""
    own = frozenset(cgroups_of(Path("/proc/self/cgroup").read_text()))
    return (CGROUPS / path for path in cgroups_of(text) if path not in own)


def label_of(text: str) -> str:
    """The profile in /proc/PID/attr/current, `NAME (MODE)`; empty for none. Pure."""
    name = text.strip("\0\n ").rpartition(" (")[0] or text.strip("\0\n ")
    return "" if name == "unconfined" else name


def _init(user: str, monitor: str, opened: ExitStack) -> _Init:
    """The container's init, its namespaces opened: surely of one process, and at home there."""
    unit = places.container_unit(user)
    parent = Path("/proc") / monitor
    ours = Path("/proc/self/ns/user").readlink()
    with suppress(FileNotFoundError, ProcessLookupError):
        for pid in children(monitor):
            folder = Path("/proc") / pid
            descriptors = list[int]()
            for name in (PID_NAMESPACE, *NAMESPACES, *_own_time(folder)):
                descriptors.append(os.open(folder / "ns" / name, os.O_RDONLY | os.O_CLOEXEC))
                opened.callback(os.close, descriptors[-1])
            groups = (folder / "cgroup").read_text()
            init = _Init(descriptors[0], descriptors[1:], groups, _label(folder))
            # before LXC has it become init, it is lxc-start, with the server's files in sight
            at_home = (folder / "ns/user").readlink() != ours and not (folder / "exe").samefile(
                parent / "exe"
            )
            # still lxc-start's child, so it was nobody else meanwhile; and of no other user's
            if at_home and f"/{unit}/" in groups and pid in children(monitor):
                return init
    raise _not_running()


def _own_time(process: Path) -> tuple[str, ...]:
    """The server's own can't be entered: it isn't a namespace of the container's."""
    ours = Path("/proc/self/ns") / TIME_NAMESPACE
    if ours.exists() and (process / "ns" / TIME_NAMESPACE).readlink() != ours.readlink():
        return (TIME_NAMESPACE,)
    return ()


def _not_running() -> LxcGpuError:
    return LxcGpuError("not-running", "The container does not run.", "Start it first.")


def _label(folder: Path) -> str:
    try:
        return label_of((folder / "attr/current").read_text())
    except OSError:  # no AppArmor in this kernel
        return ""


@contextmanager
def _children_in(libc: ctypes.CDLL, namespace: int) -> Iterator[None]:
    """Children forked in the block are in that pid namespace; this process stays where it is."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(libc, namespace)
        yield
    finally:
        _setns(libc, own)
        os.close(own)


def _setns(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, 0) != 0:  # os.setns is Python 3.12's
        raise OSError(ctypes.get_errno(), "setns")


def _become(libc: ctypes.CDLL, init: _Init, act: Callable[[], None], says: int) -> None:
    """In the child. What is open still closes with execve(2)."""
    refused = denied.program()
    try:
        os.setsid()
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # until execve(2), nobody inside may look into it
        for join in others_of(init.groups):
            with suppress(FileNotFoundError):  # a v1 hierarchy that is not mounted here
                join.write_text("0\n")
        if init.label:
            _confine(init.label)
        # from here on every path is the container's: nothing is opened or imported any more
        for namespace in init.namespaces:
            _setns(libc, namespace)
            os.close(namespace)
        denied.take_on(libc, refused)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.chdir("/")
        os.umask(0o022)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; a program expects neither
            signal.signal(ignored, signal.SIG_DFL)
        act()
    except OSError as error:
        with suppress(OSError):
            os.write(says, f"{error.filename or ''}: {error.strerror}\n".encode())


def _confine(label: str) -> None:
    """By AppArmor from execve(2) on; it has to be this process that asks (apparmor(7))."""
    folder = Path("/proc/self/attr")
    new = folder / "apparmor/exec"
    (new if new.exists() else folder / "exec").write_text(f"exec {label}")


def _session(leader: int) -> Iterator[int]:
    """The processes of the session that `leader`, a child not yet waited for, leads."""
    with os.scandir("/proc") as found:
        pids = [int(each.name) for each in found if each.name.isdigit()]
    return (pid for pid in pids if _is_of(leader, pid))


def _is_of(leader: int, pid: int) -> bool:
    """Whether it runs in that session. By system calls alone: a server has thousands of processes,
    and a login waits until all were asked.
    """
    try:
        stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        state, _, _, session = os.read(stat, 4096).rpartition(b")")[2].split(None, 4)[:4]
    except OSError:  # it has ended meanwhile
        return False
    finally:
        os.close(stat)
    return int(session) == leader and state not in (b"Z", b"X")


def _signal_session(leader: int, number: signal.Signals) -> bool:
    """Send it to all of the session; whether there was anybody.

    A number that was given to another process meanwhile is noticed: its descriptor is opened first.
    """
    found = False
    for pid in _session(leader):
        with suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if _is_of(leader, pid):
                    signal.pidfd_send_signal(descriptor, number)
                    found = True
            finally:
                os.close(descriptor)
    return found


def _read(stream: int) -> bytes:
    """What there is to read, a sane amount of it; nothing at its end, too."""
    try:
        return os.read(stream, LONGEST)
    except BlockingIOError:
        return b""
