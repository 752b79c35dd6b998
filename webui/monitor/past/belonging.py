"""Who was in which groups of the directory, week by week. Pure.

Kept as what changed, so that a past week stays as it was when somebody leaves a group or the
laboratory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from webui.config import OTHERS
from webui.monitor.past.records import Used


@dataclass(frozen=True)
class Belonging:
    """By user: from which weeks on they were in which groups, the earliest first."""

    since: Mapping[str, list[tuple[str, tuple[str, ...]]]] = field(default_factory=dict)

    def of(self, user: str, week: str) -> tuple[str, ...] | None:
        """The groups of `user` in `week`, as of its last look; before the first look, as of that.

        None if it was never known.
        """
        found = None
        for began, groups in self.since.get(user, ()):
            if found is None or began <= week:
                found = groups
        return found

    def counted(self, each: Used) -> tuple[str, ...]:
        """The groups in which a line counts: in each of several."""
        return self.of(each.user, each.week) or (OTHERS,)
