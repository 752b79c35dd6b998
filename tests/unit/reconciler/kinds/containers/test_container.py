from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.kinds.containers.container import _without_template
from reconciler.systems import template_choice
from tests.unit.reconciler.views import with_

USUAL, CUDA = {"template usual": "usual"}, {"template cuda": "cuda"}
VIEW = with_(template="usual", templates={"cuda": "CUDA"})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a server's templates are; ann has chosen another one than the usual."""
    monkeypatch.setattr(places, "TEMPLATES", tmp_path)
    monkeypatch.setattr(places, "CHOSEN", tmp_path / "chosen")
    template_choice.choose(VIEW, "ann", "cuda")
    return tmp_path


@pytest.mark.parametrize(
    ("archives", "new", "without"),
    [
        ([], [], {**USUAL, **CUDA}),
        ([], ["ann", "bob"], {**USUAL, **CUDA, "ann": "cuda", "bob": "usual"}),
        (["usual"], ["ann", "bob"], {**CUDA, "ann": "cuda"}),
        (["cuda"], ["ann"], USUAL),
        (["usual", "cuda"], ["ann", "bob"], {}),
    ],
)
def test_whose_template_is_missing_is_seen_before_a_container_is_made(
    here: Path, archives: list[str], new: list[str], without: dict[str, str]
) -> None:
    for name in archives:
        (here / f"{name}.tar.zst").touch()
    found = _without_template(VIEW, new)
    assert {name: error.message.split()[2] for name, error in found.items()} == without
    assert {error.code for error in found.values()} <= {"template-missing"}
