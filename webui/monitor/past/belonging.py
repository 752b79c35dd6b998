"""Which users were in which groups of the directory, week by week. Pure.

Only changes are kept. A past week stays as it was when somebody leaves a group or the laboratory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from webui.config import OTHERS
from webui.monitor.past.records import Used


@dataclass(frozen=True)
class Belonging:
    """By user: pairs of a week and the groups from that week on, the earliest first."""

    since: Mapping[str, list[tuple[str, tuple[str, ...]]]] = field(default_factory=dict)

    def of(self, user: str, week: str) -> tuple[str, ...] | None:
        """The groups of `user` at the end of `week`; before the first known week, those of that
        one.

        None if they were never known.
        """
        found = None
        for began, groups in self.since.get(user, ()):
            if found is None or began <= week:
                found = groups
        return found

    def counted(self, each: Used) -> tuple[str, ...]:
        """The groups for which `each` counts. If there are several, it counts for each of them."""
        return self.of(each.user, each.week) or (OTHERS,)
