"""Saves that come while another is being published go together, with the next push.

A push costs a second or two (the repository's hook starts a program and judges), a commit a tenth
of that. One after the other, fifty newcomers would wait minutes; so whoever gets the turn takes
along everybody who waits. Each still gets a commit, a result and numbers of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from state.git.commits import Committed
from state.git.publish import Proposal, Result

MOST_AT_ONCE = 100
"""Proposals in one push."""

PublishAll = Callable[[Sequence[Proposal]], Sequence[Result]]


@dataclass(eq=False)
class _Ticket:
    """One proposal, and what came of it."""

    proposal: Proposal
    result: Committed | Exception | None = None


class Together:
    """Publishes proposals of many threads, those that wait together in one go."""

    def __init__(self, publish_all: PublishAll) -> None:
        self._publish_all = publish_all
        self._turn = Lock()
        self._waiting: deque[_Ticket] = deque()

    def publish(self, proposal: Proposal) -> Committed:
        """What came of `proposal`. LxcGpuError if it is not in the repository now."""
        ticket = _Ticket(proposal)
        self._waiting.append(ticket)
        with self._turn:
            while ticket.result is None:  # nobody before us took it along
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
        except Exception as error:  # each of them has to learn that nothing was saved
            for ticket in tickets:
                ticket.result = error
