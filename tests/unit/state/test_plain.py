"""Values by type hints: what is of another type, or of another release, is never taken for ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state import records
from state.plain import NotPlainError, Seconds, from_json, from_plain, to_json, to_plain


class Colour(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    number: int
    share: float | None = None


@dataclass(frozen=True)
class Everything:
    name: str
    pairs: tuple[Pair, ...]
    two: tuple[int, str]
    by_name: Mapping[str, tuple[Pair, ...]]
    colour: Colour = Colour.RED
    length: Seconds = 0.0
    sure: bool = False
    facts: Mapping[str, Any] | None = None


WHOLE = Everything(
    "ann", (Pair(1), Pair(2, 0.5)), (3, "x"), {"a": (Pair(4),)}, Colour.RED, 1.5, True, {"b": [1]}
)


def test_everything_comes_back_the_same() -> None:
    assert from_json(Everything, to_json(WHOLE)) == WHOLE
    assert to_plain(WHOLE)["pairs"] == [{"number": 1, "share": None}, {"number": 2, "share": 0.5}]


def test_what_has_a_default_may_be_missing() -> None:
    assert from_plain(Pair, {"number": 1}) == Pair(1)
    with pytest.raises(NotPlainError):
        from_plain(Pair, {"share": 1})


def test_fields_of_a_newer_release_are_passed_over_where_that_is_asked_for() -> None:
    with pytest.raises(NotPlainError, match="more"):
        from_plain(Pair, {"number": 1, "more": 2})
    assert from_plain(Pair, {"number": 1, "more": 2}, newer=True) == Pair(1)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 7}, {"name": None}, {"pairs": {}}, {"pairs": [7]}, {"pairs": [{"number": True}]},
        {"pairs": [{"number": 1.0}]}, {"pairs": [{"number": 1, "share": "x"}]}, {"two": [3]},
        {"two": [3, "x", "y"]}, {"by_name": []}, {"by_name": {"a": [{}]}}, {"colour": "blue"},
        {"length": -1}, {"length": True}, {"length": float("nan")}, {"length": float("inf")},
        {"length": 10**400}, {"sure": 1}, {"facts": 7}, {"name": "\ud800"}, {"colour": True},
        {"by_name": {"\udfff": []}}, {"facts": {"number": "\ud800"}},
    ],
)  # fmt: skip
def test_what_is_of_another_type_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(NotPlainError):
        from_json(Everything, json.dumps(to_plain(WHOLE) | change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "\0", "[" * 100_000])
def test_what_is_no_record_is_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotPlainError):
        from_json(Pair, text)
    (tmp_path / "pair").write_text(text)
    assert records.read(tmp_path / "pair", Pair) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3)
    | st.sampled_from(["", "red", "ann", "number", "\ud800", "\udcff"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["number", "share", "a"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def of_their_kinds(made: Everything) -> bool:
    pairs = [*made.pairs, *(pair for each in made.by_name.values() for pair in each)]
    shares = [pair.share for pair in pairs if pair.share is not None]
    texts = [made.name, made.two[1], *made.by_name]
    return (
        {type(each) for each in [made.two[0], *(pair.number for pair in pairs)]} == {int}
        and {type(each) for each in [made.length, *shares]} == {float}
        and {type(each) for each in texts} == {str}
        and (type(made.colour), type(made.sure)) == (Colour, bool)
    )


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from([*to_plain(WHOLE), "more"]), plain, max_size=3), st.booleans()
)
def test_a_file_is_read_as_it_would_be_written_or_not_at_all(
    change: dict[str, object], newer: bool
) -> None:
    text = json.dumps(to_plain(WHOLE) | change)
    try:
        made = from_json(Everything, text, newer=newer)
    except NotPlainError:
        return
    assert of_their_kinds(made)
    again = from_json(
        Everything,
        to_json(made).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"),
    )
    assert repr(again) == repr(made)


@pytest.mark.parametrize("hint", [set[int], bytes, Path])
def test_what_this_can_not_read_is_no_damage(hint: Any) -> None:
    """A field with such a hint would have every record of its kind pass for damaged."""
    kind: Any = NamedTuple("kind", [("value", hint)])
    with pytest.raises(NotImplementedError):
        from_plain(kind, {"value": 1})


def test_a_record_in_a_file(tmp_path: Path) -> None:
    place = tmp_path / "pair"
    assert records.read(place, Pair) is None
    records.write(place, Pair(1), 0o600)
    assert records.read(place, Pair) == Pair(1)
    assert place.stat().st_mode & 0o777 == 0o600
    with pytest.raises(IsADirectoryError):
        records.read(tmp_path, Pair)
    assert records.read_if_possible(tmp_path, Pair) is None
