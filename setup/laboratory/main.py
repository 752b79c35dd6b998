"""The command `setup/lab`."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace

import click

from laboratory.hosts import Lab
from laboratory.layout import DIRECTORIES, places
from state.errors import LxcGpuError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")


class Commands(click.Group):
    """A group of commands that prints errors for people."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. An error ends it with a message and status 1."""
        try:
            return super().invoke(ctx)
        except LxcGpuError as error:
            if error.details:
                click.echo(error.details, err=True)
            click.echo(f"setup/lab: {error}", err=True)
            ctx.exit(1)


def release_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Check an option for click: a release becomes part of files' names."""
    if value and not NAME.fullmatch(value):
        raise click.BadParameter("give a release's name, e.g. trixie")
    return value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", default="", help="Another lab besides the usual one, in .lab-NAME.")
@click.pass_context
def main(ctx: click.Context, name: str) -> None:
    """A lab of real machines on this one, in a network of its own."""
    if name and not NAME.fullmatch(name):
        raise click.BadParameter("letters, digits and dashes, please", param_hint="--name")
    ctx.obj = Lab(places(name))


@main.command()
@click.option("--hosts", default="", help="Only these, with commas between.  [default: all]")
@click.option(
    "--bare",
    is_flag=True,
    envvar="LXC_GPU_LAB_BARE",
    help="Make the machines only, without setting lxc-gpu up.",
)
@click.option(
    "--vm",
    "virtual",
    default="",
    metavar="HOSTS",
    help="These GPU servers as virtual machines, with a kernel of their own (slow).",
)
@click.option(
    "--release",
    default="",
    metavar="NAME",
    envvar="LXC_GPU_LAB_RELEASE",
    callback=release_name,
    help="Debian's release on machines that are made now, e.g. trixie.  [default: this machine's]",
)
@click.option(
    "--directory",
    default="",
    type=click.Choice(["", *DIRECTORIES]),
    metavar=f"[{'|'.join(DIRECTORIES)}]",
    help="slapd, or Active Directory by two Samba domain controllers.  "
    f"[default: what the lab has; a new one: {DIRECTORIES[0]}]",
)
@click.pass_context
def up(
    ctx: click.Context, hosts: str, bare: bool, virtual: str, release: str, directory: str
) -> None:
    """Make the lab's machines and start them. Existing ones are left alone."""
    from laboratory import lifecycle
    from laboratory.progress import ProgressLines

    name = ctx.find_root().params["name"]
    begun = time.monotonic()
    with ProgressLines() as progress:
        lab = replace(ctx.ensure_object(Lab), virtual=frozenset(_names(virtual)), release=release)
        lifecycle.up(lab, _names(hosts), progress, bare=bare, directory=directory)
        progress.say(f"The lab is up ({time.monotonic() - begun:.1f} s).")
        if lab.web_url:
            progress.say(f"web page  {lab.web_url}")
        named = f" --name {name}" if name else ""
        progress.say(f"as root   setup/lab{named} exec HOST COMMAND")


def _names(listed: str) -> list[str]:
    return [name for name in listed.split(",") if name]


@main.command()
@click.pass_obj
def down(lab: Lab) -> None:
    """Stop and remove the lab's machines. Cached images are kept."""
    from laboratory import lifecycle
    from laboratory.progress import ProgressLines

    with ProgressLines() as progress:
        lifecycle.down(lab, progress)
        progress.say("The lab is down.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def status(lab: Lab, as_json: bool) -> None:
    """Show the state of the lab's machines. The exit status is 3 unless the lab runs."""
    from laboratory import lifecycle, report

    lifecycle.check_machine()
    observed = report.observe(lab)
    if as_json:
        click.echo(report.as_json(observed))
    else:
        report.show(observed)
    sys.exit(0 if observed.running else 3)


@main.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("-u", "--user", default="", help="As this user, in a login session.")
@click.argument("host")
@click.argument("command", nargs=-1, required=True)
@click.pass_obj
def execute(lab: Lab, user: str, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in HOST, as root, with this terminal."""
    lab.host(host).exec(command, user=user)
