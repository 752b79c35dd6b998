"""What a set-up leaves when it is interrupted, run twice at once, or started in a hostile place."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from installation import gpu_server, gpu_units, release, script, steps
from installation.steps import Steps

from reconciler.host import places
from reconciler.rounds.trusted import older_than_view, trusted_revision
from state import command
from webui.howto import chapters

SETUP = Path(__file__).resolve().parents[3] / "setup"


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a set-up of this test leaves its mark."""
    monkeypatch.setattr(steps, "ENVIRONMENT", tmp_path / "opt")
    monkeypatch.setattr(steps, "UNFINISHED", tmp_path / "opt/.unfinished")
    return steps.UNFINISHED


def test_only_a_whole_set_up_takes_the_mark_of_an_interrupted_one_away(marked: Path) -> None:
    Steps().begin()
    assert marked.exists(), "interrupted here"
    Steps().done()
    assert marked.exists(), "only packages were installed"
    again = Steps()
    again.begin()
    assert again.interrupted
    again.done()
    assert not marked.exists()


def test_the_page_of_a_release_finds_the_how_to(tmp_path: Path) -> None:
    for path, (content, _) in release._contents().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    code = "from webui import howto; print(howto.FOLDER, len(howto.chapters()))"
    done = command.run([sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout.split() == [str(tmp_path / "docs/researchers"), str(len(chapters()))]


def test_what_runs_keeps_its_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that was made later, but never in use."""
    for name in ("ENVIRONMENT", "PACKAGES_LINK", "RELEASES", "EXECUTABLES", "RELEASE", "_BEFORE"):
        monkeypatch.setattr(release, name, tmp_path / name.lower())
    (tmp_path / "executables").mkdir()
    (tmp_path / "packages_link").mkdir()
    used, never, new = (release.RELEASES / f"release-{name}" for name in ("used", "never", "new"))
    for age, folder in enumerate((new, never, used)):
        folder.mkdir(parents=True)
        os.utime(folder, (1000 - age, 1000 - age))
    release.RELEASE.symlink_to(used)
    release.switch(Steps(), new)
    release.retire(Steps())
    assert release.RELEASE.resolve() == new
    assert sorted(release.RELEASES.iterdir()) == [new, used]


class TestUnitsOfAnotherRelease:
    """Left by a newer one, to which this checkout's is the older."""

    @pytest.fixture
    def units(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Units of this checkout and one of another; `systemctl` writes down what it is told."""
        folder, executables = tmp_path / "units", tmp_path / "executables"
        shutil.copytree(SETUP / "units", folder)
        shutil.copytree(SETUP / "executables", executables)
        for path in folder.glob("lxc-gpu-*.service"):
            path.write_text(path.read_text().replace(str(places.EXECUTABLES), str(executables)))
        monkeypatch.setattr(gpu_units, "UNIT_FOLDER", folder)
        monkeypatch.setattr(places, "EXECUTABLES", executables)
        stub = tmp_path / "systemctl"
        stub.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/told\n')
        stub.chmod(0o755)
        monkeypatch.setattr(command, "SEARCH_PATH", f"{tmp_path}:{command.SEARCH_PATH}")
        return folder

    def test_go_with_what_starts_them(self, units: Path, tmp_path: Path) -> None:
        before = set(units.iterdir())
        runs = f"[Service]\nExecStart={tmp_path}/executables/dream %i\n"
        (units / "lxc-gpu-dream.service").write_text(runs)
        (units / "lxc-gpu-dream.timer").write_text("[Timer]\n")
        own, nowhere = units / "lxc-gpu-own.service", units / "lxc-gpu-nowhere.service"
        own.write_text("[Service]\nExecStart=/usr/bin/true\n")
        nowhere.symlink_to("/nowhere")
        assert gpu_units.remove_others(Steps())
        assert set(units.iterdir()) == before | {own, nowhere}
        told = (tmp_path / "told").read_text().splitlines()
        assert told == [
            "disable --now --quiet lxc-gpu-dream.timer",
            "disable --now --quiet lxc-gpu-dream.service",
        ]

    def test_ones_own_stay(self, units: Path, tmp_path: Path) -> None:
        before = set(units.iterdir())
        assert not gpu_units.remove_others(Steps())
        assert set(units.iterdir()) == before
        assert not (tmp_path / "told").exists()

    @pytest.mark.parametrize("name", ["announced", "reservations", "loaded"])
    def test_of_this_one_an_older_one_passes_over(self, name: str) -> None:
        unit = (SETUP / f"units/lxc-gpu-{name}.service").read_text()
        assert f"\nConditionPathExists={places.EXECUTABLES}/{name}\n" in unit


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets a machine up")
def test_one_set_up_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "LOCK", tmp_path / "lock")
    with script.LOCK.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert script.run_script("setup/x", "A machine", lambda steps: None) == 1
    said = capsys.readouterr()
    assert "Another set-up is running" in said.err
    assert said.out == ""
    assert script.run_script("setup/x", "A machine", lambda steps: None) == 0


def test_what_goes_wrong_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: Steps) -> None:
        raise OSError(28, "No space left on device", "/opt/lxc-gpu")

    monkeypatch.setattr(script, "LOCK", tmp_path / "lock")
    assert script.run_script("setup/x", "A machine", full) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gpu-server", "web-server"])
@pytest.mark.parametrize("module", ["argparse.py", "installation/__init__.py"])
def test_the_folder_where_it_is_typed_is_not_searched(
    tmp_path: Path, name: str, module: str
) -> None:
    """It may be anybody's: what lies there must not become root's program."""
    trap = tmp_path / module
    trap.parent.mkdir(exist_ok=True)
    trap.write_text("raise SystemExit('trapped')")
    done = subprocess.run(
        [SETUP / name, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage: setup/" in done.stdout


class TestSshdPiece:
    PIECE = "MaxStartups 200:30:400\nPerSourcePenaltyExemptList @EXEMPT@\nMatch all\n"
    NEW = "port 22\npersourcepenalties crash:90 authfail:5\npersourcepenaltyexemptlist none\n"

    def test_whom_sshd_is_not_to_punish(self) -> None:
        text = steps.with_exempt(self.PIECE, ["172.16.2.2", "10.9.0.0/16"], self.NEW)
        assert "\nPerSourcePenaltyExemptList 172.16.2.2,10.9.0.0/16\n" in text

    def test_an_sshd_that_does_not_know_the_word_does_not_get_it(self) -> None:
        """It would stop at it: Debian 12 has OpenSSH 9.2."""
        without = "MaxStartups 200:30:400\nMatch all\n"
        assert steps.with_exempt(self.PIECE, ["172.16.2.2"], "port 22\n") == without
        assert steps.with_exempt(self.PIECE, [], self.NEW) == without, "an empty list is refused"

    @pytest.mark.parametrize("piece", ["sshd/lxc-gpu.conf", "web/sshd.conf"])
    def test_limits_for_everybody_stand_before_the_first_match(self, piece: str) -> None:
        """They are global; in a Match block, sshd refuses them."""
        before = (SETUP / piece).read_text().split("\nMatch ")[0]
        for word in ("LoginGraceTime", "MaxStartups", "PerSourceMaxStartups", "@EXEMPT@"):
            assert word in before


def test_what_is_trusted_is_written_even_if_it_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "TRUSTED", tmp_path / "trusted")
    monkeypatch.setattr(places, "VIEW", tmp_path / "view.json")
    places.TRUSTED.write_text("a" * 40 + "\n")
    os.utime(places.TRUSTED, (1, 1))
    places.VIEW.write_text("{}")
    assert older_than_view()
    gpu_server._trust(Steps(), "a" * 40)
    assert not older_than_view(), "so no round overwrites it"
    assert trusted_revision(None) == "a" * 40
