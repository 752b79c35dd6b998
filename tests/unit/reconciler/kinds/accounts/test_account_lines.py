"""Files that are shared with others: their lines stay, byte for byte."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.kinds.accounts import subids, usernet

OTHERS = "chen:100000:65536\n# a note\nlqchenx:165536:65536\n"


def test_only_the_line_of_that_very_name_is_replaced() -> None:
    text = subids.replace_lines(OTHERS + "lqchen:1:2\n", {"lqchen": ((18126464, 262144),)})
    assert text == OTHERS + "lqchen:18126464:262144\n"


def test_all_ranges_of_a_name_are_seen() -> None:
    assert subids.parse("ann:1:2\nann:5:6\nbob:x:1\n") == {"ann": ((1, 2), (5, 6))}


@given(st.lists(st.from_regex(r"\A[a-z]{1,6}:[0-9]{1,6}:[0-9]{1,6}\Z"), max_size=8))
def test_replacing_twice_is_replacing_once(lines: list[str]) -> None:
    wanted = {"ann": ((5, 6),)}
    once = subids.replace_lines("".join(f"{line}\n" for line in lines), wanted)
    assert subids.replace_lines(once, wanted) == once
    assert subids.parse(once)["ann"] == ((5, 6),)


def test_plugs_into_other_bridges_are_none_of_ours() -> None:
    text = "ann veth lxcbr0 10\nann veth lxcgpu0 5\nbob veth lxcgpu0 1\n"
    assert usernet.parse(text) == {"ann": 5, "bob": 1}
    assert usernet.replace_lines(text, {"ann": 1}) == (
        "ann veth lxcbr0 10\nbob veth lxcgpu0 1\nann veth lxcgpu0 1\n"
    )
    assert usernet.replace_lines(text, {"bob": None}) == "ann veth lxcbr0 10\nann veth lxcgpu0 5\n"
