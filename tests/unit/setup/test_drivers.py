"""Which NVIDIA libraries the lab takes, whatever the archive has on a day."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from laboratory.images.drivers import (
    Offer,
    choose,
    copy_as,
    lines_among,
    offers_in,
    older,
    packages_of,
)

MAIN = "nvidia-"
BOOKWORM = [
    [Offer(MAIN, "535.309.01-0+deb12u1"), Offer(MAIN, "535.261.03-1")],
    [Offer("nvidia-tesla-", "525.147.05-15~deb12u1")],
    [Offer("nvidia-tesla-470-", "470.256.02-2~deb12u1")],
]
TRIXIE = [[Offer(MAIN, "550.163.01-2")], [Offer("nvidia-tesla-535-", "535.274.02-1~deb13u1")]]


def chosen(offers: list[list[Offer]]) -> list[str]:
    return [offer.version for offer in choose(offers)]


class TestChoosing:
    @pytest.mark.parametrize(
        ("offers", "versions"),
        [
            (BOOKWORM, ["535.309.01", "525.147.05"]),
            ([BOOKWORM[0][1:], *BOOKWORM[1:]], ["535.261.03", "525.147.05"]),
            (TRIXIE, ["550.163.01", "535.274.02"]),
            ([BOOKWORM[0]], ["535.309.01", "535.261.03"]),
            ([TRIXIE[0], [Offer("nvidia-tesla-", "550.163.01-9")]], ["550.163.01"]),
            ([[], TRIXIE[0]], ["550.163.01"]),
            ([], []),
        ],
        ids=["two lines", "old lists", "Debian 13", "one line", "one version", "one offer", "none"],
    )
    def test_two_versions_of_different_lines_if_there_are(
        self, offers: list[list[Offer]], versions: list[str]
    ) -> None:
        assert chosen(offers) == versions

    def test_by_number_and_not_by_letter(self) -> None:
        offers = [[Offer("nvidia-x-", v)] for v in ("99.5-1", "1000.1-1", "535.9-1", "535.10-1")]
        assert chosen(offers) == ["1000.1", "535.10"]

    def test_the_newest_of_a_line_before_its_older_ones(self) -> None:
        offers = [[Offer(MAIN, "600.2-1"), Offer(MAIN, "600.1-1")], [Offer("nvidia-x-", "470.1-1")]]
        assert chosen(offers) == ["600.2", "470.1"]


class TestLines:
    def test_are_found_by_the_names_of_packages(self) -> None:
        names = [n for line in (MAIN, "nvidia-tesla-470-") for n in packages_of(line)]
        assert "nvidia-tesla-470-smi" in names
        assert "libcuda1" in names
        half = ["libnvidia-tesla-cuda1", "libnvidia-tesla-ml1"]
        assert lines_among([*names, *half, "bash"]) == (MAIN, "nvidia-tesla-470-")

    def test_offer_what_all_their_packages_have(self) -> None:
        listing = """\
  libcuda1 | 535.309.01-1 | http://a bookworm-security/non-free amd64 Packages
  libcuda1 | 535.261.03-1 | http://a bookworm/non-free amd64 Packages
libnvidia-ml1 | 535.309.01-1 | http://a bookworm-security/non-free amd64 Packages
libnvidia-ml1 | 535.261.03-1 | http://a bookworm/non-free amd64 Packages
libnvidia-ptxjitcompiler1 | 535.261.03-1 | http://a bookworm/non-free amd64 Packages
nvidia-smi | 535.261.03-1 | http://a bookworm/contrib amd64 Packages
"""
        assert offers_in(listing, MAIN) == (Offer(MAIN, "535.261.03-1"),)
        assert offers_in("", MAIN) == ()


def test_one_version_is_made_into_another(tmp_path: Path) -> None:
    """Files and links carry the other version, and no link leads to what isn't there."""
    folder = tmp_path / "550.163.01"
    folder.mkdir()
    (folder / "libcuda.so.550.163.01").write_text("library")
    (folder / "libcuda.so.1").symlink_to("libcuda.so.550.163.01")
    (folder / "nvidia-smi").write_text("program")
    (folder / "nvidia-smi").chmod(0o755)
    assert older("550.163.01") == "549.163.01"
    made = copy_as(folder, "550.163.01", "549.163.01")
    assert made == tmp_path / "549.163.01"
    names = ["libcuda.so.1", "libcuda.so.549.163.01", "nvidia-smi"]
    assert sorted(file.name for file in made.iterdir()) == names
    assert (made / "libcuda.so.1").read_text() == "library"
    assert (made / "nvidia-smi").stat().st_mode & 0o111
