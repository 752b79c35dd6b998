"""What work inside a container takes, beside the same work in a service of the server's.

Both as root, with the container's limits, on the same files: what is left is what the container
costs, the mount that shifts its owners included. Two files alike wouldn't do: overwriting one took
1.4 times the processors' time of the other, again and again, by how the kernel had its pages in
memory. A new file wouldn't, either: a virtual disk took from 0.7 to 2.9 s for the same 512 MB, by
where it had room for them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from laboratory.demo.story import NAME
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER

from tests.bench.figures.logins import start
from tests.bench.figures.recoveries import HERE
from tests.bench.measure import Figure

PLACE = "/srv/bench"
FROM_OUTSIDE = f"{HERE}/rootfs/system{PLACE}"
TIMED = """
cd $1
eval "$2"
TIMEFORMAT=$4
{ time eval "$3"; } 2>&1
"""
"""Seconds of the third word, after the second one, in the folder that the first one names.

The fourth one says which; they are to be added up (bash(1), TIMEFORMAT).
"""
UNTIL_DONE = "%3R"
BY_PROCESSORS = "%3U %3S"
_MANY = """
rm -rf many; mkdir many
for n in {1..100}; do mkdir many/$n; (cd many/$n; for m in {1..100}; do echo $m >$m; done); done
"""
_FILE = "test -e file || dd if=/dev/zero of=file bs=1M count=512 status=none; sync"
_OVERWRITE = "dd if=/dev/zero of=file bs=1M count=512 conv=notrunc,fdatasync status=none"


@dataclass(frozen=True)
class Work:
    """Something that programs do all the time."""

    does: str
    before: str = ""
    target: str = "within 1.03"
    counts: str = UNTIL_DONE
    runs: int = 7


WORKS: Mapping[str, Work] = {
    "write 512 MB over a file, until it is on the disk": Work(
        _OVERWRITE, _FILE, "within 1.03, as far as the noise shows it", runs=15
    ),
    "the same, by the processors' time": Work(_OVERWRITE, _FILE, counts=BY_PROCESSORS),
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


def figures(lab: Lab) -> Iterator[Figure]:
    """One for each kind of work; the noise is the floor's spread, of its median."""
    start(lab)
    lab.host("laptop").sh(f"ssh gpu17 sudo mkdir -p {PLACE}", user=LAPTOP_USER)
    try:
        for what, work in WORKS.items():
            ours, floors = _in_both(lab, work)
            floor = statistics.median(floors)
            noise = statistics.median(abs(each - floor) for each in floors) / floor
            bare = f"a service of the server's with equal limits (noise {noise:.1%})"
            yield Figure(f"inside: {what}", statistics.median(ours), floor, bare, work.target)
    finally:
        lab.host("laptop").sh(f"ssh gpu17 sudo rm -rf {PLACE}", user=LAPTOP_USER)


def _in_both(lab: Lab, work: Work) -> tuple[list[float], list[float]]:
    """Seconds inside, and in the service; each of them is the first one every other time."""
    ours: list[float] = []
    floors: list[float] = []
    for run in range(work.runs):
        sides = ((ours, _inside), (floors, _floor))
        for taken, take in reversed(sides) if run % 2 else sides:
            taken.append(take(lab, work))
    return ours, floors


def _inside(lab: Lab, work: Work) -> float:
    script = f"ssh gpu17 sudo bash -eus {PLACE} {_quoted(work)}"
    said = lab.host("laptop").sh(f"{script} <<'END'\n{TIMED}\nEND", user=LAPTOP_USER, timeout=300)
    return _added_up(said.stdout)


def _floor(lab: Lab, work: Work) -> float:
    unit, told = f"lxc-gpu@{NAME}", (TIMED, "bash", FROM_OUTSIDE, *_words(work))
    words = " ".join(_word(word.replace("$", "$$")) for word in told)  # systemd.service(5)
    script = f"""
        most=$(systemctl show --property=MemoryMax --value {unit})
        systemd-run --quiet --wait --pipe --slice=lxc-gpu.slice --property=MemoryMax=$most \\
            --property=TasksMax=16384 --property=MemorySwapMax=0 \\
            bash -euc {words}"""
    return _added_up(lab.host("gpu17").sh(script, timeout=300).stdout)


def _added_up(output: str) -> float:
    """What TIMED prints in the end."""
    return sum(map(float, output.splitlines()[-1].split()))


def _words(work: Work) -> tuple[str, str, str]:
    """The last three that TIMED takes."""
    return work.before, work.does, work.counts


def _quoted(work: Work) -> str:
    """For a shell that is reached by ssh, whose words a further shell reads."""
    return " ".join(_word(_word(text)) for text in _words(work))


def _word(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
