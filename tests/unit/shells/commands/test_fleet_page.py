"""Where `lxc-gpu status` finds the lab's web page."""

from __future__ import annotations

from pathlib import Path

import pytest

from shells.commands import fleet_page
from shells.commands.fleet_page import VARIABLE, where
from state.errors import LxcGpuError
from tests.unit.state.state_files import fleet_yaml


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that nothing is known of."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(fleet_page, "WEB_CONFIG", tmp_path / "web.toml")
    return tmp_path


def test_the_nearest_word_goes_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = machine / "state"
    (clone / "registrations/gpu17").mkdir(parents=True)
    with pytest.raises(LxcGpuError, match="web page is not known here"):
        where(None, clone)
    (machine / "web.toml").write_text('public_url = "https://of.machine"\nlisten = 5\n')
    assert where(None, clone) == "https://of.machine"
    (clone / "fleet.yaml").write_text(fleet_yaml())
    assert where(None, clone) == "https://of.machine", "a fleet that names none"
    (clone / "fleet.yaml").write_text(fleet_yaml() + "page: https://of.clone/\n")
    assert where(None, clone / "registrations/gpu17") == "https://of.clone"
    monkeypatch.setenv(VARIABLE, "https://of.environment/lab/")
    assert where(None, clone) == "https://of.environment/lab"
    assert where("http://given:8080", clone) == "http://given:8080"


@pytest.mark.parametrize(
    "address",
    ["iam.example.org", "ftp://iam", "file:///etc/passwd", "https://", "https://a b", "a:1",
     "https://you:secret@iam", "https://iam/?x=1", "https://iam/#x", "https://iam:99999",
     "https://iam\x1b[2J", "https://[::1"],
)  # fmt: skip
def test_what_is_no_address(address: str, machine: Path) -> None:
    with pytest.raises(LxcGpuError) as caught:
        where(address, machine)
    assert caught.value.code == "page-address"
    assert caught.value.message.startswith("--page ")
    assert caught.value.message.isprintable()


def test_a_broken_web_toml_says_nothing(machine: Path) -> None:
    for text in ("public_url = 7", "[", "\xff"):
        (machine / "web.toml").write_text(text, encoding="latin-1")
        with pytest.raises(LxcGpuError, match="web page is not known here"):
            where(None, machine)


def test_a_fleet_that_is_wrong_is_said(machine: Path) -> None:
    (machine / "fleet.yaml").write_text(fleet_yaml() + "page: iam\n")
    with pytest.raises(LxcGpuError, match=r"must look like https://iam\.example\.org"):
        where(None, machine)


def test_a_mistake_of_ours_is_no_silence_of_the_page() -> None:
    with pytest.raises(ZeroDivisionError):
        fleet_page._in_time(lambda: bytes(1 // 0), "http://iam")
