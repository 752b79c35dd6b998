"""The number of the kernel's rules. `lab/test_kinds.py` has what isn't read again meanwhile."""

from __future__ import annotations

import struct

import pytest

from reconciler.network.generation import parse
from reconciler.network.iptables import parse as parse_tables

ANSWER = struct.pack("=IHHIIBBH", 28, 0x0A0F, 0, 0, 0, 0, 0, 0)
NUMBER = struct.pack("=HH", 8, 1) + (70_000).to_bytes(4, "big")


def test_the_number_is_found_among_what_else_the_kernel_says() -> None:
    other = struct.pack("=HHI", 8, 2, 4711)
    assert parse(ANSWER + NUMBER) == 70_000
    assert parse(struct.pack("=I", 36) + ANSWER[4:] + other + NUMBER) == 70_000
    assert parse(struct.pack("=IH", 20, 2) + ANSWER[6:]) is None  # an error


def test_an_answer_that_is_cut_off_is_none() -> None:
    with pytest.raises(struct.error):
        parse(ANSWER[:10])
    with pytest.raises(struct.error):
        parse(ANSWER + NUMBER[:6])


def test_tables_are_told_apart() -> None:
    text = "*nat\n:A - [0:0]\n-A A -j ONE\nCOMMIT\n*filter\n:A - [0:0]\n-A A -j TWO\nCOMMIT\n"
    tables = parse_tables(text)
    assert tables["nat"].chains == {"A": ("-j ONE",)}
    assert tables["filter"].chains == {"A": ("-j TWO",)}
