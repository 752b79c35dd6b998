"""The fleet's status on its way: what is ours comes back the same, what isn't is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from state.wire.fleet_status import (
    LARGEST,
    BadStatusError,
    FleetStatus,
    OtherFormatError,
    ServerStatus,
    decode,
    encode,
)
from state.wire.server_load import as_text, as_word
from tests.generated_loads import load

LOAD = load("gpu17", 1.7e9)
GPU17 = ServerStatus(
    "gpu17", "172.16.2.17", "converged", revision="f6e602f5c0" * 4, behind=0, last_round=1.7e9,
    heard=1.7e9, load=LOAD, free_gpus=tuple(gpu.index for gpu in LOAD.free_gpus),
)  # fmt: skip
GPU18 = ServerStatus(
    "gpu18", "172.16.2.18", "unreachable", silent_since=1.6e9, why="No route to host.",
)  # fmt: skip
STATUS = FleetStatus(1.7e9, "f6e602f5c0" * 4, (GPU17, GPU18))


def test_what_is_said_is_what_is_heard() -> None:
    assert decode(encode(STATUS)) == STATUS


def test_it_says_its_format_and_every_field_of_a_load() -> None:
    fields = json.loads(encode(STATUS))
    assert fields["format"] == 1
    first = fields["servers"][0]
    assert first["load"]["driver"] == {"loaded": "550.54.15", "installed": "550.54.15"}
    assert {"cpu", "memory", "gpus", "users", "file_systems", "idle"} <= first["load"].keys()


def test_fields_of_a_newer_page_are_passed_over() -> None:
    fields = json.loads(encode(STATUS))
    fields["weather"] = fields["servers"][0]["mood"] = fields["servers"][0]["load"]["wind"] = [1]
    assert decode(json.dumps(fields).encode()) == STATUS


def test_another_format_is_told_from_nonsense() -> None:
    fields = json.loads(encode(STATUS))
    with pytest.raises(OtherFormatError):
        decode(json.dumps({**fields, "format": 2}).encode())
    with pytest.raises(OtherFormatError):
        decode(b'{"format": 2, "fleet": {}}')
    with pytest.raises(BadStatusError) as caught:
        decode(b'{"format": "1"}')
    assert not isinstance(caught.value, OtherFormatError)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("at",), "now"),
        (("at",), float("nan")),
        (("at",), 1e300),
        (("at",), -1),
        (("revision",), "\x1b]0;owned\x07"),
        (("revision",), "a" * 200),
        (("stale",), "two\nlines"),
        (("servers",), None),
        (("servers",), {"0": 1}),
        (("servers", 0, "name"), "gpu17\x1b[2J"),
        (("servers", 0, "name"), "gpu\u202e17"),
        (("servers", 0, "condition"), "splendid"),
        (("servers", 0, "silent_since"), float("inf")),
        (("servers", 0, "why"), "x" * 501),
        (("servers", 0, "suspended"), "\r\n"),
        (("servers", 0, "behind"), -1),
        (("servers", 0, "failures"), 1.5),
        (("servers", 0, "free_gpus"), list(range(65))),
        (("servers", 0, "load"), {}),
        (("servers", 0, "load", "cpu", "percent"), 101),
        (("servers", 0, "load", "gpus", 0, "name"), "\x9b31m"),
        (("servers", 0, "load", "gpus", 0, "users"), [{"user": "a\nb"}]),
    ],
)
def test_lies_are_refused(place: Any, value: Any) -> None:
    fields = json.loads(encode(STATUS))
    at = fields
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises(BadStatusError):
        decode(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b"<!DOCTYPE html>", b"\xff\xfe", b"[" * 400_000, b'{"a":' * 60_000,
     b" " * (LARGEST + 1)],
)  # fmt: skip
def test_what_is_no_status_is_refused(raw: bytes) -> None:
    with pytest.raises(BadStatusError):
        decode(raw)


def test_a_silent_server_has_no_load_of_now() -> None:
    assert GPU17.live is LOAD
    assert GPU17.converged
    silent = ServerStatus("g", "a", "converged", silent_since=1.0, load=LOAD)
    assert silent.live is None
    assert not silent.converged


def test_texts_of_servers_are_made_to_fit() -> None:
    lie = "two\nlines\x1b[2J " + "x" * 3000
    said = ServerStatus("g", "a", "problems", why=as_text(lie), revision=as_word(lie))
    assert decode(encode(FleetStatus(1.0, "r", (said,)))).servers == (said,)
    assert said.why.startswith("two lines\ufffd[2J xxx")
