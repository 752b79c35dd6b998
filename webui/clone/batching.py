"""Batches saves: those that come during a push share the next one.

A push takes a second or two, since the repository's hook checks it; a commit takes a tenth of that.
One after the other, fifty newcomers would wait for minutes. So whoever's turn it is also publishes
the proposals that wait. Each still gets its own commit, result and numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from state.git.commits import Committed
from state.git.publish import Proposal, Result

MOST_AT_ONCE = 100
"""Proposals in one push, at most."""

PublishAll = Callable[[Sequence[Proposal]], Sequence[Result]]


@dataclass(eq=False)
class _Ticket:
    """One proposal and its result."""

    proposal: Proposal
    result: Committed | Exception | None = None


class Batcher:
    """Publishes proposals of many threads, with one push for all that wait. Thread-safe."""

    def __init__(self, publish_all: PublishAll) -> None:
        self._publish_all = publish_all
        self._turn = Lock()
        self._waiting: deque[_Ticket] = deque()

    def publish(self, proposal: Proposal) -> Committed:
        """Publish `proposal`. LxcGpuError if it isn't in the repository then."""
        ticket = _Ticket(proposal)
        self._waiting.append(ticket)
        with self._turn:
            while ticket.result is None:  # no other thread has published it
                self._publish_waiting()
        if isinstance(ticket.result, Exception):
            raise ticket.result
        return ticket.result

    def _publish_waiting(self) -> None:
        count = min(len(self._waiting), MOST_AT_ONCE)
        tickets = [self._waiting.popleft() for _ in range(count)]
        try:
            results: Sequence[Result] = self._publish_all([ticket.proposal for ticket in tickets])
            for ticket, result in zip(tickets, results, strict=True):
                ticket.result = result
        except Exception as error:  # every one of them has to get it
            for ticket in tickets:
                ticket.result = error
