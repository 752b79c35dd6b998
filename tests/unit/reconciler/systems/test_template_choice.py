"""Which templates are on the server, and what is said of those that aren't."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.doctor import storage
from reconciler.doctor.server import CheckedServer
from reconciler.host import places
from reconciler.systems import template_choice
from state.errors import LxcGpuError
from tests.unit.reconciler.views import with_

OFFERS = with_(templates={"cuda-12": "CUDA 12"})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of templates, with debian-12's archive."""
    monkeypatch.setattr(places, "TEMPLATES", tmp_path)
    (tmp_path / "debian-12.tar.zst").write_bytes(storage.ZSTD + bytes(1 << 20))
    return tmp_path


def test_whoever_wants_one_that_is_missing_reads_which_are_here(folder: Path) -> None:
    assert template_choice.archive_of(OFFERS, "debian-12") == folder / "debian-12.tar.zst"
    with pytest.raises(LxcGpuError) as caught:
        template_choice.archive_of(OFFERS, "cuda-12")
    assert "cuda-12 is not on this server" in caught.value.message
    first, second = caught.value.hint.splitlines()
    assert first == "Here are: debian-12. Type, for example, `--template debian-12`."
    assert second.startswith("Sysadmin: is that name in servers/gpu17.yaml right?")
    (folder / "debian-12.tar.zst").unlink()
    with pytest.raises(LxcGpuError) as caught:
        template_choice.archive_of(OFFERS, "cuda-12")
    assert caught.value.hint.startswith("Sysadmin: ")


def test_the_doctor_names_each_that_is_offered(folder: Path) -> None:
    server = CheckedServer(None, OFFERS)  # type: ignore[arg-type]
    here, missing = storage.template(server)
    assert (here.level, missing.level) == ("ok", "wrong")
    assert missing.text.startswith("The template cuda-12 is not on this server")
    assert f"`setup/template --release RELEASE {folder}/cuda-12.tar.zst`" in missing.hint
    (folder / "cuda-12.tar.zst").write_bytes(b"no archive")
    _, damaged = storage.template(server)
    assert "is not a zstd archive" in damaged.text
