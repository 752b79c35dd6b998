"""The command `setup/demo`: a lab, the story, and what to try next."""

from __future__ import annotations

import time

import click

from laboratory import lifecycle
from laboratory.demo.browser import browser
from laboratory.demo.narrator import Narrator
from laboratory.demo.story import CHAPTERS, NAME, Story
from laboratory.directory.people import LQCHEN
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER, places
from laboratory.main import Commands, release_name
from laboratory.progress import ProgressLines
from state.ssh_files import CONFIG, KNOWN_HOSTS


@click.group(
    cls=Commands,
    invoke_without_command=True,
    options_metavar="[--story | --down] [--name NAME] [--release NAME]",
    subcommand_metavar="",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--story", "only_story", is_flag=True, help="Play the story, check each step, and exit."
)
@click.option("--down", "remove", is_flag=True, help="Remove everything again.")
@click.option("--name", default="", help="Use another lab besides the usual one.")
@click.option(
    "--release",
    default="",
    envvar="LXC_GPU_LAB_RELEASE",
    callback=release_name,
    help="Debian's release on its machines, e.g. trixie.",
)
def main(only_story: bool, remove: bool, name: str, release: str) -> None:
    """Show lxc-gpu from a public key to root in one's own container, on real machines."""
    lab = Lab(places(name), release=release)
    if remove:
        with ProgressLines() as progress:
            lifecycle.down(lab, progress)
        return
    begun = time.monotonic()
    play(lab)
    if only_story:
        with ProgressLines() as progress:
            lifecycle.down(lab, progress)
    else:
        _what_to_try(lab, f" --name {name}" if name else "")
    print(f"({time.monotonic() - begun:.0f} s)")


def play(lab: Lab) -> None:
    """Play the whole story in a fresh lab. StoryError if something goes wrong."""
    with ProgressLines() as progress:
        lifecycle.down(lab, progress)  # the story begins with a person whom nobody knows
        lifecycle.up(lab, (), progress)
    tell = Narrator()
    with browser() as chromium:
        story = Story(lab, chromium.new_page(), tell)
        for chapter in CHAPTERS:
            tell.chapter(chapter.title)
            chapter.play(story)
    print(f"\nThe story held: {tell.checks} checks.")


def _what_to_try(lab: Lab, named: str) -> None:
    """`named`: the option of the commands that names this lab."""
    ssh = f"/home/{LAPTOP_USER}/.ssh"
    laptop, ours = lab.host("laptop"), lab.place.folder / "laptop.known_hosts"
    config = laptop.read(f"{ssh}/{CONFIG}").replace(f"~/.ssh/{KNOWN_HOSTS}", str(ours))
    (lab.place.folder / "laptop.ssh_config").write_text(config)
    ours.write_text(laptop.read(f"{ssh}/{KNOWN_HOSTS}"))
    print(f"""
The lab stays up. Try, on this machine:
  {lab.web_url.rstrip("/")}/user/{NAME}    (password: {LQCHEN.password})
  {lab.web_url.rstrip("/")}/monitor
  ssh -F {lab.place.ssh_config} gpu17-manage status
  ssh -F {lab.place.ssh_config} gpu17
  setup/lab{named} exec gpu17 lxc-gpu plan
  setup/demo --down{named}""")
