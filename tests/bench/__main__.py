"""Measures what people wait for: `sudo setup/bench`. Prints ratios; asserts nothing."""

from __future__ import annotations

from laboratory import lifecycle
from laboratory.demo import play
from laboratory.hosts import Lab
from laboratory.layout import places
from laboratory.progress import Progress

from tests.bench import (
    connections,
    frames,
    load_stream,
    logins,
    monitor,
    recoveries,
    revocation,
    rounds,
    snapshots,
    walk,
)
from tests.bench.measure import table


def main() -> None:
    """A lab of its own, the story, then every measurement."""
    lab = Lab(places("bench"))
    try:
        play(lab)
        gpu18 = lab.host("gpu18")
        figures = [
            logins.manage_while_running(lab),
            logins.only_looking(lab, "status"),
            logins.only_looking(lab, "gpus"),
            logins.cold_start(lab),
            logins.save_to_login(lab),
            *connections.figures(lab),
            revocation.key_removed(lab),
            rounds.first_round(gpu18),
            rounds.empty_round(gpu18),
            rounds.one_change(gpu18),
            rounds.check_10000(gpu18),
            walk.thousand_commits(),
            snapshots.of_3_gb(lab),
            recoveries.of_3_gb(lab),
            recoveries.registration(lab),
            recoveries.registration_3_gb(lab),
            *frames.judged(lab),
            *load_stream.figures(lab.host("gpu17")),
            *monitor.figures(),
        ]
        print(f"\n{table(figures)}")
    finally:
        with Progress() as progress:
            lifecycle.down(lab, progress)


if __name__ == "__main__":
    main()
