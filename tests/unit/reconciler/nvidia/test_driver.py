"""NVIDIA's driver, as far as texts and files in a folder tell: captured outputs, no GPU."""

import json
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from reconciler.doctor.driver import in_step_of
from reconciler.host import places
from reconciler.mounts.tree import LEAST, Tree
from reconciler.nvidia import cdi, install, kept, nodes, nvml, versions
from reconciler.nvidia.driver import Driver
from reconciler.nvidia.nodes import Card
from state.errors import LxcGpuError, Remedy
from tests.unit.reconciler.views import VIEW

CLOSED = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.261.03  Fri Aug 22 01:40:06 UTC 2025
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)
"""
OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  (dvs-builder@U16)
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""
LEGACY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.157  Wed Oct 12 09:19:07 UTC 2022\n"
INFORMATION = """\
Model: \t\t NVIDIA A100-SXM4-40GB
IRQ:   \t\t 153
GPU UUID: \t GPU-5a1bd0a3-9d4e-4d12-8b5e-2f6c1c6f0e01
Video BIOS: \t 92.00.45.00.05
Bus Location: \t 0000:07:00.0
Device Minor: \t 3
"""
A, B = Card("GPU-a", 3), Card("GPU-b", 0)


EDITS = {
    "mounts": [{"hostPath": "/usr/lib/libcuda.so.5", "containerPath": "/lib/libcuda.so.5"}],
    "hooks": [
        {"path": "/evil", "args": ["x", "create-symlinks", "--link", "a.so.1::/lib/a.so"]},
        {"path": "/evil", "args": ["x", "create-symlinks", "--link=b.so.1::/lib/b.so"]},
        {"path": "/evil", "args": ["x", "update-ldcache", "--folder", "/lib"]},
        {"path": "/evil"},
    ],
}


class TestVersions:
    @pytest.mark.parametrize(
        ("text", "version"),
        [(CLOSED, "535.261.03"), (OPEN, "550.54.14"), (LEGACY, "390.157"), ("", None),
         ("GCC version:  gcc version 12.2.0\n", None)],
    )  # fmt: skip
    def test_the_modules(self, text: str, version: str | None) -> None:
        assert versions.of_proc(text) == version

    def test_of_names_the_newest_first(self) -> None:
        names = ["libcuda.so.99.10", "libcuda.so.535.261.03", "libcuda.so.535.54.03", "libcuda.so",
                 "libcuda.so.1", "libcudart.so.12.1.105", "libnvidia-ml.so.535.261.03",
                 "/x/y/libcuda.so.470.256.02", "libcuda.so.535.261.03.bak"]  # fmt: skip
        assert versions.of_names(names) == ("535.261.03", "535.54.03", "470.256.02", "99.10")

    def test_a_driver_is_upgraded_if_both_are_known_and_differ(self) -> None:
        assert Driver("535.1", "550.1").upgraded
        assert not Driver("535.1", "535.1").upgraded
        assert not Driver(None, "550.1").upgraded
        assert Driver(None, "550.1").version == "550.1"
        assert not Driver(None, None).present

    def test_installed_by_what_the_loaders_link_leads_to(self, tmp_path: Path) -> None:
        """Debian's way: over /etc/alternatives into a folder of the variant."""
        base = tmp_path / f"usr/lib/{versions.MACHINE}-linux-gnu"
        (base / "nvidia/current").mkdir(parents=True)
        assert versions.installed(tmp_path) is None
        (base / "nvidia/current/libcuda.so.535.261.03").touch()
        (tmp_path / "alternative").symlink_to(base / "nvidia/current/libcuda.so.535.261.03")
        (base / "libcuda.so.1").symlink_to(tmp_path / "alternative")
        assert versions.installed(tmp_path) == "535.261.03"
        found = kept.own_content("535.261.03", tmp_path)
        assert list(found.files) == ["lib/libcuda.so.535.261.03"]

    def test_installed_where_only_the_loader_finds_them(self, tmp_path: Path) -> None:
        """In a folder of their own, which ld.so.conf(5) names; seen on a server with an H100."""
        folder = tmp_path / "usr/local/nvidia/lib64"
        folder.mkdir(parents=True)
        (tmp_path / "etc").mkdir()
        cached = [b"glibc-ld.so.cache1.1", b"libcuda.so.1", b"/usr/lib32/libnvidia-ml.so.1"]
        for name in ("libnvidia-ml.so", "libcuda.so", "libnvidia-nvvm.so"):
            (folder / f"{name}.580.159.04").write_bytes(b"\x7fELF\x02...")
            (folder / f"{name}.1").symlink_to(f"{name}.580.159.04")
            cached += [f"{name}.1".encode(), f"/usr/local/nvidia/lib64/{name}.1".encode()]
        (tmp_path / "etc/ld.so.cache").write_bytes(b"\0".join([*cached, b""]))
        (tmp_path / "opt").mkdir()
        (tmp_path / "opt/libcuda.so.1").symlink_to("libcuda.so.1")  # a loop
        cached += [b"libcuda.so.1", b"/opt/libcuda.so.1"]
        (tmp_path / "etc/ld.so.cache").write_bytes(b"\0".join([*cached, b""]))
        (tmp_path / "usr/lib32").mkdir()
        (tmp_path / "usr/lib32/libnvidia-ml.so.535.1").write_bytes(b"\x7fELF\x01...")
        (tmp_path / "usr/lib32/libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.535.1")
        assert versions.installed(tmp_path) == "580.159.04"
        found = kept.own_content("580.159.04", tmp_path)
        assert len(found.files) == 3
        assert "lib/libnvidia-nvvm.so.580.159.04" in found.files

    def test_installed_in_the_usual_place_by_a_link_that_leads_elsewhere(
        self, tmp_path: Path
    ) -> None:
        """All of that version beside the file itself are taken, not those few that have links."""
        (tmp_path / "usr/lib").mkdir(parents=True)
        (tmp_path / "opt").mkdir()
        for name in ("libnvidia-ml.so.580.1", "libnvidia-gpucomp.so.580.1"):
            (tmp_path / "opt" / name).touch()
        (tmp_path / "usr/lib/libnvidia-ml.so.1").symlink_to("../../opt/libnvidia-ml.so.580.1")
        assert versions.installed(tmp_path) == "580.1"
        assert "lib/libnvidia-gpucomp.so.580.1" in kept.own_content("580.1", tmp_path).files

    @pytest.mark.skipif(os.getuid() != 0, reason="becomes the owner")
    def test_inside_by_names_and_links_whatever_else_is_there(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents[:-2]:
            parent.chmod(parent.stat().st_mode | 0o055)
        base = tmp_path / f"usr/lib/{versions.MACHINE}-linux-gnu"
        base.mkdir(parents=True)
        os.chown(tmp_path, LEAST, LEAST)
        tree = Tree(tmp_path, LEAST, 65_536)
        assert versions.inside(tree) is None
        (base / "libcuda.so.535.261.03").touch()
        (base / "libcuda.so.470.1").touch()
        assert versions.inside(tree) == "535.261.03"
        (base / "libcuda.so.1").symlink_to("libcuda.so.470.1")
        assert versions.inside(tree) == "470.1"
        (base / "libcuda.so.1").unlink()
        (base / "libcuda.so.1").mkdir()
        (tmp_path / "usr/lib64").symlink_to("/etc")
        assert versions.inside(tree) == "535.261.03"


class TestNodes:
    def test_a_card(self) -> None:
        assert nodes.of_proc(INFORMATION) == Card("GPU-5a1bd0a3-9d4e-4d12-8b5e-2f6c1c6f0e01", 3)
        assert nodes.of_proc("Model: x\n") is None

    def test_cards_in_the_order_of_the_bus(self, tmp_path: Path) -> None:
        for bus, minor in (("0000:47:00.0", 0), ("0000:07:00.0", 3)):
            folder = tmp_path / "gpus" / bus
            folder.mkdir(parents=True)
            (folder / "information").write_text(f"GPU UUID: GPU-{minor}\nDevice Minor: {minor}\n")
        assert nodes.cards(tmp_path) == (Card("GPU-3", 3), Card("GPU-0", 0))
        assert nodes.cards(tmp_path / "none") == ()

    def test_chosen_by_uuid_or_index(self) -> None:
        assert nodes.choose(None, (A, B)) == (None, ())
        assert nodes.choose((), (A, B)) == (frozenset(), ())
        assert nodes.choose(("GPU-b", "0"), (A, B)) == (frozenset({0, 3}), ())
        assert nodes.choose(("1", "GPU-x", "2"), (A, B)) == (frozenset({0}), ("GPU-x", "2"))

    def test_no_way_leads_to_another_gpu(self, tmp_path: Path) -> None:
        """Also where nvidia-drm gives each GPU a render node, which `devices` may name."""
        proc, drm, bus = tmp_path / "proc", tmp_path / "drm", tmp_path / "bus"
        for number, (address, driver) in enumerate(
            [("0000:07:00.0", "nvidia"), ("0000:09:00.0", "nvidia"), ("0000:00:02.0", "i915")]
        ):
            (tmp_path / driver).mkdir(exist_ok=True)
            (bus / address).mkdir(parents=True)
            (bus / address / "driver").symlink_to(tmp_path / driver)
            (drm / f"renderD{128 + number}").mkdir(parents=True)
            (drm / f"renderD{128 + number}" / "device").symlink_to(bus / address)
        (proc / "gpus/0000:07:00.0").mkdir(parents=True)
        (proc / "gpus/0000:07:00.0/information").write_text(INFORMATION)

        def passes(device: str, *minors: int) -> bool:
            return nodes.passes(Path("/dev") / device, frozenset(minors), drm, proc)

        assert passes("dri/renderD128", 3)
        assert not passes("dri/renderD128", 0)
        assert not passes("dri/renderD129", 0, 3), "which one it is isn't known"
        assert passes("dri/renderD130")
        assert nodes.passes(Path("/dev/dri/renderD129"), None, drm, proc), "of all GPUs"
        assert passes("nvidia3", 3)
        assert not passes("nvidia3", 0)
        assert passes("nvidiactl")
        assert passes("kvm")
        assert nodes.minors_in([Path("/dev/nvidia3"), Path("/dev/nvidiactl")]) == {3}
        assert nodes.known_minors(("0",), proc) == frozenset({3})
        assert nodes.known_minors(("0", "GPU-not-used-yet"), proc) is None
        assert nodes.known_minors((), proc) == frozenset()


class TestSpecification:
    def test_mounts_and_the_meaning_of_hooks(self, tmp_path: Path) -> None:
        file = tmp_path / "nvidia.json"
        file.write_text(json.dumps({"containerEdits": EDITS}))
        fields = cdi.read(file)
        assert cdi.files_of(fields) == (
            (Path("/usr/lib/libcuda.so.5"), PurePosixPath("/lib/libcuda.so.5")),
        )
        assert cdi.links_of(fields) == (
            (PurePosixPath("/lib/a.so"), "a.so.1"), (PurePosixPath("/lib/b.so"), "b.so.1"),
        )  # fmt: skip

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", '{"containerEdits": {"mounts": [7]}}', '{"containerEdits": 7}']
    )
    def test_what_can_t_be_read_is_an_error(self, tmp_path: Path, text: str) -> None:
        for name in ("a.json", "a.yaml"):
            (tmp_path / name).write_text(text)
            with pytest.raises(LxcGpuError, match="can be read"):
                cdi.read(tmp_path / name)

    def test_one_of_another_version_is_stale(self, tmp_path: Path) -> None:
        file = tmp_path / "var/run/cdi/n.yaml"
        file.parent.mkdir(parents=True)
        file.write_text("kind: nvidia.com/gpu\n# libcuda.so.535.261.03\n")
        assert cdi.naming("535.261.03", tmp_path) == file
        assert cdi.naming("550.54.14", tmp_path) is None
        assert cdi.stale("550.54.14", tmp_path) == file
        assert cdi.stale("535.261.03", tmp_path) is None

    def test_only_libraries_tools_and_known_extras_are_taken(self, tmp_path: Path) -> None:
        for name in ("libcuda.so.5", "nvidia-smi", "shadow", "nvidia-persistenced"):
            (tmp_path / name).touch()
        files = [
            (tmp_path / "libcuda.so.5", PurePosixPath("/lib/libcuda.so.5")),
            (tmp_path / "nvidia-smi", PurePosixPath("/usr/bin/nvidia-smi")),
            (tmp_path / "shadow", PurePosixPath("/etc/shadow")),
            (tmp_path / "nvidia-persistenced", PurePosixPath("/usr/bin/nvidia-persistenced")),
            (tmp_path / "gone", PurePosixPath("/lib/libgone.so.1")),
        ]
        links = [(PurePosixPath("/x/libcuda.so"), "/a/libcuda.so.5"), (PurePosixPath("/x"), "y")]
        found = kept.content_of(files, links)
        assert sorted(found.files) == ["bin/nvidia-smi", "lib/libcuda.so.5"]
        assert found.links == {"lib/libcuda.so": "libcuda.so.5"}


class TestKept:
    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for name in ("NVIDIA", "RUN", "LOCKS"):
            monkeypatch.setattr(places, name, tmp_path / name)
            (tmp_path / name).mkdir()
        for folder in ("usr/lib", "usr/bin", "etc/cdi"):
            (tmp_path / folder).mkdir(parents=True)
        return tmp_path

    def have(self, server: Path, version: str) -> Path:
        library, tool = server / f"usr/lib/libcuda.so.{version}", server / "usr/bin/nvidia-smi"
        if not library.exists():
            library.write_text(version)
            link = server / "usr/lib/libcuda.so"
            link.unlink(missing_ok=True)
            link.symlink_to(library.name)
            tool.touch()
            tool.chmod(0o4755)
        found = kept.folder_for(version, version, server)
        assert found is not None
        return found

    def test_files_are_linked_and_set_uid_ones_are_not(self, server: Path) -> None:
        folder = self.have(server, "535.1")
        assert (folder / "lib/libcuda.so.535.1").stat().st_nlink == 2
        tool = (folder / "bin/nvidia-smi").stat()
        assert (tool.st_nlink, tool.st_mode & 0o7777) == (1, 0o755)
        assert (server / "usr/bin/nvidia-smi").stat().st_mode & 0o7777 == 0o4755
        assert (folder / "lib/libcuda.so").readlink() == Path("libcuda.so.1")
        assert self.have(server, "535.1") == folder

    def test_what_a_specification_names_is_taken_if_it_can_be_read(self, server: Path) -> None:
        own = self.have(server, "535.1")
        spec, named = server / "etc/cdi/nvidia.json", server / "libcuda.so.535.1"
        named.touch()
        mounts = [{"hostPath": str(named), "containerPath": "/lib/libcuda.so.535.1"}]
        spec.write_text(json.dumps({"containerEdits": {"mounts": mounts}}))
        folder = self.have(server, "535.1")
        assert folder != own
        assert (folder / "lib/libcuda.so.535.1").samefile(named)
        assert not (folder / "bin/nvidia-smi").exists()
        spec.write_text("{ libcuda.so.535.1")
        again = self.have(server, "535.1")
        assert (again / "lib/libcuda.so.535.1").samefile(server / "usr/lib/libcuda.so.535.1")

    def test_outlives_an_upgrade_as_long_as_somebody_uses_it(self, server: Path) -> None:
        old = self.have(server, "535.1")
        (server / "usr/lib/libcuda.so.535.1").unlink()  # what dpkg does
        assert kept.folder_for("535.1", "550.1", server) == old
        assert (old / "lib/libcuda.so.535.1").read_text() == "535.1"
        (server / "RUN/lqchen.config").write_text(f"lxc.mount.entry = {old} usr/local/nvidia\n")
        self.have(server, "550.1")
        assert old.is_dir()
        (server / "RUN/lqchen.config").unlink()
        self.have(server, "560.1")
        assert not old.exists()
        assert kept.folder_for("535.1", "560.1", server) is None

    def test_what_a_kill_left_is_made_again(self, server: Path) -> None:
        folder = self.have(server, "535.1")
        half = folder.with_name(f".{folder.name}.new")
        folder.rename(half)
        (half / "settle").unlink()
        assert self.have(server, "535.1") == folder
        assert (folder / "settle").exists()
        assert not half.exists()


class TestNvml:
    def test_errors_are_in_words(self) -> None:
        assert "upgraded" in nvml._error(18, "x").message
        assert "not loaded" in nvml._error(9, "x").message
        assert "management library" in nvml._error(12, "x").message
        assert nvml._error(15, "GPU is lost").message.endswith("GPU is lost.")

    def test_is_not_asked_while_the_server_is_suspended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(places, "SUSPENDED", tmp_path / "suspended.json")
        places.SUSPENDED.write_text("{}")
        with pytest.raises(LxcGpuError) as caught:
            nvml.read()
        assert (caught.value.code, caught.value.remedy) == ("gpu-suspended", Remedy.WAIT)

    def test_one_that_is_lost_is_named_and_takes_none_along(self) -> None:
        """As `Query` answers, composed by hand after NVML's documentation."""
        gpu = {
            "index": 1, "uuid": "GPU-1", "minor": 1, "name": "Tesla T4", "memory_total": 16 << 30,
            "memory_used": 0, "utilisation": 0, "temperature": 30, "power": 9.5,
            "power_limit": 70.0, "processes": [{"pid": 7, "memory": None}],
            "mig": [{"uuid": "MIG-1", "name": "1g.5gb", "memory_total": 5, "memory_used": 0}],
        }  # fmt: skip
        lost = [{"index": 0, "text": "GPU is lost", "error": 15}]
        reading = nvml.reading({"driver": "535.1", "gpus": [gpu], "lost": lost})
        assert [each.index for each in reading.gpus] == [1]
        assert reading.gpus[0].processes == (nvml.GpuProcess(7, None),)
        assert reading.gpus[0].mig[0].name == "1g.5gb"
        assert reading.problem is not None
        assert "GPU 0: GPU is lost" in reading.problem.message
        assert nvml.reading({"driver": "535.1", "gpus": [gpu], "lost": []}).problem is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: installers are root's")
class TestInstaller:
    """Whoever else could say what it is would have every container run it, or read root's files."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / install.NAME.format("550.54.14")
        path.write_text("ours")
        return path

    def opened(self, path: Path) -> str:
        with install.installer(replace(VIEW, installers=str(path.parent)), "550.54.14") as fd:
            return os.read(fd, 99).decode()

    def refused(self, path: Path) -> LxcGpuError:
        with pytest.raises(LxcGpuError) as caught:
            self.opened(path)
        return caught.value

    def test_of_root_is_lent(self, path: Path) -> None:
        assert self.opened(path) == "ours"

    def test_that_is_missing_is_said(self, path: Path) -> None:
        path.unlink()
        assert self.refused(path).code == "installer-missing"

    @pytest.mark.parametrize("which", ["file", "folder"])
    @pytest.mark.parametrize(("owner", "mode"), [(20_031, 0o755), (0, 0o775), (0, 0o757)])
    def test_that_others_can_change_is_not(
        self, path: Path, which: str, owner: int, mode: int
    ) -> None:
        changed = path if which == "file" else path.parent
        os.chown(changed, owner, 0)
        changed.chmod(mode)
        error = self.refused(path)
        assert error.code == "installer-untrusted"
        assert f"chown root:root {changed};" in error.hint

    def test_a_link_is_not_followed(self, path: Path) -> None:
        path.rename(path.parent / "secret")
        path.symlink_to("secret")
        assert "is a link" in self.refused(path).message

    def test_a_pipe_or_a_folder_is_none(self, path: Path) -> None:
        path.unlink()
        os.mkfifo(path)
        assert "isn't a file" in self.refused(path).message
        path.unlink()
        path.mkdir()
        assert "isn't a file" in self.refused(path).message


@pytest.mark.parametrize(
    ("driver", "policy", "still_kept", "words"),
    [
        (Driver("535.1", "535.1"), "mount", True, "both 535.1"),
        (Driver("535.1", "550.1"), "mount", True, "Containers go on"),
        (Driver("535.1", "550.1"), "mount", False, "finds no GPU"),
        (Driver("535.1", "550.1"), "install", True, "finds no GPU"),
        (Driver("535.1", None), "mount", False, "no libraries"),
    ],
)
def test_doctor_says_what_it_means(
    driver: Driver, policy: str, still_kept: bool, words: str
) -> None:
    assert words in in_step_of(driver, policy, still_kept).text
