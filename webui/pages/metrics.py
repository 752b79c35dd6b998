"""/metrics: the fleet for Prometheus, in base units. Of people, it has only the user names.

The last load of a silent server is left out, so that nobody takes it for the present.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from state.errors import LxcGpuError
from state.wire.messages import Report
from state.wire.reserved import among, current, open_gpus, uuids
from state.wire.server_load import GpuLoad, ServerLoad
from webui.clone.source import StateReading
from webui.monitor.heard.latest import LastHeard
from webui.monitor.past.accounting import Usage
from webui.monitor.past.ledger import MOST_USERS
from webui.pages.families import PREFIX, Families, labels
from webui.servers.board import Phase, ServerStanding
from webui.services import Services, services

metrics = Blueprint("metrics", __name__)

_PROCESS = ProcessCollector(namespace=f"{PREFIX}web", registry=None)


@metrics.get("/metrics")
def exposition() -> Response:
    """All metrics, in the format that the request prefers."""
    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    except (TypeError, ValueError):  # an invalid version
        encode, content_type = choose_encoder("")
    of_fleet = _fleet(services()).text(
        openmetrics=content_type.startswith("application/openmetrics")
    )
    of_page = CollectorRegistry()
    of_page.register(_PROCESS)
    return Response(of_fleet.encode() + encode(of_page), content_type=content_type)


def _fleet(parts: Services) -> Families:
    families = Families()
    reading = _reading(parts)
    families.add("state_readable", reading is not None and not reading.problem)
    families.add("history_kept", parts.history.problem is None)
    seen = parts.latest.all()
    standings = parts.board.standings()
    for name in sorted(seen.keys() | (reading.state.servers.keys() if reading else set())):
        add_load(families, seen.get(name, LastHeard(name)))
        standing = standings.get(name)
        if standing is not None:
            report = standing.report
            behind = None if report is None else parts.source.behind(report.revision)
            add_report(families, name, standing, behind)
    for server, users in parts.history.totals().items():
        add_totals(families, server, users)
    for server, groups in parts.history.group_totals().items():
        add_totals(families, server, groups, "group")
    return families


def _reading(parts: Services) -> StateReading | None:
    try:
        return parts.source.current()
    except LxcGpuError:
        return None


def add_load(families: Families, seen: LastHeard) -> None:
    """Add the load of one server, or that it is silent."""
    server, load, of = seen.server, seen.load, labels(server=seen.server)
    up = load is not None and seen.silent_since is None
    families.add("server_up", up, of)
    families.add("server_heard_timestamp_seconds", seen.heard, of)
    if load is None or not up:
        return
    if seen.heard is not None:
        families.add("server_clock_offset_seconds", load.at - seen.heard, of)
    _add_machine(families, server, load)
    _add_disks(families, server, load)
    families.add("gpus", len(load.gpus), of)
    families.add("gpus_free", len(load.free_gpus), of)
    _add_reservations(families, load, of)
    if load.gpu_problem is not None:
        families.add("gpu_problem", 1, labels(server=server, code=load.gpu_problem.code))
    for gpu in load.gpus:
        _add_gpu(families, server, gpu)
    _add_users(families, server, load)


def add_report(
    families: Families, server: str, standing: ServerStanding, behind: int | None
) -> None:
    """Add the results of one server's rounds. It lacks `behind` commits; None: unknown."""
    report, of = standing.report or Report(server, "", 0.0, 0.0), labels(server=server)
    answers = standing.report is not None and standing.outcome.phase is not Phase.UNREACHABLE
    families.add("server_converged", answers and report.converged and behind == 0, of)
    if standing.report is None:
        return
    families.add("server_refused", bool(report.refused), of)
    families.add("server_suspended", bool(report.suspended), of)
    families.add("server_failures", len(report.failures), of)
    families.add("server_behind_commits", behind, of)
    families.add("server_report_timestamp_seconds", standing.heard, of)
    families.add("server_revision_info", 1, labels(server=server, revision=report.revision[:12]))


def add_totals(
    families: Families, server: str, totals: Mapping[str, Usage], whose: str = "user"
) -> None:
    """Add what a server's users have used since the start; or its groups (`whose` = "group")."""
    for name, usage in totals.items():
        who = labels(server=server, **{whose: name})
        families.add(f"{whose}_gpu_seconds_total", usage.gpu, who)
        families.add(f"{whose}_gpu_busy_seconds_total", usage.gpu_busy, who)
        families.add(f"{whose}_gpu_memory_byte_seconds_total", usage.gpu_memory, who)
        families.add(f"{whose}_memory_byte_seconds_total", usage.memory, who)
        families.add(f"{whose}_cpu_seconds_total", usage.cpu, who)
        if usage.reserved:
            families.add(f"{whose}_gpu_reserved_seconds_total", usage.reserved, who)
            families.add(f"{whose}_gpu_reserved_unused_seconds_total", usage.unused, who)


def _add_machine(families: Families, server: str, load: ServerLoad) -> None:
    driver, of = load.driver, labels(server=server)
    families.add("driver_in_step", driver.in_step, of)
    families.add(
        "driver_info",
        1,
        labels(server=server, loaded=driver.loaded, installed=driver.installed),
    )
    families.add("cpus", load.cpu.cpus, of)
    families.add("cpu_usage_ratio", load.cpu.percent / 100, of)
    families.add("cpu_temperature_celsius", load.cpu.temperature, of)
    families.add("memory_total_bytes", load.memory.total, of)
    families.add("memory_available_bytes", load.memory.available, of)
    families.add("swap_total_bytes", load.memory.swap_total, of)
    families.add("swap_used_bytes", load.memory.swap_used, of)


def _add_disks(families: Families, server: str, load: ServerLoad) -> None:
    for system in load.file_systems:
        where = labels(server=server, mountpoint=system.mounted)
        families.add("filesystem_size_bytes", system.total, where)
        families.add("filesystem_available_bytes", system.available, where)
    for disk in load.disks:
        which = labels(server=server, device=disk.name)
        families.add("disk_read_bytes_per_second", disk.read, which)
        families.add("disk_written_bytes_per_second", disk.written, which)
    for interface in load.network:
        which = labels(server=server, device=interface.name)
        families.add("network_received_bytes_per_second", interface.received, which)
        families.add("network_sent_bytes_per_second", interface.sent, which)


def _add_reservations(families: Families, load: ServerLoad, of: str) -> None:
    now = current(load, load.at)
    unused = [each for each in now if each.unused_since is not None]
    intruded = [
        gpu
        for gpu in load.gpus
        if any(gpu.holders & set(each.intruders) for each in now if uuids(gpu) & set(each.gpus))
    ]
    families.add("gpus_free_unreserved", len(open_gpus(load)), of)
    families.add("gpus_reserved", len(among(load.gpus, now)), of)
    families.add("gpus_reserved_unused", len(among(load.gpus, unused)), of)
    families.add("gpus_reserved_intruded", len(intruded), of)
    families.add("reservations", len(load.reservations), of)


def _add_gpu(families: Families, server: str, gpu: GpuLoad) -> None:
    which = labels(server=server, uuid=gpu.uuid)
    families.add(
        "gpu_info", 1, labels(server=server, uuid=gpu.uuid, index=str(gpu.index), model=gpu.name)
    )
    families.add("gpu_free", gpu.free, which)
    if gpu.utilisation is not None:
        families.add("gpu_utilisation_ratio", gpu.utilisation / 100, which)
    families.add("gpu_memory_total_bytes", gpu.memory_total, which)
    families.add("gpu_memory_used_bytes", gpu.memory_used, which)
    families.add("gpu_temperature_celsius", gpu.temperature, which)
    families.add("gpu_power_watts", gpu.power, which)
    families.add("gpu_power_limit_watts", gpu.power_limit, which)
    for part in gpu.mig:
        instance = labels(server=server, uuid=part.uuid, gpu=gpu.uuid)
        families.add("mig_memory_total_bytes", part.memory_total, instance)
        families.add("mig_memory_used_bytes", part.memory_used, instance)


def _add_users(families: Families, server: str, load: ServerLoad) -> None:
    for user_load in load.users[:MOST_USERS]:
        who = labels(server=server, user=user_load.user)
        families.add("user_busy_cpus", user_load.cpus, who)
        families.add("user_memory_bytes", user_load.memory, who)
    held: dict[str, int] = {}
    memory: dict[str, int] = {}
    for gpu in load.gpus:
        for user in gpu.holders:
            held[user] = held.get(user, 0) + 1
        for each in gpu.users:
            memory[each.user] = memory.get(each.user, 0) + (each.memory or 0)
    for name, count in list(held.items())[:MOST_USERS]:
        who = labels(server=server, user=name)
        families.add("user_gpus_held", count, who)
        families.add("user_gpu_memory_bytes", memory[name], who)
    for idle in load.idle[:MOST_USERS]:
        families.add(
            "user_idle_since_timestamp_seconds", idle.since, labels(server=server, user=idle.user)
        )
