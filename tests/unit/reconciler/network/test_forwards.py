from __future__ import annotations

from collections.abc import Sequence

import pytest

from reconciler.network.forwards import MOST, Forward, Forwards, from_json, local_ports, to_json
from state.errors import LxcGpuError

PORTS = range(26000, 26004)
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:6590 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0100007F:6591 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0
"""
UDP6 = """\
  sl  local_address                         remote_address                        st tx_queue
  12: 00000000000000000000000000000000:6592 00000000000000000000000000000000:0000 07 00000000
"""


def give(
    forwards: Forwards,
    user: str,
    to_port: int,
    *,
    udp: bool = False,
    busy: Sequence[int] = (),
) -> Forwards:
    return forwards.give(user, "udp" if udp else "tcp", to_port, PORTS, busy)[0]


def ports(forwards: Forwards) -> list[tuple[str, int]]:
    return sorted((user, f.port) for user, own in forwards.of.items() for f in own)


def test_everybody_gets_another_port() -> None:
    forwards = give(give(Forwards(), "ann", 80), "bob", 80)
    assert ports(forwards) == [("ann", 26000), ("bob", 26001)]
    assert forwards.find("bob", "tcp", 80) == Forward("tcp", 26001, 80)
    assert forwards.find("bob", "udp", 80) is None


def test_both_protocols_of_one_user_share_a_number_where_they_can() -> None:
    forwards = give(give(Forwards(), "ann", 80), "ann", 80, udp=True)
    assert ports(forwards) == [("ann", 26000), ("ann", 26000)]
    forwards = give(forwards, "bob", 80, udp=True)
    assert forwards.find("bob", "udp", 80) == Forward("udp", 26001, 80)
    forwards = give(give(Forwards(), "ann", 80), "ann", 80, udp=True, busy=[26000])
    assert ports(forwards) == [("ann", 26000), ("ann", 26001)]


def test_what_was_given_back_is_given_last() -> None:
    forwards = give(give(Forwards(), "ann", 80), "ann", 81)
    forwards = forwards.without("ann", Forward("tcp", 26000, 80))
    given = []
    for to_port in (1, 2, 3):
        forwards, forward = forwards.give("bob", "tcp", to_port, PORTS, ())
        given.append(forward.port)
    assert given == [26002, 26003, 26000]
    with pytest.raises(LxcGpuError, match="All ports from 26000 to 26003"):
        forwards.give("bob", "tcp", 4, PORTS, ())


def test_a_moved_range_begins_anew() -> None:
    forwards, forward = Forwards({}, 30000).give("ann", "tcp", 80, PORTS, [26000])
    assert (forward.port, forwards.last) == (26001, 26001)


def test_nobody_gets_all() -> None:
    forwards = Forwards()
    for to_port in range(MOST):
        forwards, _ = forwards.give("ann", "tcp", to_port + 1, range(26000, 27000), ())
    with pytest.raises(LxcGpuError, match="You have 20 ports"):
        forwards.give("ann", "tcp", 9999, range(26000, 27000), ())
    assert forwards.give("bob", "tcp", 9999, range(26000, 27000), ())[1].port == 26020


def test_text_and_back() -> None:
    forwards = give(give(give(Forwards(), "ann", 80), "bob", 80), "ann", 80, udp=True)
    assert from_json(to_json(forwards)) == forwards
    assert from_json(to_json(Forwards())) == Forwards()
    assert forwards.without("bob", *forwards.of["bob"]).of.keys() == {"ann"}


def one(fields: str, user: str = "ann") -> str:
    return f'{{"last": 0, "forwards": {{"{user}": [{{{fields}}}]}}}}'


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", "\x00", '{"last": 0}', '{"forwards": {}}', "[" * 100_000,
     '{"last": "x", "forwards": {}}', '{"last": 0, "forwards": []}',
     '{"last": 0, "forwards": {"ann": {}}}'[:-2],
     one('"protocol": "tcp", "port": 26000'),
     one('"protocol": "sctp", "port": 26000, "to_port": 80'),
     one('"protocol": "tcp", "port": "26000", "to_port": 80'),
     one('"protocol": "tcp", "port": 26000, "to_port": 65536'),
     one('"protocol": "tcp", "port": true, "to_port": 80'),
     one('"protocol": "tcp", "port": 26000, "to_port": 80, "more": 1'),
     one('"protocol": "tcp", "port": 1, "to_port": 8}, {"protocol": "tcp", "port": 1, '
         '"to_port": 9'),
     one('"protocol": "tcp", "port": 1, "to_port": 8}], "bob": [{"protocol": "udp", "port": 1, '
         '"to_port": 8')],
)  # fmt: skip
def test_what_is_damaged_is_never_taken_for_less(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError, RecursionError)):
        from_json(text)


def test_where_the_server_itself_waits_for_somebody() -> None:
    assert list(local_ports(TCP.splitlines(), udp=False)) == [26000]
    assert list(local_ports(UDP6.splitlines(), udp=True)) == [26002]
    assert list(local_ports([], udp=True)) == []
