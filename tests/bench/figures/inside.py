"""What work inside a container takes, beside the same work in a service of the server's.

Both as root, on one file system, with the container's limits: what is left is what the container
costs, the mount that shifts its owners included.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from laboratory.demo.story import NAME
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER

from tests.bench.figures.logins import start
from tests.bench.measure import Figure
from tests.lab.fleet import CONTAINERS

FLOOR = f"{CONTAINERS}/.bench"
TIMED = """
cd $1
eval "$2"
begun=${EPOCHREALTIME/./}
eval "$3"
echo $((${EPOCHREALTIME/./} - begun))
"""
"""Microseconds of the third word, after the second one, in the folder that the first one names."""
_MANY = """
rm -rf many; mkdir many
for n in {1..100}; do mkdir many/$n; (cd many/$n; for m in {1..100}; do echo $m >$m; done); done
"""


@dataclass(frozen=True)
class Work:
    """Something that programs do all the time."""

    does: str
    before: str = ""
    target: str = "within 1.03"


WORKS: Mapping[str, Work] = {
    "write 512 MB, until it is on the disk": Work(
        "dd if=/dev/zero of=file bs=1M count=512 conv=fdatasync status=none", "rm -f file; sync"
    ),
    "read 512 MB from the cache, 4 times": Work(
        "for n in 1 2 3 4; do dd if=file of=/dev/null bs=1M status=none; done",
        "cat file >/dev/null",
    ),
    "pack 64 MB (gzip)": Work(
        "gzip -c text >text.gz",
        "test -e text || for n in {1..1000}; do seq 12000; done | head -c 64M >text",
    ),
    "stat 10,000 files, 10 times": Work(
        "for n in {1..10}; do find many -size +1M; done",
        f"test -e many || {{ {_MANY} }}; find many >/dev/null",
        "within 1.05",
    ),
    "open and read 10,000 files": Work("grep -r nothing many || true", target="within 1.05"),
    "fork and run 2,000 programs": Work(
        "for n in {1..2000}; do /bin/true; done", target="within 1.10"
    ),
}


def figures(lab: Lab, runs: int = 7) -> Iterator[Figure]:
    """One for each kind of work; the noise is the floor's spread, of its median."""
    start(lab)
    lab.host("gpu17").sh(f"mkdir -p {FLOOR}")
    lab.host("laptop").sh("ssh gpu17 sudo mkdir -p /srv/bench", user=LAPTOP_USER)
    try:
        for what, work in WORKS.items():
            pairs = [(_inside(lab, work), _floor(lab, work)) for _ in range(runs)]
            ours, floors = ([each[n] for each in pairs] for n in (0, 1))
            floor = statistics.median(floors)
            noise = statistics.median(abs(each - floor) for each in floors) / floor
            bare = f"a service of the server's with equal limits (noise {noise:.1%})"
            yield Figure(f"inside: {what}", statistics.median(ours), floor, bare, work.target)
    finally:
        lab.host("gpu17").sh(f"rm -rf {FLOOR}")
        lab.host("laptop").sh("ssh gpu17 sudo rm -rf /srv/bench", user=LAPTOP_USER)


def _inside(lab: Lab, work: Work) -> float:
    script = f"ssh gpu17 sudo bash -eus /srv/bench {_quoted(work)}"
    said = lab.host("laptop").sh(f"{script} <<'END'\n{TIMED}\nEND", user=LAPTOP_USER, timeout=300)
    return int(said.stdout.split()[-1]) / 1e6


def _floor(lab: Lab, work: Work) -> float:
    unit, told = f"lxc-gpu@{NAME}", (TIMED, "bash", FLOOR, work.before, work.does)
    words = " ".join(_word(word.replace("$", "$$")) for word in told)  # systemd.service(5)
    script = f"""
        most=$(systemctl show --property=MemoryMax --value {unit})
        systemd-run --quiet --wait --pipe --slice=lxc-gpu.slice --property=MemoryMax=$most \\
            --property=TasksMax=16384 --property=MemorySwapMax=0 \\
            bash -euc {words}"""
    return int(lab.host("gpu17").sh(script, timeout=300).stdout.split()[-1]) / 1e6


def _quoted(work: Work) -> str:
    """For a shell that is reached by ssh, whose words a further shell reads."""
    return " ".join(_word(_word(text)) for text in (work.before, work.does))


def _word(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
