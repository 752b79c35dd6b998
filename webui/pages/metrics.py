"""/metrics: the fleet for Prometheus. Base units; of people, the user's name only; no pids.

What a silent server said last is left out, so that nobody takes it for what is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from state.errors import LxcGpuError
from state.wire.messages import Report
from state.wire.server_load import GpuLoad, ServerLoad
from webui.clone.source import Reading
from webui.monitor.heard.latest import Seen
from webui.monitor.past.accounting import Usage
from webui.monitor.past.ledger import MOST_USERS
from webui.pages.families import PREFIX, Families
from webui.servers.board import Phase, Standing
from webui.services import Services, services

metrics = Blueprint("metrics", __name__)

_PROCESS = ProcessCollector(namespace=f"{PREFIX}web", registry=None)


@metrics.get("/metrics")
def exposition() -> Response:
    """Everything, in the form that the asker prefers."""
    registry = CollectorRegistry()
    registry.register(_Fleet(services()))
    registry.register(_PROCESS)
    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    except (TypeError, ValueError):  # of a version that is none
        encode, content_type = choose_encoder("")
    return Response(encode(registry), content_type=content_type)


@dataclass(frozen=True)
class _Fleet(Collector):
    parts: Services

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        families = Families()
        reading = _reading(self.parts)
        families.gauge("state_readable", reading is not None and not reading.problem)
        families.gauge("history_kept", self.parts.history.problem is None)
        seen = self.parts.latest.all()
        standings = self.parts.board.standings()
        for name in sorted(seen.keys() | (reading.state.servers.keys() if reading else set())):
            add_load(families, seen.get(name, Seen(name)))
            standing = standings.get(name)
            if standing is not None:
                report = standing.report
                behind = None if report is None else self.parts.source.behind(report.revision)
                add_report(families, name, standing, behind)
        for server, users in self.parts.history.totals().items():
            add_totals(families, server, users)
        yield from families.all()


def _reading(parts: Services) -> Reading | None:
    try:
        return parts.source.current()
    except LxcGpuError:
        return None


def add_load(families: Families, seen: Seen) -> None:
    """One server's load, if it comes; else that it doesn't."""
    server, load = seen.server, seen.load
    up = load is not None and seen.silent_since is None
    families.gauge("server_up", up, server=server)
    families.gauge("server_heard_timestamp_seconds", seen.heard, server=server)
    if load is None or not up:
        return
    if seen.heard is not None:
        families.gauge("server_clock_offset_seconds", load.at - seen.heard, server=server)
    _add_machine(families, server, load)
    _add_disks(families, server, load)
    families.gauge("gpus", len(load.gpus), server=server)
    families.gauge("gpus_free", len(load.free_gpus), server=server)
    if load.gpu_problem is not None:
        families.gauge("gpu_problem", 1, server=server, code=load.gpu_problem.code)
    for gpu in load.gpus:
        _add_gpu(families, server, gpu)
    _add_users(families, server, load)


def add_report(families: Families, server: str, standing: Standing, behind: int | None) -> None:
    """What one server's rounds came to; it is `behind` by so many commits, None: nobody knows."""
    report = standing.report or Report(server, "", 0.0, 0.0)
    answers = standing.report is not None and standing.outcome.phase is not Phase.UNREACHABLE
    families.gauge("server_converged", answers and report.converged and behind == 0, server=server)
    if standing.report is None:
        return
    families.gauge("server_refused", bool(report.refused), server=server)
    families.gauge("server_suspended", bool(report.suspended), server=server)
    families.gauge("server_failures", len(report.failures), server=server)
    families.gauge("server_behind_commits", behind, server=server)
    families.gauge("server_report_timestamp_seconds", standing.heard, server=server)
    families.gauge("server_revision_info", 1, server=server, revision=report.revision[:12])


def add_totals(families: Families, server: str, users: Mapping[str, Usage]) -> None:
    """What one server's users used since the start."""
    for user, usage in users.items():
        who = {"server": server, "user": user}
        families.counter("user_gpu_seconds_total", usage.gpu, **who)
        families.counter("user_gpu_busy_seconds_total", usage.gpu_busy, **who)
        families.counter("user_gpu_memory_byte_seconds_total", usage.gpu_memory, **who)
        families.counter("user_memory_byte_seconds_total", usage.memory, **who)
        families.counter("user_cpu_seconds_total", usage.cpu, **who)


def _add_machine(families: Families, server: str, load: ServerLoad) -> None:
    driver = load.driver
    families.gauge("driver_in_step", driver.in_step, server=server)
    families.gauge(
        "driver_info", 1, server=server, loaded=driver.loaded, installed=driver.installed
    )
    families.gauge("cpus", load.cpu.cpus, server=server)
    families.gauge("cpu_usage_ratio", load.cpu.percent / 100, server=server)
    families.gauge("cpu_temperature_celsius", load.cpu.temperature, server=server)
    families.gauge("memory_total_bytes", load.memory.total, server=server)
    families.gauge("memory_available_bytes", load.memory.available, server=server)
    families.gauge("swap_total_bytes", load.memory.swap_total, server=server)
    families.gauge("swap_used_bytes", load.memory.swap_used, server=server)


def _add_disks(families: Families, server: str, load: ServerLoad) -> None:
    for system in load.file_systems:
        where = {"server": server, "mountpoint": system.mounted}
        families.gauge("filesystem_size_bytes", system.total, **where)
        families.gauge("filesystem_available_bytes", system.available, **where)
    for disk in load.disks:
        which = {"server": server, "device": disk.name}
        families.gauge("disk_read_bytes_per_second", disk.read, **which)
        families.gauge("disk_written_bytes_per_second", disk.written, **which)
    for interface in load.network:
        which = {"server": server, "device": interface.name}
        families.gauge("network_received_bytes_per_second", interface.received, **which)
        families.gauge("network_sent_bytes_per_second", interface.sent, **which)


def _add_gpu(families: Families, server: str, gpu: GpuLoad) -> None:
    which = {"server": server, "uuid": gpu.uuid}
    families.gauge("gpu_info", 1, **which, index=str(gpu.index), model=gpu.name)
    families.gauge("gpu_free", gpu.free, **which)
    if gpu.utilisation is not None:
        families.gauge("gpu_utilisation_ratio", gpu.utilisation / 100, **which)
    families.gauge("gpu_memory_total_bytes", gpu.memory_total, **which)
    families.gauge("gpu_memory_used_bytes", gpu.memory_used, **which)
    families.gauge("gpu_temperature_celsius", gpu.temperature, **which)
    families.gauge("gpu_power_watts", gpu.power, **which)
    families.gauge("gpu_power_limit_watts", gpu.power_limit, **which)
    for part in gpu.mig:
        instance = {"server": server, "uuid": part.uuid, "gpu": gpu.uuid}
        families.gauge("mig_memory_total_bytes", part.memory_total, **instance)
        families.gauge("mig_memory_used_bytes", part.memory_used, **instance)


def _add_users(families: Families, server: str, load: ServerLoad) -> None:
    for user_load in load.users[:MOST_USERS]:
        who = {"server": server, "user": user_load.user}
        families.gauge("user_busy_cpus", user_load.cpus, **who)
        families.gauge("user_memory_bytes", user_load.memory, **who)
    held: dict[str, int] = {}
    memory: dict[str, int] = {}
    for gpu in load.gpus:
        for user in gpu.holders:
            held[user] = held.get(user, 0) + 1
        for each in gpu.users:
            memory[each.user] = memory.get(each.user, 0) + (each.memory or 0)
    for name, count in list(held.items())[:MOST_USERS]:
        families.gauge("user_gpus_held", count, server=server, user=name)
        families.gauge("user_gpu_memory_bytes", memory[name], server=server, user=name)
    for idle in load.idle[:MOST_USERS]:
        families.gauge(
            "user_idle_since_timestamp_seconds", idle.since, server=server, user=idle.user
        )
