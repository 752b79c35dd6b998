"""Mounts and limits that would break a container, or hand out the server."""

from __future__ import annotations

import pytest

from state.reading.load import load
from state.reading.problems import StateInvalidError
from state.view import from_json, to_json, view_of
from tests.unit.state.state_files import files, server_yaml

REGISTERED = files()["registrations/gpu17/ann.yaml"].decode()
SERVER = server_yaml("gpu17", "172.16.2.17")


def said(server: str = "", registration: str = "") -> str:
    """Everything that is wrong with gpu17, with these lines at the end of its two files."""
    given = files(servers__gpu17=SERVER + server, registrations__gpu17__ann=REGISTERED + registration)  # fmt: skip  # noqa: E501
    try:
        load(given)
    except StateInvalidError as error:
        return "\n".join(str(problem) for problem in error.problems)
    return ""


def mounts(*mounts: str) -> str:
    return "mounts:\n" + "".join(f"  - {{{mount}}}\n" for mount in mounts)


SOUND = mounts(
    "source: /ssd/users, target: /SSD",
    "source: /mnt/nas/data, target: /data, access: read-only, mounted: true",
    "source: /mnt/nas/shared, target: /data/shared, access: shared, mounted: true",
    "source: /mnt/nas/home, target: /home",
    "source: /srv/models, target: /var/lib/models, access: read-only",
    "source: /srv/pictures, target: /home/pictures, access: read-only",
)


def test_sound_mounts_and_limits_have_no_findings() -> None:
    limits = "limits: {memory: 64G, cpus: 16, tasks: 4096, disk: 500G}\n"
    assert said(SOUND + limits, mounts("source: /ssd/users, target: /SSD")) == ""


@pytest.mark.parametrize(
    "target",
    ["/etc", "/usr", "/proc", "/sys", "/dev", "/run", "/bin", "/lib", "/lib64", "/sbin", "/var",
     "/boot", "/root", "/tmp", "/proc/sys", "/dev/shm", "/run/user", "/sys/fs", "/etc/ssh", "/"],
)  # fmt: skip
def test_what_would_break_a_container_is_no_target(target: str) -> None:
    words = said(mounts(f"source: /ssd/users, target: {target}"))
    assert words.startswith("servers/gpu17.yaml:5: "), words


@pytest.mark.parametrize(
    "source",
    ["/", "/etc", "/etc/ssh", "/root", "/boot", "/proc", "/sys", "/dev", "/dev/shm", "/run",
     "/home", "/home/lqchen", "/usr", "/var", "/var/lib", "/var/lib/lxc-gpu",
     "/var/lib/lxc-gpu/containers",
     "/var/lib/lxc-gpu/host_keys", "/var/lib/lxc-gpu/snapshots/ann",
     "/opt", "/tmp", "/opt/lxc-gpu"],
)  # fmt: skip
@pytest.mark.parametrize("access", ["own", "read-only", "shared"])
def test_what_would_hand_out_the_server_is_no_source(source: str, access: str) -> None:
    words = said(mounts(f"source: {source}, target: /x, access: {access}"))
    assert words.startswith("servers/gpu17.yaml:5: "), words
    assert source in words


@pytest.mark.parametrize("source", ["/", "/etc", "/root", "/var", "/var/lib/lxc-gpu", "/tmp"])
def test_of_the_servers_own_folders_only_homes_are_sources_of_old_homes(source: str) -> None:
    assert source in said(mounts(f"source: {source}, target: /home/old, access: home"))
    for homes in ("/home", "/home/staff", "/nas/homes"):
        assert said(mounts(f"source: {homes}, target: /home/old, access: home")) == ""


def test_containers_and_snapshots_elsewhere_are_no_sources_either() -> None:
    elsewhere = "containers: /ssd/containers\nsnapshots: {folder: /nas/snapshots}\n"
    for source in ("/ssd", "/ssd/containers", "/ssd/containers/ann", "/nas", "/nas/snapshots"):
        assert said(elsewhere + mounts(f"source: {source}, target: /x")), source
    assert said(elsewhere + mounts("source: /ssd/users, target: /x")) == ""


@pytest.mark.parametrize("access", ["own", "read-only", "shared"])
def test_what_runs_in_every_container_is_no_source(access: str) -> None:
    elsewhere = "driver: {policy: install, installers: /nas/drivers}\n"
    for source in ("/nas", "/nas/drivers", "/nas/drivers/old"):
        words = said(elsewhere + mounts(f"source: {source}, target: /x, access: {access}"))
        assert "NVIDIA's installers in /nas/drivers overlap" in words
    assert said(elsewhere + mounts(f"source: /nas/data, target: /x, access: {access}")) == ""


@pytest.mark.parametrize(
    ("server", "registration", "expected"),
    [
        (mounts("source: /a, target: /x", "source: /b, target: /x"), "",
         "servers/gpu17.yaml:6: /x is the target of another mount, too"),
        (mounts("source: /a, target: /x", "source: /a, target: /y, access: shared"), "",
         "servers/gpu17.yaml:6: /a is `own` elsewhere on this server"),
        (mounts("source: /a, target: /x"), mounts("source: /a, target: /y, access: read-only"),
         "registrations/gpu17/ann.yaml:3: /a is `own` elsewhere"),
        (mounts("source: /a, target: /x"), mounts("source: /a/ann, target: /y, access: shared"),
         "registrations/gpu17/ann.yaml:3: /a/ann is inside /a, which holds users' own folders"),
        (mounts("source: /a, target: /home, access: shared"), "",
         "/home holds the keys that open a container"),
        (mounts("source: /a, target: /home/ann, access: shared"), "", "access: own"),
        (mounts("source: /a, target: /home/ann/.ssh, access: read-only"), "", "access: own"),
        (mounts("source: /home, target: /home, access: home"), "", "access: own"),
        (mounts("source: /home, target: /home/ann, access: home"), "", "access: own"),
        (mounts("source: /a, target: /x, access: home", "source: /a/b, target: /y"), "",
         "/a/b is inside /a, which holds users' own folders"),
        ("devices: [/dev/kvm, /dev/kfd, /dev/kvm]\n", "",
         "servers/gpu17.yaml:4: /dev/kvm is there twice"),
        ("", "devices:\n  - /dev/kvm\n  - /dev/kvm\n",
         "registrations/gpu17/ann.yaml:4: /dev/kvm is there twice"),
        ("", "gpus: ['0', '1', '0']\n", "registrations/gpu17/ann.yaml:2: 0 is there twice"),
        ("limits: {memory: 64M}\n", "", "servers/gpu17.yaml:4: memory must be at least 256M"),
        ("", "limits: {memory: 255M}\n", "registrations/gpu17/ann.yaml:2: memory must be at"),
        ("", "limits: {disk: 1M}\n", "disk must be at least 1024M"),
        ("limits: {cpus: 0}\n", "", "cpus"),
        ("limits: {memory: 64 gigs}\n", "", "must be a size such as 64G"),
        ("snapshots: {every: daily}\n", "", "must be a time such as 6h, 1d or 1w"),
        ("snapshots: {every: 0d}\n", "", "must be a time such as 6h, 1d or 1w"),
        (mounts("source: /a/../etc, target: /x"), "", "must be an absolute path without `..`"),
        (mounts("source: /a b, target: /x"), "", "may hold letters, digits"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(server: str, registration: str, expected: str) -> None:
    assert expected in said(server, registration)


def test_a_registration_may_say_otherwise_than_the_server() -> None:
    assert said(SOUND, mounts("source: /ssd/fast, target: /SSD")) == ""


def test_a_container_gets_its_servers_devices_and_its_own() -> None:
    given = files(
        servers__gpu17=f"{SERVER}devices: [/dev/kvm, '/dev/video*']\n",
        registrations__gpu17__ann=f"{REGISTERED}devices: [/dev/kfd, /dev/kvm]\n",
    )
    view = from_json(to_json(view_of(load(given), "gpu17", "r1")))
    assert view.devices_of("ann") == ("/dev/kvm", "/dev/video*", "/dev/kfd")


SOUND_DEVICES = (
    "/dev/infiniband/uverbs*, /dev/infiniband/uverbs0, /dev/infiniband/rdma_cm, "
    "/dev/dri/renderD*, /dev/dri/renderD128, /dev/kfd, /dev/kvm, /dev/video0"
)
HAND_OUT = (
    "sda nvme0n1 nvme0 mem kmem port kmsg console tty0 tty ttyS0 input/event0 uinput uhid hidraw0 "
    "loop-control loop0 mapper/control dm-0 sg0 bsg/0:0:0:0 vfio/vfio vhost-net cpu/0/msr mcelog "
    "nvram watchdog rtc0 hpet ipmi0 mei0 tpm0 snapshot btrfs-control autofs bus/usb/001/001 kvm* * "
    "vid* video0x video0\u00b2 ../sda ./kvm kfd/../sda video*/x KVM"
)


def test_device_files_that_containers_may_get() -> None:
    assert said(f"devices: [{SOUND_DEVICES}]\n", "devices: ['/dev/video*']\n") == ""


@pytest.mark.parametrize(
    ("device", "why"),
    [("/dev/dri/card0", "compute with /dev/dri/renderD*"),
     ("/dev/dri/controlD64", "the server's screens"),
     ("/dev/infiniband/umad0", "manage the whole network"),
     ("/dev/infiniband/issm0", "manage the whole network"),
     ("/dev/fuse", "every container has it"),
     ("/dev/nvidia0", "`gpus` in a registration"),
     *((f"/dev/{name}", "hand out the server. Containers may get /dev/infiniband/uverbs*, ")
       for name in HAND_OUT.split())],
)  # fmt: skip
def test_device_files_that_hand_out_the_server(device: str, why: str) -> None:
    for words in (said(f"devices: ['{device}']\n"), said("", f"devices: ['{device}']\n")):
        assert why in words, words
        assert ".yaml:" in words
