"""Starting and stopping one user's container, and all that has to be right for that."""

from __future__ import annotations

import pwd
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.container import home_files
from reconciler.host import in_words, locks, places
from reconciler.host.published import CurrentView, current_view, resident_of
from reconciler.kinds.traffic.bridge_port import BridgePortKind
from reconciler.kinds.traffic.forward import ForwardKind
from reconciler.kinds.traffic.port_map import PortMapKind
from reconciler.load import idle_stop
from reconciler.mounts.tree import Tree
from reconciler.plan import AnyKind, Tell
from reconciler.requests import banner
from reconciler.requests.unit import PATIENCE, power_of, start_unit
from reconciler.rounds.converge import SupersededError, converge
from reconciler.systems import way_in
from reconciler.systems.attached import detach
from state import command, files
from state.errors import LxcGpuError, Remedy
from state.view import Resident, View
from state.wire.messages import Progress

LATER = (
    "reconciler.kinds.containers.cpu_set", "reconciler.requests.needed",
    "reconciler.requests.prepare",
)  # fmt: skip
"""Modules that are loaded only for a container that doesn't run yet."""
REACHED_BY: tuple[AnyKind, ...] = (BridgePortKind(), PortMapKind(), ForwardKind())
"""The kinds that a running container needs to be reached."""


@dataclass(frozen=True)
class Started:
    """What came of a start."""

    was_running: bool
    """Whether the container ran already, and answered."""
    view: View
    """The view by which it was started."""
    notes: tuple[str, ...] = ()
    """What could not be put in place inside; the owner has to mend it."""


@contextmanager
def alone(user: str, tell: Tell, *, wait: bool = True) -> Iterator[View]:
    """Exclude all other work on the user's container. Gives the view of that moment.

    The view is read after the wait: a key may have been revoked meanwhile. One request waits;
    further ones are refused as `busy`, so that nobody fills the helper's places. Without `wait`,
    each is refused.
    """
    name = locks.user_lock(user)
    with locks.lock(name, wait=False) as free:
        if free:
            yield current_view()
            return
    if not wait:
        raise _busy("Other work on your container is under way.")
    with locks.lock(f"waiting-{user}", wait=False) as first:
        if not first:
            raise _busy("Other work on your container is under way, and a request waits already.")
        tell(Progress("waiting for other work on this container to end"))
        with locks.lock(name):
            yield current_view()


def _busy(message: str) -> LxcGpuError:
    hint = "Try again in a moment; `status` shows how it is."
    return LxcGpuError("busy", message, hint, Remedy.WAIT)


def start(
    user: str,
    tell: Tell,
    *,
    reached: bool = True,
    wait: bool = True,
    runs: Callable[[str], Callable[[], bool]] = lambda monitor: lambda: False,
    works: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
) -> Started:
    """Have the container up and its port mapped; `reached`: and its sshd answering.

    `wait`: for other work on it to end (`alone`). `runs` is called at once for a container that
    runs already, with the process id of its lxc-start. What it returns says later whether the way
    to the keys is known to be clear. `works` is called before each thing that takes more than a
    moment, so several times. `patience`: seconds for systemd, and then for sshd.
    """
    resident_of(current_view(), user)
    with alone(user, tell, wait=wait) as view:
        resident = resident_of(view, user)
        return start_alone(
            view, user, resident, tell,
            reached=reached, runs=runs, works=works, patience=patience,
        )  # fmt: skip


def stop(
    user: str,
    tell: Tell,
    *,
    for_good: bool = True,
    wait: bool = True,
    sure: Callable[[View], None] = lambda view: None,
) -> bool:
    """Shut the container down in order. False if it wasn't running.

    `for_good`: it stays down after a reboot of the server. `wait`: as for a start. `sure` is
    called when all other work on it has ended, and may raise an error to keep it running.
    """
    if not power_of(user).running:  # a running container can be stopped even if its disk is away
        resident_of(current_view(), user)
    with alone(user, tell, wait=wait) as view:
        idle_stop.forget_stopped(user)
        sure(view)
        if for_good:  # before: the server may go down while the container does
            (places.RUNNING / user).unlink(missing_ok=True)
            files.sync_folder(places.RUNNING)
        return stop_alone(user, tell)


def begin_to_stop(user: str, tell: Tell) -> bool:
    """Have the container shut down meanwhile, and `stop_alone` wait for that. Whether it ran."""
    runs = power_of(user).active not in ("inactive", "failed")
    if runs:
        tell(Progress("shutting the container down"))
        command.run(["systemctl", "stop", "--no-block", places.container_unit(user)])
    return runs


def stop_alone(user: str, tell: Tell) -> bool:
    """Stop the container for a moment; the caller is `alone` and starts it again.

    It stays noted as running, so that it comes back after a reboot even if the caller is killed.
    """
    runs = power_of(user).active not in ("inactive", "failed")
    if runs:
        tell(Progress("shutting the container down"))
        command.run(["systemctl", "stop", places.container_unit(user)], timeout=120)
    detach(user)
    return runs


def start_alone(
    view: View,
    user: str,
    resident: Resident,
    tell: Tell,
    *,
    reached: bool = True,
    runs: Callable[[str], Callable[[], bool]] = lambda monitor: lambda: False,
    works: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
) -> Started:
    """Do what `start` does; the caller is `alone`."""
    refuse_while_closed(view)
    power = power_of(user)
    was_running = power.running
    asked = banner.ask_for(resident.address) if was_running and reached else None
    way_is_clear = runs(power.monitor) if was_running else None
    if not was_running or view.driver == "install":
        works()
    notes = _made_right(view, user, REACHED_BY if was_running else _needed())
    if way_is_clear is None:
        notes = _booted(view, user, resident, notes, tell, patience)
    elif not way_is_clear():
        notes = (*notes, *_way_in_mended(view, user, resident, works))
    waited = reached and not (asked is not None and banner.came(asked))
    if waited:
        works()
        banner.wait_for(view, user, resident, notes, tell, patience)
    if not was_running:  # the container's port exists only now
        converge((BridgePortKind(),), view.only(user), only=user)
    if reached and view.driver == "install":
        from reconciler.nvidia.install import bring_in_step

        notes += bring_in_step(view, user, resident, tell)
    return Started(was_running and not waited, view, notes)


def _booted(
    view: View, user: str, resident: Resident, notes: tuple[str, ...], tell: Tell, patience: float
) -> tuple[str, ...]:
    """Have systemd start the container. Returns the notes so far, and more."""
    from reconciler.requests.prepare import prepare  # not on the way of a container that runs

    _look_for_account(view.account_of(user))
    notes = (*notes, *_why_it_was_down(user), *prepare(view, user, resident))
    for note in notes:
        tell(Progress(f"note: {note}"))
    tell(Progress("starting the container"))
    start_unit(user, patience)
    return (*notes, *_cpus_given(view, user))  # while its init is on its way


def _made_right(view: View, user: str, kinds: Sequence[AnyKind]) -> tuple[str, ...]:
    """Put these kinds right. Returns notes on failures that allow a start; else LxcGpuError."""
    try:
        outcome = converge(kinds, view.only(user), only=user, current=CurrentView(view.revision))
    except SupersededError as error:
        raise LxcGpuError(
            "superseded", "The state changed just now.", "Try again.", Remedy.RETRY
        ) from error
    notes: tuple[str, ...] = ()
    for failure in outcome.failures:
        if failure.kind != ForwardKind.name:  # without those ports, ssh works all the same
            raise failure.error()
        notes = (*notes, f"{failure.message} {failure.hint}")
    return notes


def note_down(user: str) -> None:
    """Note that the user's container ran, so that it is started again after an announcement.

    `stop` removes the note.
    """
    if not (places.DOWN / user).exists():
        places.DOWN.mkdir(mode=0o755, exist_ok=True)
        files.write_file(places.DOWN / user, "")


def refuse_while_closed(view: View) -> None:
    """LxcGpuError while containers are down for an announcement."""
    announcement = view.closed_by(time.time())
    if announcement is not None:
        until = in_words.moment_in_zone(announcement.ends)
        raise LxcGpuError(
            "closed",
            f"Containers on {view.server} are shut down until {until}: {announcement.text}",
            "Those that ran are started again then. "
            f"After that, `ssh {view.server}-manage` starts yours.",
            Remedy.WAIT,
        )


def _why_it_was_down(user: str) -> tuple[str, ...]:
    """A note that it was stopped because nobody used it; said once."""
    stopped = idle_stop.stopped(user)
    if stopped is None:
        return ()
    idle_stop.forget_stopped(user)
    return (idle_stop.in_words(stopped),)


def _needed() -> tuple[AnyKind, ...]:
    from reconciler.requests.needed import NEEDED  # not on the way of a container that runs

    return NEEDED


def _cpus_given(view: View, user: str) -> tuple[str, ...]:
    """Give a starting container its CPUs. Returns why not, in words: the quota holds anyway."""
    from reconciler.kinds.containers.cpu_set import CpuSetKind  # as above

    failures = converge((CpuSetKind(),), view, only=user).failures
    return tuple(f"{failure.message} {failure.hint}" for failure in failures)


def _look_for_account(account: str) -> None:
    """LxcGpuError if the account is missing: systemd would only say that the start failed."""
    try:
        pwd.getpwnam(account)
    except KeyError:
        raise LxcGpuError(
            "account-missing",
            f"There is no account {account} on this server, and a container runs as its account.",
            "Sysadmin: `lxc-gpu reconcile` makes it, or says what is in the way.",
        ) from None


def _way_in_mended(
    view: View, user: str, resident: Resident, works: Callable[[], None]
) -> tuple[str, ...]:
    """Mend, in a running container, what keeps its sshd from our keys. Returns notes."""
    tree = Tree.of(view, user, resident)
    notes = way_in.mend(view, user, resident, tree, works)
    notes += way_in.mend_mounted(view, user, resident, works)
    if notes:  # our files may have been out of reach for a while
        try:
            home_files.write(tree, user, home_files.desired_files(view, user, resident))
        except LxcGpuError as error:
            notes += (f"{error.message} {error.hint}".rstrip(),)
    return notes
