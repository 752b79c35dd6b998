"""`lxc-gpu status` away from a server: what is shown in how much room."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from shells.commands.fleet_status import MOST_NOTES, draw
from shells.commands.fleet_table import fleet_table
from state.wire.fleet_status import FleetStatus, ServerStatus
from state.wire.server_load import (
    CpuLoad,
    GpuLoad,
    GpuProblem,
    GpuUser,
    MemoryLoad,
    ReservedGpus,
    ServerLoad,
)
from tests.generated_loads import load

NOW = time.mktime((2026, 11, 20, 15, 0, 0, 0, 0, -1))
GIB = 1 << 30


def status_of(name: str, gpus: int = 4, seed: int = 1) -> ServerStatus:
    newest = load(name, NOW, seed, gpus)
    return ServerStatus(name, "172.16.2.1", "converged", revision="f6e602f5c0" * 4, load=newest)


def fleet(count: int) -> FleetStatus:
    """Servers of every kind."""
    servers = [status_of(f"gpu{n}", (8, 4, 0)[n % 3], n) for n in range(1, count + 1)]
    servers[-1] = replace(
        servers[-1], condition="unreachable", silent_since=NOW - 3600, why="No route to host."
    )
    if count > 2:
        servers[-2] = replace(servers[-2], condition="problems", failures=3)
        servers[-3] = replace(servers[-3], condition="suspended", suspended="new disks")
    return FleetStatus(NOW, "f6e602f5c0" * 4, tuple(servers))


def drawn(status: FleetStatus, width: int, **settings: Any) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, **{"force_terminal": True, **settings})
    draw(fleet_table(status, width), console)
    return out.getvalue().splitlines()


def bare(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


class TestOnATerminal:
    @pytest.mark.parametrize("count", [2, 100])
    @pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
    def test_a_server_is_a_line_that_fits(self, count: int, width: int) -> None:
        lines = [bare(line) for line in drawn(fleet(count), width)]
        assert max(map(len, lines)) <= width
        rows = lines[1 : count + 1]
        assert [row.split()[0] for row in rows] == [f"gpu{n}" for n in range(1, count + 1)]
        assert "silent since 14:00" in rows[-1]

    def test_what_matters_most_stays(self) -> None:
        widths = (40, 80, 100, 200)
        titles = {width: bare(drawn(fleet(4), width)[0]).split("  ") for width in widths}
        shown = {w: [t.strip() for t in each if t.strip()] for w, each in titles.items()}
        assert shown[40] == ["server", "state", "GPUs free"]
        assert shown[80] == [*shown[40], "in use", "CPU", "held by"]
        assert shown[100] == [*shown[80][:-1], "memory", "held by", "driver"]
        assert shown[200] == [*shown[100], "revision"]

    def test_reserved_gpus_and_those_that_nobody_uses(self) -> None:
        given = load("gpu1", NOW, gpus=4, busy=0)
        held = replace(given.gpus[0], users=(GpuUser("ann"),))
        gpus = (held, *given.gpus[1:])
        mine = ReservedGpus("a", "ann", tuple(g.uuid for g in gpus[:2]), NOW - 9, NOW + 9)
        later = ReservedGpus("b", "bob", (gpus[3].uuid,), NOW + 9, NOW + 99)
        newest = replace(given, gpus=gpus, reservations=(mine, later))
        server = ServerStatus("gpu1", "x", "converged", load=newest)
        lines = fleet_table(FleetStatus(NOW, "r", (server,))).text.splitlines()
        assert re.search(r"converged +3/4  2, 1 idle  ", lines[1])
        assert lines[2] == "3 of 4 GPUs free on 1 server, 2 reserved"

    def test_names_are_cut_between_names(self) -> None:
        users = tuple(GpuUser(f"user{n}") for n in range(20))
        held = GpuLoad(0, "GPU-0", "A", GIB, GIB, 90.0, users=users)
        busy = ServerLoad("gpu1", NOW, 5, CpuLoad(1, 1), MemoryLoad(GIB, 0), gpus=(held,))
        crowd = FleetStatus(NOW, "r", (ServerStatus("gpu1", "x", "converged", load=busy),))
        for width in range(60, 120):
            line = bare(drawn(crowd, width)[1]).rstrip()
            assert re.search(r"  user0 1, (user\d+ 1, )*…", line), line

    def test_colours_but_with_NO_COLOR(self, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: N802
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        silent = drawn(fleet(2), 80)[2]
        assert "\x1b[1;31msilent" in silent
        monkeypatch.setenv("NO_COLOR", "1")
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]", "\n".join(drawn(fleet(2), 80)))

    def test_names_are_no_markup(self) -> None:
        odd = replace(status_of("gpu1"), why="[red]x[/nonsense]", condition="unreachable")
        assert "[red]x[/nonsense]" in bare(drawn(FleetStatus(NOW, "r", (odd,)), 200)[-1])

    def test_many_troubles_are_counted(self) -> None:
        sick = [replace(status_of(f"gpu{n}"), condition="problems", failures=1) for n in range(30)]
        lines = [bare(line) for line in drawn(FleetStatus(NOW, "r", tuple(sick)), 80)]
        assert lines[-1] == "... and 20 more: `lxc-gpu status --json` has them all"
        assert sum("could not be put right" in line for line in lines) == MOST_NOTES


class TestInAPipe:
    def test_plain_aligned_text(self) -> None:
        text = fleet_table(fleet(4)).text
        lines = text.splitlines()
        assert "\x1b" not in text
        assert lines[0].split() == [
            "server", "state", "GPUs", "free", "in", "use", "CPU", "memory", "held", "by", "driver",
            "revision",
        ]  # fmt: skip
        place = lines[0].index("driver")
        assert lines[1][place - 2 : place + 9] == "  550.54.15"
        assert [line.split()[0] for line in lines[1:5]] == ["gpu1", "gpu2", "gpu3", "gpu4"]
        assert "gpu4: No route to host." in lines
        assert "gpu3: 3 things could not be put right" in lines
        assert "gpu2 is suspended: new disks" in lines


class TestTotals:
    def test_free_of_all_that_is_heard(self) -> None:
        free = GpuLoad(0, "GPU-0", "A", GIB, 0, 0.0)
        held = GpuLoad(1, "GPU-1", "A", GIB, GIB, 90.0, users=(GpuUser("ann"),))
        one = ServerLoad("a", NOW, 5, CpuLoad(1, 1), MemoryLoad(GIB, 0), gpus=(free, held))
        a = ServerStatus("a", "x", "converged", load=one)
        b = ServerStatus("b", "x", "converged", load=one, silent_since=NOW - 60)
        c = ServerStatus("c", "x", "waiting")
        table = fleet_table(FleetStatus(NOW, "r", (a, b, c)))
        assert table.totals == "1 of 2 GPUs free on 1 server, 1 silent since 14:59, 1 not heard yet"

    def test_servers_without_gpus(self) -> None:
        table = fleet_table(FleetStatus(NOW, "r", (status_of("gpu1", gpus=0),)))
        assert table.totals == "no GPUs on 1 server"
        assert "GPUs free" not in table.titles

    def test_nobody_is_there(self) -> None:
        assert fleet_table(FleetStatus(NOW, "r", ())).text == "There are no servers yet."

    def test_a_stale_page_says_so(self) -> None:
        table = fleet_table(FleetStatus(NOW, "r", (status_of("gpu1"),), stale="Git is down."))
        assert table.notes == ("This may be out of date: Git is down.",)


def test_gpus_that_cannot_be_seen_are_not_none() -> None:
    blind = ServerLoad("a", NOW, 5, CpuLoad(1, 1), MemoryLoad(GIB, 0),
                       gpu_problem=GpuProblem("gpu-hangs", "No answer."))  # fmt: skip
    table = fleet_table(FleetStatus(NOW, "r", (ServerStatus("a", "x", "converged", load=blind),)))
    assert table.rows[0][table.titles.index("GPUs free")].text == "?"
