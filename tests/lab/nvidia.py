"""A GPU server for tests: real NVIDIA libraries in two versions; the kernel side is a stand-in.

The lab has no GPU and no kernel driver. What the kernel would show is put there by hand: texts in
/proc/driver/nvidia as drivers print them, and device files, which lead nowhere.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from laboratory.hosts import Host
from laboratory.images import drivers
from laboratory.progress import ProgressLines

from reconciler.nvidia.versions import MACHINE
from state.command import run
from tests.lab.fleet import Fleet, reconcile

FOLDER = f"/usr/lib/{MACHINE}-linux-gnu"
UUIDS = (
    "GPU-5a1bd0a3-9d4e-4d12-8b5e-2f6c1c6f0e01",
    "GPU-0c2de7b1-1f3a-4c55-9a77-b1d2e3f40502",
)
MODULE = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Fri Aug 22 01:40:06 UTC 2025
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)
"""
INFORMATION = """\
Model: \t\t NVIDIA A100-SXM4-40GB
IRQ:   \t\t 153
GPU UUID: \t {uuid}
Video BIOS: \t 92.00.45.00.05
Bus Type: \t PCIe
DMA Size: \t 47 bits
DMA Mask: \t 0x7fffffffffff
Bus Location: \t 0000:{bus}:00.0
Device Minor: \t {minor}
GPU Excluded:\t No
"""


def versions() -> tuple[str, ...]:
    """The two versions of the libraries, the older one first; which they are may change."""
    with ProgressLines() as progress:
        return drivers.versions(progress)


def packed(version: str, under: str) -> bytes:
    """That version's libraries and nvidia-smi as a tar archive; links as packages make them."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for file in sorted(cached(version).iterdir()):
            folder = "usr/bin" if file.name == "nvidia-smi" else under.lstrip("/")
            archive.add(file, f"{folder}/{file.name}")
    return raw.getvalue()


def install(host: Host, version: str) -> None:
    """Have the libraries of this version on a server, in place of others: as by an upgrade."""
    remove_libraries(host)
    host.run(["tar", "-C", "/", "-x"], stdin=packed(version, FOLDER))
    host.run(["ldconfig"])


def remove_libraries(host: Host) -> None:
    """Have none."""
    host.sh(f"rm -f /usr/bin/nvidia-* {FOLDER}/lib{{cuda,nvidia-}}*; ldconfig")


def load(host: Host, version: str, minors: Sequence[int] = (0, 1)) -> None:
    """What a loaded kernel module shows: texts and device files. A stand-in."""
    unload(host)
    host.sh("mount -t tmpfs -o mode=755 tmpfs /proc/driver")
    host.write("/proc/driver/nvidia/version", MODULE.format(version=version))
    for place, minor in enumerate(minors):
        text = INFORMATION.format(uuid=UUIDS[place], minor=minor, bus=f"{place + 7:02x}")
        host.write(f"/proc/driver/nvidia/gpus/0000:{place + 7:02x}:00.0/information", text)
        host.sh(f"mknod -m 666 /dev/nvidia{minor} c 195 {minor}")
    host.sh("""
        mknod -m 666 /dev/nvidiactl c 195 255
        mknod -m 666 /dev/nvidia-uvm c 510 0
        mkdir -p /dev/nvidia-caps; mknod -m 444 /dev/nvidia-caps/nvidia-cap1 c 511 1""")


def unload(host: Host) -> None:
    """No module."""
    host.sh("""
        umount /proc/driver 2>&- || true
        rm -rf /dev/nvidia*""")


def clean(host: Host) -> None:
    """As it was."""
    unload(host)
    remove_libraries(host)
    host.sh("rm -rf /etc/cdi /var/lib/lxc-gpu/drivers /var/lib/lxc-gpu/nvidia")


def cached(version: str) -> Path:
    """The folder of the real libraries of this version on this machine."""
    with ProgressLines() as progress:
        return drivers.libraries(progress) / version


def install_fake_nvml(host: Host, version: str, answers: str) -> None:
    """The fake NVML in place of the real one, under its names; pynvml and our code are real."""
    remove_libraries(host)
    source = Path(__file__).with_name("fake_nvml.c")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "fake.so"
        name = "-Wl,-soname,libnvidia-ml.so.1"
        run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", name, "-o", made, source])
        host.push(made, f"{FOLDER}/libnvidia-ml.so.{version}")
    host.sh(f"ln -sfn libnvidia-ml.so.{version} {FOLDER}/libnvidia-ml.so.1; ldconfig")
    host.write("/etc/fake-nvml", answers)


# What NVIDIA's own does, as far as a container shows it: the old version's files go, the new one's
# come, the loader is told; options that NVIDIA's doesn't have are refused.
INSTALLER = r"""#!/bin/sh
set -eu
umask 022
silent=no module=yes
for option; do
    case $option in
        --silent) silent=yes ;;
        --no-kernel-module) module=no ;;
        --no-x-check | --no-nouveau-check) ;;
        *) echo "unrecognized option: $option" >&2; exit 1 ;;
    esac
done
[ "$silent$module" = yesno ] || { echo "would build a kernel module" >&2; exit 1; }
echo "Installing into $(hostname) as $(id -u), pid 1 is $(cat /proc/1/comm)"
[ ! -e /etc/refuse-driver ] || { echo "ERROR: Unable to find anything"; exit 1; }
rm -f FOLDER/libcuda.so* FOLDER/libnvidia-*.so* /usr/bin/nvidia-smi
cp -P lib/* FOLDER/
mv FOLDER/nvidia-smi /usr/bin/
ldconfig
cat /proc/self/cgroup >/var/log/nvidia-installer.log
"""


MAKESELF_HEADER = Path("/usr/share/makeself/makeself-header.sh")


def make_installer(host: Host, version: str) -> str:
    """NVIDIA-Linux-...-VERSION.run on a server, made by makeself as NVIDIA's; its path."""
    path = f"/var/lib/lxc-gpu/drivers/NVIDIA-Linux-{MACHINE}-{version}.run"
    with tempfile.TemporaryDirectory() as folder:
        contents, made = Path(folder) / "contents", Path(folder) / "made.run"
        (contents / "lib").mkdir(parents=True)
        for file in cached(version).iterdir():
            run(["cp", "-P", file, contents / "lib"])
        (contents / "nvidia-installer").write_text(INSTALLER.replace("FOLDER", FOLDER))
        (contents / "nvidia-installer").chmod(0o755)
        label = f"NVIDIA Accelerated Graphics Driver for Linux-{MACHINE} {version}"
        # NVIDIA's makeself is one that leaves options that it doesn't know to the installer
        header = MAKESELF_HEADER.read_text()
        begin = header.index("    -*)\n\techo Unrecognized")
        header = header[:begin] + header[header.index("    *)\n", begin + 4) :]
        (Path(folder) / "header").write_text(header)
        words: list[str | Path] = [
            "--nocomp",
            "--header",
            Path(folder) / "header",
            contents,
            made,
            label,
        ]
        run(["makeself", *words, "./nvidia-installer"])
        host.push(made, path, 0o644)
    return path


def choose_gpus(fleet: Fleet, user: str, wanted: str) -> None:
    """The registration of a user on gpu17 names these GPUs; all, if it names none."""
    file = f"registrations/gpu17/{user}.yaml"
    line = f"echo 'gpus: {wanted}' >>{file}" if wanted else "true"
    fleet.commits("Choose GPUs", f"sed -i '/^gpus:/d' {file}; {line}")
    assert reconcile(fleet.gpu17).ok
