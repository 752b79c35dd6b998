"""`connect` against the mapped port: how long a login takes, a round trip, half a gigabyte."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER

from tests.bench.figures.logins import start
from tests.bench.measure import Figure, in_turn

MEGABYTES = 500
TRIPS = 500
THROUGH = "-o 'ProxyCommand=ssh -T gpu17-manage connect'"
LOGIN = "ssh $WAY gpu17 true"
DOWN = f"ssh $WAY gpu17 head -c {MEGABYTES}M /dev/zero >/dev/null"
UP = f"head -c {MEGABYTES}M /dev/zero | ssh $WAY gpu17 'cat >/dev/null'"
ROUND_TRIPS = f"""
coproc ssh $WAY gpu17 cat
trip() {{ echo >&${{COPROC[1]}}; read -ru ${{COPROC[0]}}; }}
trip
begun=${{EPOCHREALTIME/./}}
for n in {{1..{TRIPS}}}; do trip; done
echo $((${{EPOCHREALTIME/./}} - begun))
kill $COPROC_PID
"""
TIMED = "begun=${EPOCHREALTIME/./}; LINE; echo $((${EPOCHREALTIME/./} - begun))"


def _seconds(lab: Lab, script: str, way: str) -> float:
    argv = ["bash", "-euc", script.replace("$WAY", way)]
    shown = lab.host("laptop").run(argv, user=LAPTOP_USER, timeout=300)
    return float(shown.stdout.split()[-1]) / 1e6


def figures(lab: Lab) -> Iterator[Figure]:
    """All of them, on a container that runs; the mapped port is the floor."""
    start(lab)
    for what, script, runs, target in (
        ("a login by connect", TIMED.replace("LINE", LOGIN), 7, "one login to the server more"),
        (f"{MEGABYTES} MB out by connect", TIMED.replace("LINE", DOWN), 3, "within 2"),
        (f"{MEGABYTES} MB in by connect", TIMED.replace("LINE", UP), 3, "within 2"),
        (f"{TRIPS} round trips by connect", ROUND_TRIPS, 3, "within 2"),
    ):
        medians = in_turn(
            partial(_seconds, lab, script, THROUGH), partial(_seconds, lab, script, ""), runs
        )
        yield Figure(what, *medians, "the same by the mapped port", target)
