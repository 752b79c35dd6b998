"""Finds the resident of a uid: their own uid, or a subordinate one of their container."""

from __future__ import annotations

from bisect import bisect_right

from state.view import View


class Owners:
    """The residents of one view, by uid."""

    def __init__(self, view: View) -> None:
        self._size = view.subid_size
        self._own = {resident.uid: name for name, resident in view.residents.items()}
        ranges = sorted((resident.subid, name) for name, resident in view.residents.items())
        self._first = [subid for subid, _ in ranges]
        self._names = [name for _, name in ranges]

    def of(self, uid: int) -> str | None:
        """The resident whose own or subordinate uid this is."""
        place = bisect_right(self._first, uid) - 1
        if place >= 0 and uid - self._first[place] < self._size:
            return self._names[place]
        return self._own.get(uid)
