"""Our drop-in for sysctl.d(5): kernel settings that containers need and can't set from inside.

Set-up writes it, and the doctor compares. Settings without a namespace hold for all containers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from state import command
from state.files import read_text

FILE = Path("/etc/sysctl.d/40-lxc-gpu.conf")
"""Of two files that set the same, the later name counts. This one comes after LXC's
30-lxc-inotify.conf, and before those that sysadmins write."""
SYS = Path("/proc/sys")
HEAD = """\
# Written by setup/gpu-server: what people need in their containers and can't set there. A file of
# yours in /etc/sysctl.d whose name sorts behind this one's has the last word (sysctl.d(5)).
"""


@dataclass(frozen=True)
class Setting:
    """One setting of the kernel, by its name as in sysctl(8)."""

    name: str
    value: int
    why: str
    lower_allows_more: bool = False

    def suffices(self, now: int) -> bool:
        """Whether people have what they need with the value `now`."""
        return now <= self.value if self.lower_allows_more else now >= self.value


SETTINGS = (
    Setting("fs.inotify.max_user_instances", 8192,
            "A container counts as one user: systemd, VS Code, Jupyter and `tail -f` of all in it "
            "share these; the kernel's 128 are soon taken (inotify(7))."),
    Setting("fs.inotify.max_user_watches", 1048576,
            "Editors and file synchronisation watch each folder of a project (inotify(7))."),
    Setting("kernel.keys.maxkeys", 2000,
            "Docker and Podman take a key of the container's root for each container "
            "(keyrings(7)); the kernel's 200 end at the two hundredth."),
    Setting("kernel.keys.maxbytes", 2000000, "Room for these keys."),
    Setting("vm.max_map_count", 1048576,
            "Programs that map very many pieces of memory: Elasticsearch refuses to start, large "
            "loaders of data fail with `Cannot allocate memory`."),
    Setting("fs.aio-max-nr", 1048576,
            "Requests of libaio, of all programs of the server together: DeepSpeed's offloading "
            "to NVMe, databases."),
    Setting("kernel.perf_event_paranoid", 2,
            "`perf` and Nsight Systems look at one's own programs, not at the kernel; with "
            "Debian's 3 they see nothing.", lower_allows_more=True),
)  # fmt: skip


BRIDGED = """
# br_netfilter is loaded for containers, which each have settings of their own. The server's bridges
# stay as they were without it: else its FORWARD rules would judge what virtual machines say to each
# other (ip-sysctl). What needs it for the server itself, Docker or Kubernetes, sets it to 1 later.
net.bridge.bridge-nf-call-iptables = 0
net.bridge.bridge-nf-call-ip6tables = 0
net.bridge.bridge-nf-call-arptables = 0
"""


def text(*, bridged: bool) -> str:
    """The text of the drop-in, each setting with its reason.

    `bridged`: we alone load br_netfilter, so it is switched off for the server's own bridges.
    """
    named = "".join(f"\n# {each.why}\n{each.name} = {each.value}\n" for each in SETTINGS)
    return HEAD + named + (BRIDGED if bridged else "")


def lacking(now: Callable[[str], int | None] | None = None) -> tuple[tuple[Setting, int], ...]:
    """The settings that are too low, with their present values.

    Settings that this kernel doesn't have are left out. `now` reads a setting; default: from /proc.
    """
    found = ((each, (now or _of_the_kernel)(each.name)) for each in SETTINGS)
    return tuple(
        (each, value) for each, value in found if value is not None and not each.suffices(value)
    )


def _of_the_kernel(name: str) -> int | None:
    said = (read_text(SYS / name.replace(".", "/")) or "").strip()
    return int(said) if said.lstrip("-").isdigit() else None


def in_words(found: Sequence[tuple[Setting, int]]) -> str:
    """The settings in words: `vm.max_map_count is 65530 (1048576 wanted)`."""
    return ", ".join(f"{each.name} is {now} ({each.value} wanted)" for each, now in found)


def are_of_another_machine() -> bool:
    """Whether this machine is a container itself, on the kernel of the machine below it.

    systemd-detect-virt(1) ends with 0 then.
    """
    argv = ["systemd-detect-virt", "--quiet", "--container"]
    return command.run(argv, check=False, timeout=10).ok
