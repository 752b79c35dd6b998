"""The reference names every setting, command and option there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from shells.commands.group import group
from state.command import run
from state.model.announcements import Announcement
from state.model.documents import Fleet, Registration, Server, User
from webui import config

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SECTIONS: dict[str, type[BaseModel]] = {
    "fleet.yaml": Fleet,
    "servers/NAME.yaml": Server,
    "registrations/SERVER/USER.yaml": Registration,
    "users/NAME.yaml": User,
    "announcements/NAME.yaml": Announcement,
    "web.toml": config.WebConfig,
    "[directory]": config.DirectoryConfig,
    "[history]": config.HistoryConfig,
    "[usage]": config.UsageConfig,
    "[mail]": config.MailConfig,
    "[webhook]": config.WebhookConfig,
}
TABLES = {"directory", "history", "usage", "mail", "webhook"}


def section(page: str, title: str) -> str:
    text = (REFERENCE / page).read_text()
    return re.split(rf"^#+ {re.escape(title)}\n", text, flags=re.MULTILINE)[1].split("\n#")[0]


def named(text: str) -> set[str]:
    """What the items of a list are about: what is code before their first colon."""
    lines = re.sub(r"\(default:[^)]*\)", "", re.sub(r"\n  +", " ", text))
    items = re.findall(r"^- (.*?): ", lines, re.MULTILINE)
    return {word for item in items for word in re.findall(r"`([^`]+)`", item)}


@pytest.mark.parametrize("title", SECTIONS)
def test_every_setting_stands_in_the_reference(title: str) -> None:
    fields = {field.alias or name for name, field in SECTIONS[title].model_fields.items()}
    wanted = fields - (TABLES if title == "web.toml" else set())
    assert named(section("settings.md", title)) & fields >= wanted


def commands(command: click.Command, path: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, f"{path} {name}")
    else:
        yield path


def test_every_command_stands_in_the_reference() -> None:
    text = " ".join((REFERENCE / "commands.md").read_text().split())
    assert [path for path in commands(group, "lxc-gpu") if f"`{path}" not in text] == []


@pytest.mark.parametrize("script", ["web-server", "gpu-server", "template"])
def test_every_option_stands_in_the_reference(script: str) -> None:
    help_text = run([ROOT / "setup" / script, "--help"], timeout=60).stdout
    options = set(re.findall(r"^ +(?:-h, )?(--[a-z-]+)", help_text, re.MULTILINE)) - {"--help"}
    assert len(options) >= 6
    text = section("options.md", f"Options of setup/{script}")
    assert {option for option in options if f"`{option}" not in text} == set()
