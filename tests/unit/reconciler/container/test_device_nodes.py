"""Which device files of a server a name means, and what is none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.container import device_nodes
from state.errors import LxcGpuError


def test_a_star_means_numbers_in_their_order(tmp_path: Path) -> None:
    for name in ("renderD129", "renderD128", "renderD1000", "renderD", "renderDx", "card0"):
        (tmp_path / name).touch()
    found = [path.name for path in device_nodes.named(f"{tmp_path}/renderD*")]
    assert found == ["renderD128", "renderD129", "renderD1000"]
    assert device_nodes.named(f"{tmp_path}/card0") == (tmp_path / "card0",)
    assert device_nodes.named(f"{tmp_path}/card1") == ()
    assert device_nodes.named(f"{tmp_path}/nowhere/uverbs*") == ()


@pytest.mark.parametrize(
    ("device", "is_it"),
    [("/dev/video0", True), ("/dev/video12", True), ("/dev/video", False), ("/dev/video0/x", False),
     ("/dev/kvm", True), ("/dev/kvm2", False), ("/dev/videos", False), ("/dev/video²", False)],
)  # fmt: skip
def test_what_a_name_means(device: str, is_it: bool) -> None:
    assert device_nodes.is_named(Path(device), ("/dev/kvm", "/dev/video*")) is is_it


def test_the_kernel_knows_what_a_number_is() -> None:
    null = device_nodes.look(Path("/dev/null"))
    assert null.number == os.makedev(1, 3)
    assert device_nodes.still_is(null)
    assert not device_nodes.still_is(device_nodes.Device(Path("/dev/null"), os.makedev(1, 5)))
    # gone for now: nobody else has its number; then somebody has
    assert device_nodes.still_is(device_nodes.Device(Path("/dev/gone"), os.makedev(195, 77)))
    assert not device_nodes.still_is(device_nodes.Device(Path("/dev/gone"), os.makedev(1, 3)))


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device files")
@pytest.mark.parametrize("form", ["link", "file", "block", "other", "way"])
def test_what_is_not_what_it_is_called_is_refused(tmp_path: Path, form: str) -> None:
    device, words = tmp_path / "kvm", "isn't a character device, or a link leads there"
    if form == "link":
        device.symlink_to("/dev/null")
    elif form == "file":
        device.touch()
    elif form == "block":
        os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(7, 0))
    elif form == "way":
        (tmp_path / "way").symlink_to("/dev")
        device = tmp_path / "way" / "null"
    else:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        words = "has the number of /dev/null"
    fit, (wrong,) = device_nodes.looked_at([device])
    assert fit == []
    assert wrong.code == "device-unfit"
    assert words in wrong.message
    with pytest.raises(LxcGpuError):
        device_nodes.look(device)
