"""Places for live pages: who has many can't keep others out."""

from __future__ import annotations

from itertools import repeat

from flask import Response

from webui.live import LEAVING, LiveStreams


def enter(places: LiveStreams, address: str) -> Response:
    return places.stream(repeat("event"), address)


def goes_on(page: Response) -> bool:
    return next(iter(page.response), None) is not None


def test_the_address_that_has_most_loses_its_oldest() -> None:
    places = LiveStreams(4)
    crowd = [enter(places, "crowd") for _ in range(3)]
    other = enter(places, "other")
    newcomer = enter(places, "newcomer")
    assert newcomer.status_code == 200
    assert [goes_on(page) for page in (*crowd, other, newcomer)] == [False, True, True, True, True]


def test_shares_become_equal_and_then_nobody_is_sent_away() -> None:
    """Else two crowds would take each other's places forever."""
    places = LiveStreams(6)
    first = [enter(places, "a") for _ in range(9)]
    assert [page.status_code for page in first] == [200] * 6 + [503] * 3
    second = [enter(places, "b") for _ in range(9)]
    assert [page.status_code for page in second] == [200] * 3 + [503] * 6
    assert [enter(places, each).status_code for each in "aabb"] == [503] * 4
    assert sum(map(goes_on, first[:6])) == 3


def test_threads_that_are_held_still_are_counted() -> None:
    places = LiveStreams(100)
    crowd = [enter(places, "crowd") for _ in range(100)]
    others = [enter(places, f"other {n}") for n in range(LEAVING + 1)]
    assert [page.status_code for page in others] == [200] * LEAVING + [503]
    crowd[0].close()  # its thread is free
    assert enter(places, "another").status_code == 200


def test_a_place_is_given_back_once() -> None:
    places = LiveStreams(1)
    page = enter(places, "a")
    page.close()
    page.close()
    assert [enter(places, each).status_code for each in "ab"] == [200, 503]
