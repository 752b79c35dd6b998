"""Tells users which GPUs are reserved until when, and who is on them, in words and as JSON.

Pure but for `overview`, which reads files, and for the server's time zone. The driver isn't asked,
as `start` uses this. A book that can't be read counts as empty here; `reserve` says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from reconciler.host.boot import boot_clock
from reconciler.host.in_words import moment_in_zone as moment
from reconciler.reservations import book_file, use_record
from reconciler.reservations.book import Reservation
from reconciler.reservations.watching import ReservationUse
from state.errors import LxcGpuError
from state.view import View


@dataclass(frozen=True)
class ReservationsOverview:
    """What is reserved on a server, and what the last look saw of its use."""

    server: str
    now: float
    ahead: tuple[Reservation, ...] = ()
    """Residents' reservations that are under way or to come, in the order of their beginnings."""
    seen: Mapping[str, ReservationUse] = field(default_factory=dict)

    def of_gpu(self, gpu: str) -> list[str]:
        """Lines about who has the GPU until when, and who has it next."""
        theirs = [each for each in self.ahead if gpu in each.gpus]
        present = [each for each in theirs if each.in_force(self.now)]
        to_come = [each for each in theirs if not each.in_force(self.now)][:1]
        lines = [f"reserved by {r.user} until {moment(r.ends)}{self._who_is_on(r)}"
                 for r in present]  # fmt: skip
        return lines + [
            f"reserved by {r.user} from {moment(r.begins)} to {moment(r.ends)}" for r in to_come
        ]

    def gpu_facts(self, gpu: str) -> list[dict[str, object]]:
        """The reservations of one GPU for a program, including all to come."""
        return [self._facts(each) for each in self.ahead if gpu in each.gpus]

    def facts(self) -> list[dict[str, object]]:
        """All reservations, for a program."""
        return [{**self._facts(each), "gpus": list(each.gpus)} for each in self.ahead]

    def lines(self, user: str, gpus: Sequence[str]) -> list[str]:
        """What this user reads at a start. `gpus`: the UUIDs of all the server's GPUs, by index."""
        return [
            *self._own(user, gpus),
            *(
                f"GPU {_names(each, gpus)}: reserved by {each.user} until {moment(each.ends)}."
                for each in self.ahead
                if each.in_force(self.now) and each.user != user
            ),
            *self._in_the_way(user, gpus),
        ]

    def _own(self, user: str, gpus: Sequence[str]) -> Iterator[str]:
        for each in (each for each in self.ahead if each.user == user):
            names = _names(each, gpus)
            if not each.in_force(self.now):
                times = f"from {moment(each.begins)} to {moment(each.ends)}"
                yield f"GPU {names}: reserved for you{_by(each)} {times}."
                return  # the next one is enough
            until = f"until {moment(each.ends)}{self._who_is_on(each)}"
            yield f"GPU {names}: reserved for you{_by(each)} {until}."
            since = use_record.unused_since(self.seen.get(each.id), self.now)
            if since is not None:
                yield f"  You have used none of it since {moment(since)}."
                yield f"  If you don't need it:  ssh {self.server}-manage release {each.id}"

    def _in_the_way(self, user: str, gpus: Sequence[str]) -> Iterator[str]:
        for each in self.ahead:
            if user in self._intruders(each):
                names = _names(each, gpus)
                yield f"A program of yours is on GPU {names}, which {each.user} has reserved:"
                yield "  please end it, or agree with them."

    def _who_is_on(self, each: Reservation) -> str:
        others = self._intruders(each)
        return f" ({', '.join(others)} {'is' if len(others) == 1 else 'are'} on it)" * bool(others)

    def _intruders(self, each: Reservation) -> tuple[str, ...]:
        found = self.seen.get(each.id)
        return tuple(sorted(found.intruders)) if found and each.in_force(self.now) else ()

    def _facts(self, each: Reservation) -> dict[str, object]:
        return {
            "id": each.id,
            "user": each.user,
            "made_by": each.made_by,
            "begins": each.begins,
            "ends": each.ends,
            "intruders": list(self._intruders(each)),
            "unused_since": use_record.unused_since(self.seen.get(each.id), self.now),
        }


def overview(view: View, now: float) -> ReservationsOverview:
    """The overview of this server at this moment."""
    ahead: tuple[Reservation, ...] = ()
    with suppress(LxcGpuError):
        ahead = tuple(r for r in book_file.read_open(now).ahead(now) if r.user in view.residents)
    found = use_record.of_now(use_record.read_record(), boot_clock()) if ahead else {}
    return ReservationsOverview(view.server, now, ahead, found)


def _by(each: Reservation) -> str:
    """Words for who reserved it, if that was somebody else."""
    return f" by {each.maker}" * bool(each.maker)


def _names(each: Reservation, gpus: Sequence[str]) -> str:
    """The GPUs by their numbers; a GPU that isn't in the server by its UUID."""
    numbers = [gpus.index(gpu) for gpu in each.gpus if gpu in gpus]
    unknown = [gpu for gpu in each.gpus if gpu not in gpus]
    return ", ".join([*map(str, sorted(numbers)), *unknown])
