"""Which server of the directory is asked first."""

from __future__ import annotations

from webui.directory.transport.server_order import LAST_FOR, ServerOrder

THREE = ("one", "two", "three")


def test_those_that_failed_come_last_for_a_while() -> None:
    now = [0.0]
    order = ServerOrder(THREE, lambda: now[0])
    assert order.now() == THREE
    order.failed("one")
    assert order.now() == ("two", "three", "one")
    now[0] = LAST_FOR / 2
    order.failed("two")
    assert order.now() == ("three", "one", "two")
    now[0] = LAST_FOR
    assert order.now() == ("one", "three", "two")
    now[0] = LAST_FOR * 2
    assert order.now() == THREE


def test_of_those_that_failed_the_one_whose_failure_is_oldest_comes_first() -> None:
    now = [0.0]
    order = ServerOrder(THREE, lambda: now[0])
    for now[0], server in enumerate(("two", "three", "one")):
        order.failed(server)
    assert order.now() == ("two", "three", "one")


def test_one_that_answered_is_well() -> None:
    order = ServerOrder(THREE, lambda: 0.0)
    for server in THREE:
        order.failed(server)
    assert order.now() == THREE
    order.answered("two")
    assert order.now() == ("two", "one", "three")
