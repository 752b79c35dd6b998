"""The command `setup/bench`: measures what people wait for. Prints ratios; asserts nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from laboratory.layout import CHECKOUT

from state.errors import LxcGpuError
from tests.bench.catalogue import choose, listing
from tests.bench.results import Results, read, write
from tests.bench.runner import Runner
from tests.bench.tables import compared, table

LATEST = CHECKOUT / ".bench" / "latest.json"
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "listed", is_flag=True, help="Show the names, and what they measure.")
@click.option("--json", "kept", type=FILE, help="Keep the results here.  [default: "
              ".bench/latest.json in the checkout]")  # fmt: skip
@click.option("--compare", type=FILE, help="Show results that were kept beside the new ones.")
@click.option("--show", type=FILE, help="Measure nothing: show results that were kept.")
def main(
    names: tuple[str, ...],
    listed: bool,
    kept: Path | None,
    compare: Path | None,
    show: Path | None,
) -> None:
    """Measure what people wait for: all, or only what the NAMEs say.

    Ends with status 1 if a measurement failed.
    """
    if show and names:
        raise click.UsageError("--show measures nothing: no names, please.")
    try:
        if listed:
            click.echo(listing())
            return
        then = read(compare) if compare else None
        results = read(show) if show else _measured(names, kept or LATEST)
    except LxcGpuError as error:
        if error.details:
            click.echo(error.details, err=True)
        click.echo(f"setup/bench: {error}", err=True)
        sys.exit(2 if error.code.startswith("bench-") else 1)
    click.echo(f"\n{table(results)}")
    if then:
        click.echo(f"\n{compared(then, results)}")
    sys.exit(1 if results.failed else 0)


def _measured(names: tuple[str, ...], kept: Path) -> Results:
    runner = Runner(choose(names), lambda results: write(kept, results))
    runner.run()
    click.echo(f"\nKept in {kept}.")
    return runner.results


if __name__ == "__main__":
    main(prog_name="setup/bench")
