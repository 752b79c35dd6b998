"""`gpus`: shows who uses which GPU, who has reserved it, and whose programs use CPU and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.host.in_words import columns, since, size
from reconciler.host.published import current_view, resident_of
from reconciler.load import on_gpus, processes
from reconciler.load.owners import Owners
from reconciler.load.processes import ProcessUsage, UserUsage
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import driver
from reconciler.nvidia.nvml import Gpu, GpuProcess
from reconciler.plan import Tell
from reconciler.reservations.overview import ReservationsOverview, overview
from shells.verbs import VerbRequest
from state.errors import LxcGpuError
from state.view import View
from state.wire import messages
from state.words import plural

NO_DRIVER = LxcGpuError("gpu-none", "This server has no NVIDIA driver, so there are no GPUs.")
GIB = 1 << 30


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Show it all; change nothing. Without a driver, say so, and show the rest."""
    view = current_view()
    resident_of(view, asked.user)
    samples = processes.sampled()
    before, begun = next(samples), time.monotonic()
    gpus, problem = _gpus()
    now, seconds = next(samples), time.monotonic() - begun
    moment = time.time()
    seen = _GpuReport(view, Owners(view), asked.user, now, moment, overview(view, moment))
    used = processes.uses(seen.owners, before, now, seconds)
    texts = [seen.gpus(gpus)] if gpus or not problem else []
    texts += [seen.problem(problem)] if problem else []
    texts.append(seen.uses(used))
    facts = {
        "server": view.server,
        "gpus": [seen.facts(gpu, seen.own(gpus)) for gpu in gpus],
        "gpu_problem": problem and {"code": problem.code, "message": problem.message},
        "people": [
            {
                "user": use.user,
                "full_name": seen.full_name(use.user),
                "cpus": round(use.cpus, 2),
                "memory_bytes": use.memory,
                "processes": use.processes,
            }
            for use in used
        ],
    }
    return messages.Answer("\n\n".join(texts), facts)


def _gpus() -> tuple[tuple[Gpu, ...], LxcGpuError | None]:
    if not driver().present:
        return (), NO_DRIVER
    try:
        reading = nvml.read()
    except LxcGpuError as error:
        return (), error
    return reading.gpus, reading.problem


@dataclass(frozen=True)
class _GpuReport:
    """What was read, to be shown to a person or a program. Command lines aren't shown."""

    view: View
    owners: Owners
    asker: str
    processes: Mapping[int, ProcessUsage]
    now: float
    reserved: ReservationsOverview

    def full_name(self, user: str) -> str:
        """The user's full name; empty for accounts of the server."""
        resident = self.view.residents.get(user)
        return resident.full_name if resident else ""

    def problem(self, problem: LxcGpuError) -> str:
        """Lines that say why there is no list of GPUs."""
        return f"{problem.message}\n  {problem.hint}".rstrip()

    def gpus(self, gpus: tuple[Gpu, ...]) -> str:
        """Lines about all GPUs, each with its processes."""
        width = max((len(gpu.name) for gpu in gpus), default=0)
        lines = [f"GPUs of {self.view.server}:"]
        for gpu in gpus:
            busy = "-" if gpu.utilisation is None else f"{gpu.utilisation} %"
            room = f"{gpu.memory_used / GIB:.1f} of {gpu.memory_total / GIB:.1f} GiB"
            others = "" if gpu in self.own(gpus) else "   (not for your container)"
            lines.append(f"  {gpu.index:>2}  {gpu.name:<{width}}  {room:>19}  {busy:>5}{others}")
            lines += columns(
                [
                    (user, self.full_name(user), size(each.memory), since, command)
                    for user, since, command, each in self._by(gpu)
                ],
                right=(2,),
                indent=6,
            ) or ["      nobody"]
            lines += [f"      {line}" for line in self.reserved.of_gpu(gpu.uuid)]
        return "\n".join(lines)

    def own(self, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        """The GPUs that the asker's container sees."""
        return on_gpus.in_sight(self.view, self.asker, gpus)

    def _by(self, gpu: Gpu) -> Iterator[tuple[str, str, str, GpuProcess]]:
        """User, since when, and command of each process on the GPU."""
        for each in gpu.processes:
            process = self.processes.get(each.pid)
            if process is None:
                yield "?", "-", "ended or hidden", each
            else:
                user = processes.name_of(self.owners, process.uid)
                yield user, since(process.started, self.now), process.command, each

    def facts(self, gpu: Gpu, own: tuple[Gpu, ...]) -> dict[str, object]:
        """Facts about one GPU. `own`: the GPUs that the asker's container sees."""
        ours = [(each, self.processes.get(each.pid)) for each in gpu.processes]
        return {
            "index": gpu.index,
            "uuid": gpu.uuid,
            "name": gpu.name,
            "memory_total_bytes": gpu.memory_total,
            "memory_used_bytes": gpu.memory_used,
            "utilisation_percent": gpu.utilisation,
            "temperature_celsius": gpu.temperature,
            "yours": gpu in own,
            "reservations": self.reserved.gpu_facts(gpu.uuid),
            "processes": [
                {
                    "user": process and processes.name_of(self.owners, process.uid),
                    "memory_bytes": each.memory,
                    "since": process and round(process.started, 1),
                    "command": process and process.command,
                }
                for each, process in ours
            ],
        }

    def uses(self, used: tuple[UserUsage, ...]) -> str:
        """Lines about everybody's use of CPU and memory."""
        rows = [
            (
                use.user,
                self.full_name(use.user),
                f"{use.cpus:.1f} CPUs",
                size(use.memory),
                plural(use.processes, "process", "processes"),
            )
            for use in used
        ]
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        head = f"Of {plural(os.cpu_count() or 1, 'CPU')} and {size(total)} of memory:"
        return "\n".join(
            [head, *(columns(rows, right=(2, 3), indent=2) or ["  nobody runs anything"])]
        )
