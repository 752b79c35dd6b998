"""The story: from a public key to root in one's own container, as a researcher lives it.

`setup/demo` plays it for people, tests/lab/test_story.py for the tests: the same chapters, each
checking what a person would see.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page, expect

from laboratory.demo.narrator import Narrator
from laboratory.directory.people import LQCHEN
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER
from state.command import Finished

NAME = "lqchen"
SERVERS = ("gpu17", "gpu18")
PATIENCE_MS = 30_000
NO_TERMINAL = "Pseudo-terminal will not be allocated because stdin is not a terminal.\r\n"
"""What ssh prints because no terminal is there."""
KEY = "~/.ssh/id_ed25519"


@dataclass(frozen=True)
class Story:
    """The lab in which the story plays, and its narrator."""

    lab: Lab
    page: Page
    tell: Narrator

    def laptop(self, line: str, *, fails: bool = False, silent: bool = False) -> Finished:
        """Type a line on the laptop."""
        done = self.lab.host("laptop").sh(line, user=LAPTOP_USER, timeout=120, check=False)
        if not silent:
            self.tell.typed(line, done.stderr.replace(NO_TERMINAL, "") + done.stdout)
        if done.ok == fails:
            expected = "fails" if fails else "works"
            self.tell.check(False, f"`{line}` {expected}", done.stdout + done.stderr)
        return done


@dataclass(frozen=True)
class Chapter:
    """One part of the story."""

    title: str
    play: Callable[[Story], None]


def _pastes_a_key(story: Story) -> None:
    story.laptop(f"test -e {KEY} || ssh-keygen -q -t ed25519 -N '' -f {KEY}")
    key = story.laptop(f"cat {KEY}.pub").stdout.strip()
    page, tell = story.page, story.tell
    tell.says(f"In the browser: {story.lab.web_url}")
    page.goto(story.lab.web_url)
    page.get_by_label("Your login").fill(LQCHEN.login)
    page.get_by_role("button", name="Go to my page").click()
    tell.says("pastes the public key, types the laboratory password, saves")
    page.get_by_label("Paste your public key").fill(key)
    page.get_by_label("Laboratory password").fill(LQCHEN.password)
    page.get_by_role("button", name="Save").click()
    for server in SERVERS:
        row = page.locator("li.server", has_text=server)
        expect(row).to_contain_text("converged", timeout=PATIENCE_MS)
        tell.says(f"the page says of {server}: {row.locator('p').first.inner_text()}")
    tell.check("/save/" in page.url, "the page shows, server by server, that the key arrived")
    log = (
        story.lab.host("iam")
        .sh(
            "git -c safe.directory='*' -C /var/lib/lxc-gpu/state.git log -1 --format='%an: %s' main"
        )
        .stdout.strip()
    )
    tell.check(
        log.startswith(f"{LQCHEN.name}: ") and NAME in log,
        f"the newest commit is theirs: {log}",
        log,
    )


def _url(story: Story) -> str:
    return story.lab.web_url.rstrip("/")


def _saves_the_ssh_files(story: Story) -> None:
    page, tell = story.page, story.tell
    page.goto(f"{_url(story)}/user/{NAME}")
    commands = page.locator(".command code")
    story.laptop(commands.nth(0).inner_text())
    story.laptop(commands.nth(1).inner_text())
    config = story.laptop("cat ~/.ssh/lxc-gpu.config", silent=True).stdout
    for server in SERVERS:
        tell.check(
            f"Host {server}\n" in config and f"Host {server}-manage\n" in config,
            f"the ssh configuration knows {server} and {server}-manage",
            config,
        )
    tell.check("StrictHostKeyChecking yes" in config, "host keys are checked, without questions")


def _registers(story: Story) -> None:
    done = story.laptop(f"ssh register@gpu17-manage {NAME}")
    story.tell.check("ready" in done.stdout, "the container is made", done.stdout)
    by_a_nudge = "- make the container" not in done.stderr  # whose round was faster
    shown = "- unpacking" in done.stderr or "- taking the system that is ready" in done.stderr
    story.tell.check(by_a_nudge or shown, "what took a while was shown while it took", done.stderr)
    story.tell.says("the container has a host key of its own: the two files are fetched again")
    story.page.goto(f"{_url(story)}/user/{NAME}")
    story.laptop(story.page.locator(".command code").nth(0).inner_text())


def _starts(story: Story) -> None:
    done = story.laptop("ssh gpu17-manage")
    story.tell.check("is up" in done.stdout, "the container is started", done.stdout)
    story.tell.check("ssh gpu17" in done.stdout, "it says how to log in", done.stdout)
    again = story.laptop("ssh gpu17-manage")
    story.tell.check("runs already" in again.stdout, "the second time, it runs already")
    facts = json.loads(story.laptop("ssh gpu17-manage status --json").stdout)
    story.tell.check(facts["running"], "status says so to programs, too", str(facts))
    story.tell.check("restart" in story.laptop("ssh gpu17-manage help").stdout, "help helps")


def _logs_in(story: Story) -> None:
    done = story.laptop("ssh gpu17 'sudo id -un; whoami; hostname'")
    story.tell.check(
        done.stdout.split() == ["root", NAME, f"{NAME}-gpu17"],
        "root inside, as easily as that",
        done.stdout,
    )
    host = story.lab.host("gpu17")
    host.write("/root/secret", "of the host\n", 0o600)
    story.tell.says("root inside reaches nothing of the server:")
    for attempt in (
        "sudo cat /root/secret",
        "sudo sh -c 'ls /var/lib/lxc-gpu'",
        "sudo mount -t ext4 /dev/vda /mnt",
        "sudo sh -c 'echo 1 > /proc/sys/kernel/sysrq'",
    ):
        story.laptop(f"ssh gpu17 {shlex.quote(attempt)}", fails=True)
    owner = host.sh(
        "stat -c %u /proc/$(pgrep -o -P $(systemctl show -P MainPID lxc-gpu@lqchen))"
    ).stdout.strip()
    story.tell.check(
        int(owner) >= 10_000_000, f"outside, that root is uid {owner}: nobody at all", owner
    )


def _stops_and_restarts(story: Story) -> None:
    done = story.laptop("ssh gpu17-manage stop")
    story.tell.check("shut down" in done.stdout, "the container is shut down", done.stdout)
    story.laptop("ssh -o ConnectTimeout=5 gpu17 true", fails=True)
    done = story.laptop("ssh gpu17-manage restart")
    story.tell.check("is up" in done.stdout, "and up again", done.stdout)
    story.laptop("ssh gpu17 true")
    story.tell.check(True, "same address, same port, same host key: ssh asks nothing")


CHAPTERS = (
    Chapter(f"1. {LQCHEN.name} pastes a public key on the web page", _pastes_a_key),
    Chapter("2. The laptop learns the servers' names and host keys", _saves_the_ssh_files),
    Chapter("3. Registers on gpu17", _registers),
    Chapter("4. Starts the container", _starts),
    Chapter("5. Logs in, and is root", _logs_in),
    Chapter("6. Stops it, and starts it again", _stops_and_restarts),
)
