"""The code is in one style and spelled right: ruff and codespell, as pyproject.toml says."""

import sys
from pathlib import Path

import pytest

from state.command import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("words", [("check",), ("format", "--check")])
def test_one_style(words: tuple[str, ...]) -> None:
    folders = ("state", "reconciler", "shells", "webui", "setup", "tests")
    ruff = Path(sys.executable).with_name("ruff")
    done = run([ruff, *words, "--no-cache", *folders], cwd=ROOT, check=False)
    assert done.ok, done.stdout + done.stderr


def test_words_are_spelled_right() -> None:
    listed = run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT).stdout
    names = [name for name in listed.split("\0") if name and (ROOT / name).exists()]
    done = run([Path(sys.executable).with_name("codespell"), *names], cwd=ROOT, check=False)
    assert done.ok, done.stdout


MISSPELLED = '"""Rec-ieved."""\n'.replace("-", "")


class TestBeforeACommit:
    """The hooks of .pre-commit-config.yaml, which fetch nothing."""

    @pytest.fixture
    def clone(self, tmp_path: Path) -> Path:
        run(["git", "clone", "--quiet", "--no-tags", ROOT, tmp_path / "clone"], timeout=120)
        (tmp_path / "clone/.venv").symlink_to(Path(sys.prefix))
        (tmp_path / "clone/.pre-commit-config.yaml").write_bytes(
            (ROOT / ".pre-commit-config.yaml").read_bytes()
        )
        return tmp_path / "clone"

    @pytest.mark.parametrize(
        ("hook", "text"),
        [
            ("ruff", "x = 1\n"),
            ("ruff-format", "x = ( 1 )\n"),
            ("codespell", MISSPELLED),
        ],
    )
    def test_a_file_that_is_not_ours_in_style_is_refused(
        self, clone: Path, hook: str, text: str
    ) -> None:
        words: list[str | Path] = [Path(sys.executable).with_name("pre-commit"), "run", hook]
        home = {"PRE_COMMIT_HOME": str(clone.parent / "cache")}
        for content, right in (('"""More."""\n', True), (text, False)):
            (clone / "state/more.py").write_text(content)
            run(["git", "add", "state/more.py"], cwd=clone)
            done = run(words, cwd=clone, env=home, check=False, timeout=120)
            assert done.ok == right, done.stdout
