"""The lock files say what pyproject.toml asks for, and each package by its digests."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from installation import lock

ROOT = lock.CHECKOUT
PYPROJECT = (ROOT / "pyproject.toml").read_text()
FILES = pytest.mark.parametrize("file", [lock.SERVERS, lock.DEVELOPMENT], ids=lambda f: f.name)
SETUP = {"installation", "laboratory", "publishing"}
OURS = {"state", "reconciler", "shells", "webui", "tests"} | SETUP


@FILES
def test_is_made_from_what_pyproject_asks_for(file: Path) -> None:
    wanted = lock.requirements(file, PYPROJECT)
    assert lock.made_from(file.read_text()) == lock.digest_of(wanted), (
        f"pyproject.toml asks for other packages than {file.name} was made from. Type: setup/lock"
    )


@FILES
def test_every_requirement_has_a_version_that_fits(file: Path) -> None:
    pins = lock.pins(file.read_text())
    for text in lock.requirements(file, PYPROJECT):
        wanted = Requirement(text)
        version = pins.get(lock.normal(wanted.name), "none")
        assert version in wanted.specifier, f"{text}, and locked is {version}. Type: setup/lock"


@FILES
def test_every_package_has_digests_and_nothing_else_is_said(file: Path) -> None:
    """No address of an index, for one: everybody has their own."""
    comments = "".join(re.findall(r"^#.*\n", file.read_text(), re.MULTILINE))
    assert "//" not in comments
    packages = file.read_text()[len(comments) :].replace("\\\n", " ").splitlines()
    assert len(packages) > 20
    for line in packages:
        assert re.fullmatch(r"[\w.-]+==[\w.+]+( ; [^#/]+?)?( +--hash=sha256:[0-9a-f]{64})+", line)


def test_servers_get_what_is_tested() -> None:
    tested = lock.pins(lock.DEVELOPMENT.read_text())
    assert lock.pins(lock.SERVERS.read_text()).items() <= tested.items()


class TestReading:
    def test_names_are_compared_in_all_their_spellings(self) -> None:
        text = "Ruamel_YAML.clib==0.2 \\\n    --hash=sha256:00\nx==1 ; a < 'b' \\\n"
        assert lock.pins(text) == {"ruamel-yaml-clib": "0.2", "x": "1"}

    def test_a_change_of_the_requirements_changes_the_digest(self) -> None:
        more = PYPROJECT.replace('    "flask>=3.0",\n', '    "flask>=3.0",\n    "x>=1",\n')
        wanted, other = (lock.requirements(lock.SERVERS, text) for text in (PYPROJECT, more))
        assert set(other) - set(wanted) == {"x>=1"}
        assert lock.digest_of(wanted) != lock.digest_of(other)

    def test_a_file_without_a_header_is_of_nothing(self) -> None:
        assert lock.made_from("flask==3.0\n") == ""


def imported(folder: str) -> set[str]:
    """The root modules that a folder's modules import."""
    found = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("folders", "file"),
    [
        (("state", "reconciler", "shells", "webui"), lock.SERVERS),
        (("setup", "tests"), lock.DEVELOPMENT),
    ],
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], file: Path) -> None:
    """Not only there because something else needs it."""
    declared = {lock.normal(Requirement(r).name) for r in lock.requirements(file, PYPROJECT)}
    brought = packages_distributions()
    modules = set().union(*map(imported, folders)) - OURS - sys.stdlib_module_names
    assert len(modules) > 5
    for module in modules:
        distributions = {lock.normal(name) for name in brought.get(module, [])}
        assert distributions & declared, f"pyproject.toml doesn't name what brings {module}"
