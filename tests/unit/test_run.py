"""How a run is arranged: what begins, what is left out, what is kept of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from state.command import run
from tests import durations, untouched

LAB, VM = "tests/lab/test_port.py", "tests/vm"


def test_what_a_file_will_take() -> None:
    seconds = {LAB: 20.0, f"{VM}/test_vm.py": 300.0, f"{VM}/test_quota.py": 90.0}
    assert durations.expected(LAB, seconds) == 20
    assert durations.expected(VM, seconds) == 390, "the folder is one machine's"
    assert durations.expected("tests/lab/test_new.py", seconds) == durations.UNKNOWN["lab"]
    assert durations.expected("tests/unit/test_new.py", seconds) == durations.SHORT


def test_only_files_that_ran_to_their_end_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durations, "OWN", tmp_path / "own")
    (tmp_path / "own").write_text('{"tests/b.py": 7, "tests/d.py": 8}')
    recorder = durations.Recorder()
    recorder.expect(["tests/a.py::x", "tests/a.py::y", "tests/b.py::x", "tests/c.py::x"])
    for test in ("tests/a.py::x", "tests/a.py::y", "tests/b.py::x"):
        recorder.note(test, "setup", 1.0, "passed")
        recorder.note(test, "call", 2.0, "failed" if test.endswith("y") else "passed")
    for test in ("tests/a.py::x", "tests/a.py::y"):
        recorder.note(test, "teardown", 0.5, "passed")
    recorder.note("tests/c.py::x", "setup", 0.0, "skipped")
    recorder.note("tests/c.py::x", "teardown", 0.0, "passed")
    assert recorder.whole() == {"tests/a.py"}, "b was broken off, c is a skip"
    assert recorder.failed == {"tests/a.py"}
    recorder.keep()
    kept = json.loads((tmp_path / "own").read_text())
    assert kept == {"tests/a.py": 7.0, "tests/b.py": 7, "tests/d.py": 8}


def test_what_changes_the_lab_is_noticed(tmp_path: Path) -> None:
    for name in ("setup/lab", "setup/laboratory/hosts.py", "state/command.py", "webui/words.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    seen = [untouched.digest(tmp_path)]
    (tmp_path / "setup/laboratory/__pycache__").mkdir()
    (tmp_path / "setup/laboratory/__pycache__/hosts.pyc").write_text("compiled")
    (tmp_path / "webui/words.py").write_text("after")
    assert untouched.digest(tmp_path) == seen[0]
    for change in (
        lambda: (tmp_path / "setup/laboratory/hosts.py").write_text("after"),
        lambda: (tmp_path / "state/command.py").write_text("after"),
        lambda: (tmp_path / "setup/lab").chmod(0o755),
        lambda: (tmp_path / "setup/lab").rename(tmp_path / "setup/labs"),
    ):
        change()
        seen.append(untouched.digest(tmp_path))
    assert len(set(seen)) == 5


def test_that_the_labs_tests_passed_is_believed_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untouched, "PASSED", tmp_path / "passed")
    assert not untouched.passed_before()
    untouched.note_passed("what they began with")
    assert not untouched.passed_before(), "a file was changed meanwhile"
    untouched.note_passed(untouched.digest())
    assert untouched.passed_before()
    monkeypatch.setattr(untouched, "BELIEVED_FOR", -1)
    assert not untouched.passed_before()


def test_what_the_lab_imports_is_among_its_files() -> None:
    """Or a change that breaks it would be believed to be none."""
    code = (
        "import grimp, json; "
        "graph = grimp.build_graph('laboratory', 'installation', 'state', 'reconciler',"
        " cache_dir=None); "
        "ours = [m for m in graph.modules if m.split('.')[0] in ('laboratory', 'installation')]; "
        "below = set().union(*(graph.find_upstream_modules(module) for module in ours)); "
        "print(json.dumps(sorted(below | set(ours))))"
    )
    path = {"PYTHONPATH": f"{untouched.ROOT}:{untouched.ROOT / 'setup'}"}
    imported = json.loads(run([sys.executable, "-c", code], env=path).stdout)
    seen = set(untouched._files(untouched.ROOT))
    missing = set()
    for module in imported:
        place = untouched.ROOT / module.replace(".", "/")
        if module.startswith(("laboratory", "installation")):
            place = untouched.ROOT / "setup" / module.replace(".", "/")
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        missing |= {file} - seen
    assert missing == set()
