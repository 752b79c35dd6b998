"""The metrics of /metrics: their names, meanings and values, each set of labels once.

A hundred servers have more than ten thousand values, so each is kept as its line of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = "lxc_gpu_"
GAUGES: Mapping[str, str] = {
    "state_readable": "Whether the state repository answers the web page.",
    "history_kept": "Whether the web page can write the history of use to its disk.",
    "server_up": "Whether the server's load comes.",
    "server_heard_timestamp_seconds": "When its last load came, by the web page's clock.",
    "server_clock_offset_seconds": "How far the server's clock is ahead of the web page's.",
    "server_converged": "Whether the server answers and has converged on the newest revision.",
    "server_refused": "Whether the server refuses a newer revision.",
    "server_suspended": "Whether a sysadmin suspended the server.",
    "server_failures": "Things that the server's last round couldn't put right.",
    "server_behind_commits": "Commits that the server doesn't have yet.",
    "server_report_timestamp_seconds": "When the server last reported a round.",
    "server_revision_info": "The server's revision.",
    "driver_in_step": "Whether NVIDIA's loaded module and installed libraries are of one version.",
    "driver_info": "The versions of NVIDIA's driver; empty if there is none.",
    "cpus": "Logical CPUs.",
    "cpu_usage_ratio": "Utilisation of all CPUs together.",
    "cpu_temperature_celsius": "Temperature of the hottest CPU.",
    "memory_total_bytes": "Memory.",
    "memory_available_bytes": "Memory that programs could take without swapping.",
    "swap_total_bytes": "Swap.",
    "swap_used_bytes": "Swap in use.",
    "filesystem_size_bytes": "Size of a file system.",
    "filesystem_available_bytes": "Room in a file system for users other than root.",
    "disk_read_bytes_per_second": "Bytes read from a disk.",
    "disk_written_bytes_per_second": "Bytes written to a disk.",
    "network_received_bytes_per_second": "Bytes received by an external interface.",
    "network_sent_bytes_per_second": "Bytes sent by an external interface.",
    "gpus": "GPUs that the server has.",
    "gpus_free": "GPUs that nobody holds and that do nothing.",
    "gpus_free_unreserved": "Free GPUs that aren't reserved.",
    "gpus_reserved": "GPUs that are reserved now.",
    "gpus_reserved_unused": "Reserved GPUs that their user hasn't used for a while.",
    "gpus_reserved_intruded": "Reserved GPUs that somebody else holds.",
    "reservations": "Reservations, present ones and those of the next fortnight.",
    "gpu_problem": "Present, as 1, while the server can't read its GPUs.",
    "gpu_info": "The index and model of a GPU.",
    "gpu_free": "Whether nobody holds the GPU and it does nothing.",
    "gpu_utilisation_ratio": "Share of the last sample period in which something ran on the GPU.",
    "gpu_memory_total_bytes": "Memory of the GPU.",
    "gpu_memory_used_bytes": "Memory of the GPU in use.",
    "gpu_temperature_celsius": "Temperature of the GPU.",
    "gpu_power_watts": "Power that the GPU draws.",
    "gpu_power_limit_watts": "Power that the GPU may draw.",
    "mig_memory_total_bytes": "Memory of a MIG instance; `gpu` is its GPU's UUID.",
    "mig_memory_used_bytes": "Memory of a MIG instance in use.",
    "user_busy_cpus": "CPUs that a user's programs keep busy.",
    "user_memory_bytes": "Memory of a user's programs.",
    "user_gpus_held": "GPUs that a user holds: their programs have memory of them.",
    "user_gpu_memory_bytes": "GPU memory of a user's programs.",
    "user_idle_since_timestamp_seconds": "When an idle container was last in use.",
}
"""Every gauge without the prefix, and its meaning."""
_OF_USERS = {
    "user_gpu_seconds_total": "GPUs held x seconds; a shared GPU counts in equal parts.",
    "user_gpu_busy_seconds_total": "GPUs held x seconds x utilisation.",
    "user_gpu_memory_byte_seconds_total": "GPU memory x seconds.",
    "user_memory_byte_seconds_total": "Memory x seconds.",
    "user_cpu_seconds_total": "Busy CPUs x seconds.",
    "user_gpu_reserved_seconds_total": "GPUs reserved x seconds.",
    "user_gpu_reserved_unused_seconds_total": "GPUs reserved and not held x seconds.",
}
COUNTERS: Mapping[str, str] = _OF_USERS | {
    name.replace("user_", "group_", 1): f"Of a group's people: {says}"
    for name, says in _OF_USERS.items()
}
"""Every counter, and its meaning. They count from the start of the web page."""


_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def labels(**values: str) -> str:
    """Labels in the text format."""
    pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items()]
    return f"{{{','.join(pairs)}}}"


@dataclass
class Families:
    """Values by name. A set of labels is taken once, since twice would break the format."""

    _lines: dict[str, list[str]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def add(self, name: str, value: float | None, of: str = "") -> None:
        """Add a value with the labels `of`. None is left out."""
        what = f"{PREFIX}{name}{of}"
        if value is None or what in self._known:
            return
        self._known.add(what)
        self._lines.setdefault(name, []).append(f"{what} {float(value)}\n")

    def text(self, *, openmetrics: bool) -> str:
        """All values in Prometheus's text format, or as the beginning of OpenMetrics's.

        In the latter, a counter's name is without `_total`.
        """
        parts: list[str] = []
        for name, lines in self._lines.items():
            kind, says = (
                ("counter", COUNTERS[name]) if name in COUNTERS else ("gauge", GAUGES[name])
            )
            called = PREFIX + (name.removesuffix("_total") if openmetrics else name)
            parts += [f"# HELP {called} {says}\n# TYPE {called} {kind}\n", *lines]
        return "".join(parts)
