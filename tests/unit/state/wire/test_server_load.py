"""A load on its way between machines: what is ours comes back the same, what isn't is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from state.errors import LxcGpuError
from state.wire.messages import BadMessageError, Refusal
from state.wire.messages import encode as encode_message
from state.wire.notices import Facts, Notice, NoticeKind
from state.wire.server_load import (
    LONGEST_LINE,
    CpuLoad,
    DriverVersions,
    GpuLoad,
    GpuProblem,
    GpuUser,
    IdleContainer,
    MemoryLoad,
    MigLoad,
    ReservedGpus,
    ServerLoad,
    UserLoad,
    decode,
    encode,
)

GPU = GpuLoad(0, "GPU-1", "NVIDIA H100", 80 << 30, 3 << 30, 71.0, 60, 300.5, 700, users=(
    GpuUser("ann", 2 << 30), GpuUser("lqchen")))  # fmt: skip
LOAD = ServerLoad(
    "gpu17", 1.7e9, 5, CpuLoad(3.5, 64, 48), MemoryLoad(1 << 40, 1 << 39),
    DriverVersions("550.54.14", "550.54.14"), (GPU,), users=(UserLoad("ann", 2.5, 1 << 30, 12),),
    idle=(IdleContainer("li", 1.6e9),),
    reservations=(ReservedGpus("r1", "ann", ("GPU-1",), 1.7e9, 1.8e9, 1.75e9, ("li",)),),
    notices=(Notice("0123456789ab", "li", NoticeKind.IDLE, 1.7e9, Facts(at=1.6e9)),),
)  # fmt: skip


def test_what_is_said_is_what_is_heard() -> None:
    assert decode(encode(LOAD).encode()) == LOAD
    silent = ServerLoad("gpu18", 1.7e9, 5, CpuLoad(0, 1), MemoryLoad(1, 1),
                        gpu_problem=GpuProblem("gpu-hangs", "No answer."))  # fmt: skip
    assert decode(encode(silent).encode()) == silent


def test_fields_of_a_newer_server_are_passed_over() -> None:
    fields = json.loads(encode(LOAD))
    fields["load"]["wind"] = fields["load"]["gpus"][0]["fans"] = [1, 2]
    assert decode(json.dumps(fields).encode()) == LOAD


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("cpu", "percent"), 101),
        (("cpu", "percent"), -1),
        (("cpu", "percent"), float("nan")),
        (("cpu", "percent"), float("inf")),
        (("cpu", "percent"), "3.5"),
        (("cpu", "percent"), None),
        (("cpu", "cpus"), 0),
        (("cpu", "cpus"), 10**30),
        (("cpu",), None),
        (("memory", "total"), 1.5),
        (("memory", "total"), -5),
        (("server",), "gpu17\x1b[2J"),
        (("server",), "g" * 200),
        (("at",), 1e300),
        (("idle", 0, "since"), 2.0**40),
        (("reservations", 0, "ends"), 2.0**40),
        (("reservations", 0, "user"), "a\x00nn"),
        (("reservations", 0, "gpus"), ["GPU-1"] * 65),
        (("reservations", 0, "intruders"), ["\x1b[2J"]),
        (("reservations",), [json.loads(encode(LOAD))["load"]["reservations"][0]] * 501),
        (("gpus",), [{}]),
        (("gpus",), {"0": {}}),
        (("gpus", 0, "name"), "A\n100"),
        (("gpus", 0, "index"), -1),
        (("gpus", 0, "users", 0, "user"), 7),
        (("gpus", 0, "users", 0, "memory"), -1),
        (("users", 0, "user"), "a\x00nn"),
        (("users", 0, "cpus"), float("-inf")),
        (("gpu_problem",), "none"),
        (("gpus",), [json.loads(encode(LOAD))["load"]["gpus"][0]] * 65),
    ],
)
def test_lies_are_refused(place: Any, value: Any) -> None:
    fields = json.loads(encode(LOAD))
    at = fields["load"]
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises(BadMessageError):
        decode(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"null", b'{"load":{}}', b'{"report":{}}', b"\xff\xfe", b"[" * 400_000,
     b'{"load":' * 60_000, b" " * (LONGEST_LINE + 1), b'{"refusal":{}}'],
)  # fmt: skip
def test_what_is_no_load_is_refused(line: bytes) -> None:
    with pytest.raises(BadMessageError):
        decode(line)


def test_a_refusal_is_raised_as_the_error_it_was() -> None:
    line = encode_message(Refusal("usage", "The verbs here: reconcile.", "Upgrade it."))
    with pytest.raises(LxcGpuError, match="The verbs here"):
        decode(line.encode())


def test_a_gpu_is_free_when_nobody_holds_it_and_it_does_nothing() -> None:
    idle = GpuLoad(0, "GPU-1", "A", 80 << 30, 600 << 20, 0.0)
    assert idle.free
    assert GpuLoad(0, "GPU-1", "A", 80 << 30, 600 << 20).free
    assert not GPU.free
    assert not GpuLoad(0, "GPU-1", "A", 80 << 30, 600 << 20, 40.0).free
    assert not GpuLoad(0, "GPU-1", "A", 80 << 30, 30 << 30, 0.0).free
    assert not GpuLoad(0, "GPU-1", "A", 80 << 30, 0, 0.0, users=(GpuUser("ann"),)).free
    assert GpuLoad(
        0, "GPU-1", "A", 80 << 30, 300 << 20, 0.0, users=(GpuUser("system", 300 << 20),)
    ).free


def test_a_mig_instance_comes_along() -> None:
    part = MigLoad("MIG-1", "1g.10gb", 10 << 30, 1 << 20)
    load = ServerLoad("g", 1, 5, CpuLoad(0, 1), MemoryLoad(1, 1),
                      gpus=(GpuLoad(0, "GPU-1", "A", 8, 0, mig=(part,)),))  # fmt: skip
    assert decode(encode(load).encode()).gpus[0].mig == (part,)


def with_notice(**changes: object) -> bytes:
    fields = json.loads(encode(LOAD))
    notice = fields["load"]["notices"][0]
    notice["facts"] |= changes.pop("facts", {})
    fields["load"]["notices"] = [notice | changes]
    return json.dumps(fields).encode()


def test_notices_of_a_newer_server_are_passed_over() -> None:
    (notice,) = decode(with_notice(kind="fire-alarm", facts={"floor": 3})).notices
    assert notice.kind is NoticeKind.OTHER


@pytest.mark.parametrize(
    "changes",
    [{"id": "../../etc/cr"}, {"id": "0123456789ab\n"}, {"user": "li\nBcc: all@example.org"},
     {"user": 5}, {"made": -1}, {"facts": {"gpus": 10**6}}, {"facts": {"percent": -1}},
     {"facts": {"model": "x" * 129}}, {"facts": {"other": "a\r\nb"}}, {"facts": {"at": 1e300}},
     {"facts": {"reservation": "\x1b[2J"}}, {"made": float("nan")}, {"facts": {"gpus": "2"}}]
)  # fmt: skip
def test_a_notice_that_can_not_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadMessageError):
        decode(with_notice(**changes))


def test_notices_without_end_are_refused() -> None:
    fields = json.loads(encode(LOAD))
    fields["load"]["notices"] *= 201
    with pytest.raises(BadMessageError):
        decode(json.dumps(fields).encode())
