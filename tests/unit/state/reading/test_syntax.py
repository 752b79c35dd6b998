"""Files that are read without the parser of YAML: they say to us what they say to it."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError

from state.errors import LxcGpuError
from state.reading.syntax import BadYamlError, Spans, parse
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import user_yaml

WORDS = """
yes no on y n null Null ~ true False 0 -0 00 012 0x1f 0o17 0b1 1_000 1_000. 5. 0__1. 1e3 1.e3 .5 1.5
1.50 .inf -.inf .nan 2001-01-01 2001-01-01T1:2:3Z 12:30:45 190:20:30.15 = << @ ` % & &a * *a ! !!str
| > |- - ? : # , [ ] { } ' '' " / + ( ) . _ a -a a-b a:b a#b é ß ٣ ² \u0301 \u200b \ue000 \U0001f600
"""
TRICKY = WORDS.split()
BREAKS = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]
BETWEEN = [" ", "  ", "\t", ": ", " #", "\n  ", "\0", "\\", "\xa0", "\u3000", "\ufeff", "\ufffe"]
NAMES = ["a", "b", "null", "y", "_", "x" * 60, "x" * 61, "a-b", "é", "-", "? a", "<<", ""]
AROUND = ["", "", "", "\n", "---\n", "...\n", "%YAML 1.1\n", "# a\n", "\ufeff", " "]
values = st.one_of(
    st.sampled_from(TRICKY),
    st.lists(st.sampled_from([*TRICKY, *BREAKS, *BETWEEN]), max_size=4).map("".join),
    st.just("x" * 1100),  # longer than a field's name may be
)
entries = st.builds(
    lambda dash, words: "".join(f"{dash}{each}\n" for each in words),
    st.sampled_from(["  - ", "  - ", "  - ", "- ", "    - ", "  -", "  - - "]),
    st.lists(values, min_size=1, max_size=3),
)
fields = st.builds(
    "{}:{}".format,
    st.sampled_from(NAMES),
    st.one_of(
        values.map(" {}\n".format),
        entries.map("\n{}".format),
        st.builds("{}{}\n{}".format, st.sampled_from(["", " ", "  ", "\t"]), values, entries),
    ),
)
around = st.sampled_from(AROUND)
texts = st.builds("{}{}{}".format, around, st.lists(fields, max_size=3).map("".join), around)


def said_by(content: bytes, spans: Spans | None) -> object:
    try:
        return repr(parse(content, spans))  # 1 is neither True nor 1.0 there
    except BadYamlError as error:
        return error.line, str(error)


@settings(max_examples=1500)
@given(texts)
def test_simple_files_say_what_the_parser_of_yaml_says(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    assert said_by(content, None) == said_by(content, {})  # positions come from that parser alone


@settings(max_examples=300)
@given(
    st.sampled_from(TRICKY)
    | st.text(st.sampled_from("0159_.+-eExobinfaN:T"), min_size=1, max_size=7)
)
def test_a_plain_text_is_what_ruamel_takes_it_for_or_is_refused(value: str) -> None:
    content = f"a: {value}\n".encode()
    with suppress(BadYamlError, ConstructorError):  # that one makes nothing of `=`
        assert repr(parse(content)) == repr(YAML(typ="safe", pure=True).load(content))


@given(st.characters(categories=("L", "M", "N", "Pc")))
def test_every_letter_of_a_simple_text_is_one_to_the_parser_of_yaml(letter: str) -> None:
    content = f"a: {letter}\nb: x{letter}x {letter}\nc:\n  - {letter}\n".encode()
    assert said_by(content, None) == said_by(content, {})


@pytest.mark.parametrize("written", [user_yaml(9, "Eve", "eve"), f"host_key: {ed25519('h')}\n"])
def test_what_we_write_is_read_without_the_parser_of_yaml(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = parse(written.encode(), {})
    monkeypatch.setitem(sys.modules, "ruamel.yaml.error", None)
    assert parse(written.encode()) == known


def test_without_libyaml_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_ruamel_yaml", None)
    with pytest.raises(LxcGpuError, match=r"ruamel\.yaml\.clib is missing") as missing:
        parse(b"a: [1, 2]\n")
    assert missing.value.code == "no-packages"
