"""What engines inside a container find: the specification's text, and whose file stands there."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from reconciler.children import hostile
from reconciler.nvidia import cdi, inner
from reconciler.nvidia.nodes import Card
from reconciler.nvidia.versions import MACHINE

OWNER = 123_456
DEV = [Path("/dev", name) for name in (
    "nvidia0", "nvidia3", "nvidia-uvm", "nvidiactl", "nvidia-caps/nvidia-cap1")]  # fmt: skip
CARDS = (Card("GPU-a", 3), Card("GPU-elsewhere", 1), Card("", 0))
ICD = "etc/OpenCL/vendors/nvidia.icd"
EGL = "usr/share/glvnd/egl_vendor.d/10_nvidia.json"
DEBIAN = f"/usr/lib/{MACHINE}-linux-gnu"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Libraries as `kept` makes them: files, links by what they call themselves, bare ones."""
    made = tmp_path / "550.1-abc"
    for place in ("lib/libcuda.so.550.1", "lib/libnvidia-ml.so.550.1", "lib/libnvidia-x.so.550.1",
                  "bin/nvidia-smi", f"files/{ICD}", f"files/{EGL}"):  # fmt: skip
        (made / place).parent.mkdir(parents=True, exist_ok=True)
        (made / place).touch()
    for link, to in (("libcuda.so.1", "libcuda.so.550.1"), ("libcuda.so", "libcuda.so.1"),
                     ("libnvidia-ml.so.1", "libnvidia-ml.so.550.1"),
                     ("libnvidia-ml.so", "libnvidia-ml.so.1")):  # fmt: skip
        (made / "lib" / link).symlink_to(to)
    return made


def read(folder: Path, nodes: list[Path] = DEV) -> Mapping[str, object]:
    """The specification, read as YAML by the code that reads the server's own."""
    text = inner.files(nodes, CARDS, folder)[inner.SPECIFICATION]
    assert text is not None
    file = folder.with_name("nvidia.yaml")
    file.write_text(text)
    fields = cdi.read(file)
    assert fields == json.loads(text.partition("\n")[2]), "JSON behind a comment is YAML, too"
    return fields


class TestSpecification:
    def test_the_form_that_the_standard_asks_for(self, folder: Path) -> None:
        """SPEC.md of 0.5.0: what has to be there, and which letters a device's name may have."""
        fields = read(folder)
        assert (fields["cdiVersion"], fields["kind"]) == ("0.5.0", "nvidia.com/gpu")
        assert set(fields) == {"cdiVersion", "kind", "devices", "containerEdits"}
        devices = fields["devices"]
        assert isinstance(devices, list)
        assert all(re.fullmatch(r"[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?", d["name"]) for d in devices)
        assert all(set(d) == {"name", "containerEdits"} for d in devices)

    def test_gpus_by_index_by_uuid_and_all_as_they_are_seen_inside(self, folder: Path) -> None:
        """Indices are those of `nvidia-smi -L` in the container: by bus, of its own GPUs only."""
        devices = read(folder)["devices"]
        assert isinstance(devices, list)
        named = {
            each["name"]: [node["path"] for node in each["containerEdits"]["deviceNodes"]]
            for each in devices
        }
        assert named == {
            "0": ["/dev/nvidia3"],
            "1": ["/dev/nvidia0"],
            "GPU-a": ["/dev/nvidia3"],
            "all": ["/dev/nvidia3", "/dev/nvidia0"],
        }

    def test_what_all_of_them_need(self, folder: Path) -> None:
        edits = read(folder)["containerEdits"]
        assert isinstance(edits, dict)
        assert [node["path"] for node in edits["deviceNodes"]] == [
            "/dev/nvidia-uvm", "/dev/nvidiactl", "/dev/nvidia-caps/nvidia-cap1"]  # fmt: skip
        assert edits["env"] == ["NVIDIA_VISIBLE_DEVICES=void"], "no LD_LIBRARY_PATH of an image's"
        assert "hooks" not in edits, "no program is run"
        seen = {mount["containerPath"]: mount["hostPath"] for mount in edits["mounts"]}
        names = ("libcuda.so", "libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-x.so.550.1")
        assert seen == {
            "/usr/local/nvidia": "/usr/local/nvidia",
            "/usr/bin/nvidia-smi": "/usr/local/nvidia/bin/nvidia-smi",
            f"/{ICD}": f"/usr/local/nvidia/files/{ICD}",
            f"/{EGL}": f"/usr/local/nvidia/files/{EGL}",
            **{f"{where}/{name}": f"/usr/local/nvidia/lib/{name}"
               for where in (DEBIAN, "/usr/lib64") for name in names},
        }  # fmt: skip
        for mount in edits["mounts"]:
            assert {"ro", "nosuid", "nodev", "bind"} <= set(mount["options"]), "locked from outside"

    def test_without_a_gpu_there_is_none(self, folder: Path) -> None:
        """One without devices would be refused."""
        found = inner.files([Path("/dev/nvidiactl")], CARDS, folder)
        assert found[inner.SPECIFICATION] is None

    def test_times_of_access_stay_as_the_mount_has_them(self) -> None:
        """They are locked from outside: a mount that asks for others is refused."""
        assert inner.atime(os.ST_NOATIME | os.ST_RDONLY) == ("noatime",)
        assert inner.atime(os.ST_RELATIME | os.ST_NODIRATIME) == ("nodiratime", "relatime")
        assert inner.atime(0) == ("strictatime",)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes users")
class TestInPlace:
    WANTED: Mapping[str, str | None] = {
        inner.SPECIFICATION: f"{inner.MARK}{{}}\n",
        inner.SETTINGS: inner.SETTINGS_TEXT,
    }

    @pytest.fixture
    def root(self) -> Iterator[Path]:
        """A container's file system; pytest shuts its own folders whenever another one starts."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            made = Path(folder) / "rootfs"
            (made / "etc").mkdir(parents=True)
            for path in (made, made / "etc"):
                os.chown(path, OWNER, OWNER)
            yield made

    def put(self, root: Path, wanted: Mapping[str, str | None] | None = None) -> None:
        hostile.as_owner(root, OWNER, lambda folder: inner.put(folder, wanted or self.WANTED))

    def test_it_is_the_owners_and_renewed_and_taken_out(self, root: Path) -> None:
        self.put(root)
        spec, settings = root / inner.SPECIFICATION, root / inner.SETTINGS
        assert "no-cgroups = true" in settings.read_text()
        assert (spec.stat().st_uid, spec.stat().st_mode & 0o777) == (OWNER, 0o644)
        before = spec.stat().st_ino
        self.put(root)
        assert spec.stat().st_ino == before, "the same is not written again"
        self.put(root, {inner.SPECIFICATION: f"{inner.MARK}other\n"})
        assert spec.read_text().endswith("other\n")
        spec.write_text(f"{inner.OURS}, said an earlier release\n")
        self.put(root)
        assert spec.read_text() == self.WANTED[inner.SPECIFICATION]
        self.put(root, inner.NOTHING)
        assert not spec.exists()
        assert not settings.exists()

    def test_what_its_owner_wrote_stays(self, root: Path) -> None:
        for place in self.WANTED:
            (root / place).parent.mkdir(parents=True)
            (root / place).write_text("mine\n")
        for wanted in (self.WANTED, inner.NOTHING):
            self.put(root, wanted)
            assert all((root / place).read_text() == "mine\n" for place in self.WANTED)

    def test_a_second_specification_of_its_owners_goes_before_ours(self, root: Path) -> None:
        """Two that name one device are both refused."""
        self.put(root)
        own = root / "etc/cdi/own.json"
        own.write_text('{"kind": "vendor.com/other"}')
        self.put(root)
        assert (root / inner.SPECIFICATION).exists()
        own.write_text('{"kind": "nvidia.com/gpu"}')
        self.put(root)
        assert not (root / inner.SPECIFICATION).exists()
        own.unlink()
        self.put(root)
        assert (root / inner.SPECIFICATION).exists()

    @pytest.mark.parametrize("in_the_way", [
        "ln -s {bait} etc/cdi", "mkdir etc/cdi; ln -s {bait}/nvidia.yaml etc/cdi/nvidia.yaml",
        "mkdir etc/cdi; mkfifo etc/cdi/nvidia.yaml", "mkdir -p etc/cdi/nvidia.yaml",
        "mkdir etc/cdi; mkfifo etc/cdi/a.yaml; ln -s {bait}/x etc/cdi/b.json",
        "touch etc/cdi", "mkdir etc/cdi; ln -s {bait}/x etc/cdi/.nvidia.yaml.lxc-gpu-new",
        "mkdir etc/cdi; truncate -s 8M etc/cdi/nvidia.yaml etc/cdi/z.yaml",
    ])  # fmt: skip
    def test_traps(self, root: Path, in_the_way: str) -> None:
        """Nothing is followed, nothing hangs, and the other file comes all the same."""
        bait = root.with_name("bait")
        bait.mkdir()
        bait.chmod(0o777)
        script = in_the_way.format(bait=bait)
        hostile.as_owner(root, OWNER, lambda _: os.system(f"cd {root}; {script}"))
        self.put(root)
        self.put(root, inner.NOTHING)
        self.put(root)
        assert not list(bait.iterdir())
        assert (root / inner.SETTINGS).read_text() == inner.SETTINGS_TEXT
