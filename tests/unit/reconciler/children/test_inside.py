"""How a container is entered, as far as texts tell: `lab/test_shell.py` enters one."""

from pathlib import Path

import pytest

from reconciler.children import inside

HYBRID = """\
9:name=systemd:/lxc-gpu.slice/lxc-gpu@lqchen.service/lxc.payload.lqchen/init.scope
8:pids:/lxc-gpu.slice/lxc-gpu@lqchen.service
5:cpu,cpuacct:/
0::/lxc-gpu.slice/lxc-gpu@lqchen.service/lxc.payload.lqchen/init.scope
"""


def test_cgroups_to_join() -> None:
    unit = "lxc-gpu.slice/lxc-gpu@lqchen.service"
    scope = f"{unit}/lxc.payload.lqchen/init.scope"
    assert inside.cgroups_of(HYBRID) == (
        f"systemd/{scope}/cgroup.procs", f"pids/{unit}/cgroup.procs", "cpu,cpuacct/cgroup.procs",
        f"unified/{scope}/cgroup.procs",
    )  # fmt: skip
    assert inside.cgroups_of(f"0::/{scope}\n") == (f"{scope}/cgroup.procs",)


def test_only_groups_that_a_process_is_not_in_yet_are_joined() -> None:
    own = Path("/proc/self/cgroup").read_text()
    assert list(inside.others_of(own)) == []
    (other,) = inside.others_of(f"{own}77:played:/elsewhere\n")
    assert other == inside.CGROUPS / "played/elsewhere/cgroup.procs"


@pytest.mark.parametrize(
    ("text", "label"),
    [("lxc-gpu-container (enforce)\n", "lxc-gpu-container"), ("unconfined\n", ""), ("", ""),
     ("a//b c (complain)\0", "a//b c"), ("plain", "plain")],
)  # fmt: skip
def test_label_of_apparmor(text: str, label: str) -> None:
    assert inside.label_of(text) == label
