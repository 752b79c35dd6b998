"""A release archive: the same bytes whenever and wherever it is made, and refused when damaged."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from publishing import archive, source, wheels

from state.command import run

SETUP = Path(__file__).resolve().parents[3] / "setup"
EPOCH = 1_700_000_000
CONTENTS = {"b/run": (b"#!/bin/sh\n", 0o755), "a": (b"text\n", 0o644), "b/c": (b"", 0o644)}


@pytest.fixture(scope="module")
def released() -> source.Source:
    """This checkout, as it is."""
    return source.as_they_are()


def members(packed: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return tar.getmembers()


class TestArchive:
    def test_its_bytes_depend_on_nothing_but_what_is_in_it(self) -> None:
        packed = archive.packed("lxc-gpu-1", CONTENTS, EPOCH)
        time.sleep(1.1)  # gzip(1) would write the time into it
        assert archive.packed("lxc-gpu-1", dict(reversed(CONTENTS.items())), EPOCH) == packed

    def test_it_belongs_to_root_and_begins_with_its_digests(self) -> None:
        found = members(archive.packed("lxc-gpu-1", CONTENTS, EPOCH))
        assert [each.name for each in found] == [
            f"lxc-gpu-1/{name}" for name in ("SHA256SUMS", "a", "b/c", "b/run")
        ]
        assert {(each.uid, each.gid, each.uname, each.mtime) for each in found} == {
            (0, 0, "root", EPOCH)
        }
        assert [each.mode for each in found] == [0o644, 0o644, 0o644, 0o755]


class TestWheelOfTheProject:
    def test_two_builds_give_the_same_bytes(self, released: source.Source, tmp_path: Path) -> None:
        made = []
        for name in ("one", "two"):
            wheels._build(released, tmp_path / name, tmp_path / f"{name}-made")
            (wheel,) = (tmp_path / f"{name}-made").iterdir()
            made.append((wheel.name, wheel.read_bytes()))
        assert made[0] == made[1]
        assert made[0][0] == f"lxc_gpu-{released.version}-py3-none-any.whl"
        with zipfile.ZipFile(io.BytesIO(made[0][1])) as packed:
            names = packed.namelist()
        assert {"state/command.py", "webui/static/style.css", "shells/cli.py"} <= set(names)
        assert not [name for name in names if name.startswith(("tests/", "setup/"))]


class TestSource:
    def test_the_version_is_the_one_of_pyproject(self, released: source.Source) -> None:
        project = tomllib.loads((SETUP.parent / "pyproject.toml").read_text())["project"]
        assert released.version == project["version"]
        command = Path(sys.executable).with_name("lxc-gpu")
        assert run([command, "--version"]).stdout == f"lxc-gpu {project['version']}\n"

    def test_it_is_what_git_has_and_no_more(self, released: source.Source) -> None:
        listed = run(["git", "-C", SETUP.parent, "ls-files", "-co", "--exclude-standard"]).stdout
        there = {name for name in listed.splitlines() if (SETUP.parent / name).exists()}
        assert set(released.contents) == there
        assert released.contents["setup/gpu-server"][1] == 0o755


class TestIntact:
    """setup/intact, which the set-up scripts run before anything else."""

    @pytest.fixture
    def unpacked(self, tmp_path: Path) -> Path:
        files = {
            "setup/intact": ((SETUP / "intact").read_bytes(), 0o755),
            "setup/gpu-server": ((SETUP / "gpu-server").read_bytes(), 0o755),
            "wheels/flask.whl": (b"wheel", 0o644),
            "state/errors.py": (b"python\n", 0o644),
        }
        packed = archive.packed("lxc-gpu-1", files, EPOCH)
        run(["tar", "-C", tmp_path, "-xz"], stdin=packed)
        return tmp_path / "lxc-gpu-1"

    def test_a_whole_one_is_taken_without_a_word(self, unpacked: Path) -> None:
        done = run([unpacked / "setup/intact"])
        assert done.stdout + done.stderr == ""

    def test_a_checkout_has_no_list(self, unpacked: Path) -> None:
        (unpacked / "SHA256SUMS").unlink()
        assert run([unpacked / "setup/intact"]).stderr == ""

    @pytest.mark.parametrize("name", ["wheels/flask.whl", "state/errors.py"])
    @pytest.mark.parametrize("damage", ["changed", "missing"])
    @pytest.mark.parametrize("script", ["intact", "gpu-server"])
    def test_a_damaged_one_is_refused_with_the_files_name(
        self, unpacked: Path, name: str, damage: str, script: str
    ) -> None:
        file = unpacked / name
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(b"Python\n")
        before = {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")}
        done = run([unpacked / "setup" / script], check=False)
        assert done.status == 1
        assert f"{name}: FAILED" in done.stderr
        assert "sha256sum --check SHA256SUMS" in done.stderr
        assert {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")} == before

    def test_what_is_of_another_release_is_named(self, unpacked: Path) -> None:
        (unpacked / "state/__pycache__").mkdir()
        (unpacked / "state/__pycache__/errors.pyc").touch()
        assert run([unpacked / "setup/intact"]).ok
        (unpacked / "state/stale.py").touch()
        done = run([unpacked / "setup/intact"], check=False)
        assert done.status == 1
        assert "state/stale.py: not of this release" in done.stderr

    @pytest.mark.parametrize("text", ["", "nonsense\n"])
    def test_a_list_that_is_none_is_refused(self, unpacked: Path, text: str) -> None:
        (unpacked / "SHA256SUMS").write_text(text)
        assert run([unpacked / "setup/intact"], check=False).status == 1


def test_the_list_is_one_for_sha256sum(tmp_path: Path) -> None:
    for name, (content, _) in CONTENTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / archive.SUMS).write_text(archive.sums(CONTENTS))
    assert shutil.which("sha256sum")
    assert run(["sha256sum", "--check", archive.SUMS], cwd=tmp_path).ok
    assert hashlib.sha256(b"text\n").hexdigest() in archive.sums(CONTENTS)


class TestRefusals:
    """What no archive is made of."""

    @pytest.fixture
    def clone(self, tmp_path: Path) -> Path:
        run(["git", "clone", "--quiet", SETUP.parent, tmp_path / "clone"], timeout=120)
        return tmp_path / "clone"

    def refused(self, clone: Path) -> str:
        path = {"PYTHONPATH": f"{clone / 'setup'}:{clone}"}
        done = run([sys.executable, "-P", "-m", "publishing"], env=path, check=False)
        assert done.status == 1
        assert not (clone / "dist").exists()
        return done.stderr

    def test_files_that_are_not_committed(self, clone: Path) -> None:
        (clone / "state/more.py").write_text("x = 1\n")
        assert "state/more.py" in self.refused(clone)

    def test_a_version_that_the_changelog_does_not_announce(self, clone: Path) -> None:
        project = clone / "pyproject.toml"
        project.write_text(project.read_text().replace('version = "', 'version = "9.'))
        who = ["-c", "user.name=Ann", "-c", "user.email=ann@mylab.com"]
        run(["git", "-C", clone, *who, "commit", "--quiet", "-am", "Release"])
        assert "## [9." in self.refused(clone)
