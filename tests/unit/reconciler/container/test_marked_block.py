from hypothesis import given
from hypothesis import strategies as st

from reconciler.container.marked_block import BEGIN, END, read_block, with_block

LINES = st.lists(st.sampled_from(["ssh-rsa own", "# a note", "", BEGIN, END, "x y z"]), max_size=12)


def test_the_owners_lines_stay_around_the_block() -> None:
    text = with_block("mine\n", "ours\n")
    assert text == f"mine\n{BEGIN}\nours\n{END}\n"
    assert with_block(text + "mine too\n", "new\n") == f"mine\n{BEGIN}\nnew\n{END}\nmine too\n"


def test_a_block_can_go_first() -> None:
    assert with_block("Host *\n", "Include x\n", first=True).startswith(BEGIN)


def test_a_begin_without_an_end_swallows_nothing() -> None:
    assert "mine" in with_block(f"{BEGIN}\nmine\n", "ours\n")


@given(LINES, st.lists(st.sampled_from(["a", "b c"]), max_size=3))
def test_what_is_put_in_is_read_back_and_putting_it_in_again_changes_nothing(
    lines: list[str], block: list[str]
) -> None:
    ours = "".join(f"{line}\n" for line in block)
    text = with_block("".join(f"{line}\n" for line in lines), ours)
    assert read_block(text) == ours
    assert with_block(text, ours) == text
