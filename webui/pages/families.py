"""What /metrics tells: every name, its meaning, and its values, each label set once.

A hundred servers have more than ten thousand values: each is written as its line at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = "lxc_gpu_"
GAUGES: Mapping[str, str] = {
    "state_readable": "Whether the state repository answers the web page.",
    "history_kept": "Whether the web page can write who used what to its disk.",
    "server_up": "Whether the server's load comes.",
    "server_heard_timestamp_seconds": "When it came last, by the web page's clock.",
    "server_clock_offset_seconds": "By how much the server's clock is ahead of the web page's.",
    "server_converged": "Whether the server is as the newest revision wants it, and answers.",
    "server_refused": "Whether the server refuses a newer revision.",
    "server_suspended": "Whether a sysadmin has the server hold still.",
    "server_failures": "What the server's last round could not put right.",
    "server_behind_commits": "Commits that the server doesn't have yet.",
    "server_report_timestamp_seconds": "When the server last reported a round.",
    "server_revision_info": "The revision that the server is on.",
    "driver_in_step": "Whether NVIDIA's loaded module and installed libraries are of one version.",
    "driver_info": "NVIDIA's driver; empty: there is none.",
    "cpus": "Logical CPUs.",
    "cpu_usage_ratio": "How busy all CPUs together are.",
    "cpu_temperature_celsius": "Of the hottest.",
    "memory_total_bytes": "Memory.",
    "memory_available_bytes": "Memory that programs could take without swapping.",
    "swap_total_bytes": "Swap.",
    "swap_used_bytes": "Swap in use.",
    "filesystem_size_bytes": "Size of a file system.",
    "filesystem_available_bytes": "What those who are not root may still take of it.",
    "disk_read_bytes_per_second": "What is read from a disk.",
    "disk_written_bytes_per_second": "What is written to a disk.",
    "network_received_bytes_per_second": "What an interface to the world receives.",
    "network_sent_bytes_per_second": "What an interface to the world sends.",
    "gpus": "GPUs that the server has.",
    "gpus_free": "GPUs that nobody holds and that do nothing.",
    "gpus_free_unreserved": "Those of them that nobody has reserved.",
    "gpus_reserved": "GPUs that somebody has reserved for now.",
    "gpus_reserved_unused": "Those of them whose user has had no program there for a while.",
    "gpus_reserved_intruded": "Those of them that somebody else holds.",
    "reservations": "Reservations under way, and of the next fortnight.",
    "gpu_problem": "Present, as 1, while the server can't tell of its GPUs.",
    "gpu_info": "One GPU.",
    "gpu_free": "Whether nobody holds the GPU and it does nothing.",
    "gpu_utilisation_ratio": "Share of the last sample period in which something ran on the GPU.",
    "gpu_memory_total_bytes": "Memory of the GPU.",
    "gpu_memory_used_bytes": "Memory of the GPU in use.",
    "gpu_temperature_celsius": "Temperature of the GPU.",
    "gpu_power_watts": "Power that the GPU draws.",
    "gpu_power_limit_watts": "Power that the GPU may draw.",
    "mig_memory_total_bytes": "Memory of a MIG instance; `gpu` is the whole one's UUID.",
    "mig_memory_used_bytes": "Memory of a MIG instance in use.",
    "user_busy_cpus": "CPUs that are busy for a user.",
    "user_memory_bytes": "Memory that a user's programs take.",
    "user_gpus_held": "GPUs of which a user's programs have memory.",
    "user_gpu_memory_bytes": "Memory of GPUs that a user's programs have.",
    "user_idle_since_timestamp_seconds": "When a container that stands idle was last in use.",
}
"""Every gauge, without the prefix, and what it says."""
_OF_USERS = {
    "user_gpu_seconds_total": "GPUs held x seconds, in equal parts among those who hold one.",
    "user_gpu_busy_seconds_total": "The same, times utilisation.",
    "user_gpu_memory_byte_seconds_total": "Memory of GPUs held x seconds.",
    "user_memory_byte_seconds_total": "Memory x seconds.",
    "user_cpu_seconds_total": "Busy CPUs x seconds.",
    "user_gpu_reserved_seconds_total": "GPUs reserved x seconds.",
    "user_gpu_reserved_unused_seconds_total": "The same, while the user did not hold them.",
}
COUNTERS: Mapping[str, str] = _OF_USERS | {
    name.replace("user_", "group_", 1): f"The same of a group's people. {says}"
    for name, says in _OF_USERS.items()
}
"""Every counter, since the web page was started."""


_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def labels(**values: str) -> str:
    """Labels as they stand behind a name, for all values of one thing."""
    pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items()]
    return f"{{{','.join(pairs)}}}"


@dataclass
class Families:
    """Values by name. A label set comes once, whatever a server says: twice breaks the format."""

    _lines: dict[str, list[str]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def add(self, name: str, value: float | None, of: str = "") -> None:
        """One value of what has these `labels`; None is left out."""
        what = f"{PREFIX}{name}{of}"
        if value is None or what in self._known:
            return
        self._known.add(what)
        self._lines.setdefault(name, []).append(f"{what} {float(value)}\n")

    def text(self, *, openmetrics: bool) -> str:
        """All that was added, in Prometheus's text format, or in that of OpenMetrics, which calls
        a counter by its name without `_total`, and isn't at its end here.
        """
        parts: list[str] = []
        for name, lines in self._lines.items():
            kind, says = (
                ("counter", COUNTERS[name]) if name in COUNTERS else ("gauge", GAUGES[name])
            )
            called = PREFIX + (name.removesuffix("_total") if openmetrics else name)
            parts += [f"# HELP {called} {says}\n# TYPE {called} {kind}\n", *lines]
        return "".join(parts)
