from dataclasses import replace
from pathlib import Path

from reconciler.container.clock import clock_lines
from reconciler.container.lxc_config import hostname, lxc_config
from reconciler.mounts.bind import Bind
from state.view import Limits
from tests.unit.reconciler.views import RESIDENT, VIEW

UNIT = Path(__file__).parents[4] / "setup/units/lxc-gpu@.service"
ROOT = Path("/run/lxc-gpu/systems/lqchen")


def test_ids_address_and_gateway_are_those_of_the_view() -> None:
    lines = lxc_config(VIEW, "lqchen", RESIDENT, ROOT, ()).splitlines()
    assert "lxc.idmap = u 0 18126464 262144" in lines
    assert "lxc.net.0.ipv4.address = 10.77.0.33/16" in lines
    assert "lxc.net.0.ipv4.gateway = 10.77.0.1" in lines
    assert "lxc.net.0.hwaddr = 02:00:0a:4d:00:21" in lines
    assert f"lxc.rootfs.path = dir:{ROOT}" in lines


def test_everybody_inside_may_ping_and_the_range_holds_ids_of_the_container_only() -> None:
    lines = lxc_config(VIEW, "lqchen", RESIDENT, ROOT, ()).splitlines()
    assert "lxc.sysctl.net.ipv4.ping_group_range = 0 262143" in lines


def test_what_containers_may_not_ask_holds_where_the_server_has_filters_itself() -> None:
    lines = lxc_config(VIEW, "lqchen", RESIDENT, ROOT, ()).splitlines()
    assert "lxc.seccomp.profile = /run/lxc-gpu/containers.seccomp" in lines
    assert "lxc.seccomp.allow_nesting = 1" in lines


def test_each_gpu_node_is_mounted() -> None:
    node = Bind(Path("/dev/nvidia0"), "/dev/nvidia0", ("optional",))
    text = lxc_config(VIEW, "lqchen", RESIDENT, ROOT, (node,))
    assert "lxc.mount.entry = /dev/nvidia0 dev/nvidia0 none bind,optional,create=file" in text


def test_the_clock_begins_no_later_than_the_start() -> None:
    """A clock before its zero is refused by the kernel (time_namespaces(7))."""
    first, hook = clock_lines(36870.99).splitlines()
    assert first == "lxc.time.offset.boot = -36870s"
    assert hook.startswith("lxc.hook.mount = ")
    assert "/proc/uptime" in hook


def test_a_host_name_holds_no_underscore() -> None:
    assert hostname(VIEW, "a_b") == "a-b-gpu17"


def test_shared_memory_is_half_of_the_limit() -> None:
    limited = replace(RESIDENT, limits=Limits(memory=1 << 30))
    text = lxc_config(VIEW, "lqchen", limited, ROOT, ())
    assert "tmpfs dev/shm tmpfs nosuid,nodev,mode=1777,size=536870912,create=dir 0 0" in text


def test_shared_memory_without_a_limit_is_half_of_what_the_unit_allows() -> None:
    allowed = int(UNIT.read_text().partition("\nMemoryMax=")[2].partition("%")[0])
    text = lxc_config(VIEW, "lqchen", RESIDENT, ROOT, ())
    assert f"tmpfs dev/shm tmpfs nosuid,nodev,mode=1777,size={allowed // 2}%," in text


def test_namespaces_below_find_proc_and_sysfs_that_nothing_covers() -> None:
    """Else the kernel lets no engine inside mount its own (mount_too_revealing)."""
    lines = lxc_config(VIEW, "lqchen", RESIDENT, ROOT, ()).splitlines()
    assert "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0" in lines
    assert "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0" in lines
    assert ".lxc" not in lxc_config(replace(VIEW, nesting=False), "lqchen", RESIDENT, ROOT, ())
