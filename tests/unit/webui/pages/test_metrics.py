"""/metrics: what it tells, and that nothing a server says breaks its form."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from state.errors import LxcGpuError
from state.wire.messages import Failure, Report
from state.wire.server_load import (
    CpuLoad,
    DiskRate,
    DriverVersions,
    FileSystem,
    GpuProblem,
    GpuUser,
    IdleContainer,
    MemoryLoad,
    MigLoad,
    NetworkRate,
    ReservedGpus,
    ServerLoad,
    UserLoad,
    decode,
    encode,
)
from tests.unit.webui.monitor.small_loads import GIB, gpu, load
from webui.monitor.heard.latest import LastHeard, Latest
from webui.monitor.past.accounting import Usage
from webui.pages.families import COUNTERS, GAUGES, PREFIX, Families
from webui.pages.metrics import add_load, add_report, add_totals
from webui.servers.board import NudgeOutcome, Phase, ServerStanding

NOW = 1_795_392_000.0


def rich() -> ServerLoad:
    """A load that says everything there is to say."""
    one = replace(
        gpu(0, "ann", "bob"),
        temperature=61.0,
        power=300.0,
        power_limit=700.0,
        mig=(MigLoad("MIG-1", "1g.10gb", 10 * GIB, GIB),),
    )
    return load(
        "gpu17",
        one,
        gpu(1, busy=0.0),
        users=(UserLoad("ann", 2.5, GIB, 3), UserLoad("system", 1.0, GIB, 9)),
        at=NOW - 2,
        cpu=CpuLoad(20.0, 64, 48.0),
        memory=MemoryLoad(100 * GIB, 75 * GIB, 8 * GIB, GIB),
        driver=DriverVersions("550.54", "550.54"),
        gpu_problem=GpuProblem("gpu-slow", "One GPU answers slowly."),
        file_systems=(FileSystem("/", 1000, 40),),
        disks=(DiskRate("nvme0n1", 1.0, 2.0),),
        network=(NetworkRate("eno1", 3.0, 4.0),),
        idle=(IdleContainer("li", NOW - 86_400 * 20),),
    )


def everything(families: Families) -> None:
    """All names, with values."""
    families.add("state_readable", True)
    families.add("history_kept", True)
    add_load(families, LastHeard("gpu17", rich(), NOW))
    report = Report("gpu17", "abcdef0123456789", NOW, 0.4)
    add_report(
        families,
        "gpu17",
        ServerStanding(NudgeOutcome("gpu17", Phase.CONVERGED, ""), report, NOW),
        0,
    )
    add_totals(families, "gpu17", {"ann": Usage(1, 2, 3, 4, 5, 7, 6), "bob": Usage(1)})
    add_totals(families, "gpu17", {"Vision": Usage(1, 2, 3, 4, 5, 7, 6)}, "group")


def text(families: Families) -> str:
    return families.text(openmetrics=False)


def values(families: Families) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(text(families)):
        for sample in family.samples:
            key = (sample.name.removeprefix(PREFIX), *sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


def test_every_name_is_told_and_documented() -> None:
    families = Families()
    everything(families)
    told = {key[0] for key in values(families)}
    assert told == set(GAUGES) | set(COUNTERS)
    shown = text(families)
    for name in GAUGES:
        assert f"# HELP {PREFIX}{name} " in shown
        assert f"# TYPE {PREFIX}{name} gauge" in shown
    for name in COUNTERS:
        assert f"# TYPE {PREFIX}{name} counter" in shown


def test_units_are_base_units() -> None:
    families = Families()
    everything(families)
    got = values(families)
    assert got["cpu_usage_ratio", "gpu17"] == 0.2
    assert got["gpu_utilisation_ratio", "gpu17", "GPU-0"] == 0.5
    assert got["server_clock_offset_seconds", "gpu17"] == -2
    assert got["gpus_free", "gpu17"] == 1
    assert got["user_gpus_held", "gpu17", "ann"] == 1
    assert got["user_gpu_memory_bytes", "gpu17", "bob"] == 10 * GIB
    assert ("user_gpus_held", "gpu17", "system") not in got


def test_reservations_are_numbers_by_server_whoever_has_how_many() -> None:
    mine = replace(rich(), gpus=(*rich().gpus, gpu(2, "chi"), gpu(3, busy=0.0)))
    reservations = tuple(
        ReservedGpus(f"r{n}", f"u{n}", (f"GPU-{n % 4}",), NOW + n * 3600 - 2, NOW + n * 3600 + 99)
        for n in range(500)
    )
    now = (
        ReservedGpus("a", "ann", ("GPU-1", "MIG-1"), NOW - 9, NOW + 9, None, ("bob", "chi")),
        ReservedGpus("b", "dora", ("GPU-2",), NOW - 9, NOW + 9, NOW - 5, ("eve",)),
    )
    families = Families()
    add_load(
        families, LastHeard("gpu17", replace(mine, reservations=(*now, *reservations[1:])), NOW)
    )
    got = values(families)
    assert got["gpus_free", "gpu17"] == 2
    assert got["gpus_free_unreserved", "gpu17"] == 1
    assert got["gpus_reserved", "gpu17"] == 3
    assert got["gpus_reserved_unused", "gpu17"] == 1
    assert got["gpus_reserved_intruded", "gpu17"] == 1
    assert got["reservations", "gpu17"] == 501
    few = Families()
    add_load(few, LastHeard("gpu17", mine, NOW))
    assert len(values(few)) == len(got)


def test_no_pids_and_no_full_names() -> None:
    families = Families()
    everything(families)
    labels = set(re.findall(r'(\w+)="', text(families)))
    assert labels == {"server", "uuid", "user", "group", "mountpoint", "device", "code", "index",
                      "model", "gpu", "loaded", "installed", "revision"}  # fmt: skip


def test_a_silent_server_has_none_of_what_it_said_last() -> None:
    latest = Latest(clock=lambda: NOW)
    latest.post("gpu17", rich())
    latest.silent("gpu17", LxcGpuError("load-stalled", "It tells nothing."))
    families = Families()
    add_load(families, latest.all()["gpu17"])
    assert values(families) == {
        ("server_up", "gpu17"): 0,
        ("server_heard_timestamp_seconds", "gpu17"): NOW,
    }


def test_a_server_that_was_never_heard() -> None:
    families = Families()
    add_load(families, LastHeard("gpu18"))
    never = ServerStanding(NudgeOutcome("gpu18", Phase.UNREACHABLE, "refuses connections"))
    add_report(families, "gpu18", never, None)
    assert values(families) == {("server_up", "gpu18"): 0, ("server_converged", "gpu18"): 0}


FAILED = (Failure("account", "ann", "code", "It failed."),)


@pytest.mark.parametrize(
    ("more", "phase", "behind", "converged"),
    [
        ({}, Phase.CONVERGED, 0, 1),
        ({}, Phase.CONVERGED, 3, 0),
        ({}, Phase.CONVERGED, None, 0),
        ({}, Phase.UNREACHABLE, 0, 0),
        ({"refused": "It is not signed."}, Phase.PROBLEMS, 0, 0),
        ({"suspended": "A disk is changed."}, Phase.SUSPENDED, 0, 0),
        ({"failures": FAILED}, Phase.PROBLEMS, 0, 0),
    ],
)
def test_converged_means_now_and_newest(
    more: dict[str, str] | dict[str, tuple[Failure]],
    phase: Phase,
    behind: int | None,
    converged: int,
) -> None:
    report = Report("gpu17", "abcdef", NOW, 0.4, **more)
    families = Families()
    add_report(
        families, "gpu17", ServerStanding(NudgeOutcome("gpu17", phase, ""), report, NOW), behind
    )
    got = values(families)
    assert got["server_converged", "gpu17"] == converged
    assert got["server_refused", "gpu17"] == bool(more.get("refused"))
    assert got["server_failures", "gpu17"] == len(more.get("failures", ()))


HOSTILE = [
    'a"b',
    "a\\",
    '\\"} 1 lxc_gpu_server_up{server=\\"gpu18\\"',
    "",
    "}{",
    "ü 中 \N{PILE OF POO}",
    "# HELP lxc_gpu_cpus x",
    "x" * 128,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_break_nothing(name: str) -> None:
    """As they come in a line, for that is what refuses the worst of them."""
    one = replace(gpu(0, "ann"), uuid=name, name=name, users=(GpuUser(name, 1), GpuUser(name, 2)))
    said = load(
        "gpu17",
        one,
        one,
        users=(UserLoad(name, 1.0, 1, 1), UserLoad(name, 2.0, 2, 2)),
        file_systems=(FileSystem(name, 1, 1), FileSystem(name, 2, 2)),
        disks=(DiskRate(name, 1.0, 1.0),) * 2,
        network=(NetworkRate(name, 1.0, 1.0),) * 2,
        driver=DriverVersions(name, name),
        idle=(IdleContainer(name, 1.0),) * 2,
        gpu_problem=GpuProblem(name, name),
    )
    families = Families()
    add_load(families, LastHeard("gpu17", decode(encode(said).encode()), NOW))
    got = values(families)
    assert got["user_busy_cpus", "gpu17", name] == 1
    assert got["server_up", "gpu17"] == 1
    assert [key for key in got if key[1] == "gpu18"] == []


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "\u2028", "\x1b[31m"])
def test_what_is_not_printable_does_not_even_come_in(name: str) -> None:
    with pytest.raises(ValueError, match="not a load"):
        decode(encode(load(users=(UserLoad(name, 1.0, 1, 1),))).encode())
