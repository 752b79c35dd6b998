"""setup/package-lists: apt's lists, fetched from real sources, which are folders here."""

from __future__ import annotations

import fcntl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from state.command import Finished, environment, run

SCRIPT = Path(__file__).resolve().parents[2] / "setup/package-lists"


@dataclass(frozen=True)
class Machine:
    """A machine's apt, with lists and sources of its own below `root`."""

    root: Path

    @property
    def env(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self.root / "apt.conf")}

    @property
    def lists(self) -> Path:
        return self.root / "lists"

    def source(self, name: str) -> Path:
        """A source of packages, among those that are configured from now on."""
        folder = self.root / name
        folder.mkdir()
        (folder / "Packages").write_text(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
            f"Filename: ./{name}.deb\nSize: 1\nSHA256: {'0' * 64}\n\n"
        )
        with (self.root / "sources.list").open("a") as sources:
            sources.write(f"deb [trusted=yes] copy:{folder} ./\n")
        return folder

    def fetch(self) -> Finished:
        return run([SCRIPT], env=self.env, check=False)

    def knows(self, package: str) -> bool:
        return package in run(["apt-cache", "pkgnames"], env=self.env).stdout.split()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for folder in ("lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sources.list").touch()
    (tmp_path / "apt.conf").write_text(f"""
        Dir::State::Lists "{tmp_path}/lists";
        Dir::Cache "{tmp_path}/cache";
        Dir::Etc::SourceList "{tmp_path}/sources.list";
        Dir::Etc::SourceParts "-";
        APT::Sandbox::User "";
    """)
    return Machine(tmp_path)


def test_lists_of_all_sources_are_there_afterwards(machine: Machine) -> None:
    """Also of those that were configured after somebody last fetched lists."""
    first = machine.source("first")
    assert machine.fetch().ok
    second = machine.source("second")
    assert not machine.knows("second")
    done = machine.fetch()
    assert done.ok
    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert [line.split()[2] for line in said] == [f"copy:{first}", f"copy:{second}"]
    assert machine.knows("first")
    assert machine.knows("second")


def test_a_source_that_gives_nothing_is_said_and_stops_nobody(machine: Machine) -> None:
    machine.source("good")
    bad = machine.source("bad")
    (bad / "Packages").unlink()
    done = machine.fetch()
    assert done.ok
    assert "not all could be fetched" in done.stderr
    assert str(bad) in done.stderr
    assert str(machine.root / "good") in done.stdout
    assert machine.knows("good")


def test_lists_from_before_do_without_a_network(machine: Machine) -> None:
    source = machine.source("good")
    assert machine.fetch().ok
    source.rename(machine.root / "away")
    done = machine.fetch()
    assert done.ok
    assert "what was fetched before goes on being used" in done.stderr
    assert machine.knows("good")


def test_a_machine_without_any_list_is_told_what_to_do(machine: Machine) -> None:
    source = machine.source("only")
    source.rename(machine.root / "away")
    done = machine.fetch()
    assert done.status == 1
    assert "this machine has none from before" in done.stderr
    assert str(source) in done.stderr
    assert "run this again" in done.stderr


def test_a_machine_without_any_source_is_told_so(machine: Machine) -> None:
    done = machine.fetch()
    assert done.status == 1
    assert "no source of packages" in done.stderr


def test_another_apt_is_waited_for(machine: Machine) -> None:
    machine.source("good")
    with (machine.lists / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [SCRIPT], env=environment(machine.env), stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert "another apt is at work" in waiting.stdout.readline()
    assert "good" in waiting.stdout.read()
    assert waiting.wait(60) == 0
