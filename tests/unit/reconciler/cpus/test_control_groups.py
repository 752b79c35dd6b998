"""What the kernel says of the containers' CPUs, in folders like /sys/fs/cgroup."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cpus import control_groups
from reconciler.cpus.control_groups import SLICE, Separate, Unified
from reconciler.cpus.machine import Cpus, Machine, parse
from state.errors import LxcGpuError
from tests.open_files import none_left_open

MACHINE = Machine(tuple(frozenset([n]) for n in range(8)), (parse("0-7"),), (parse("0-7"),))


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


class TestUnified:
    def test_containers_that_run_have_those_that_the_kernel_says(self, tmp_path: Path) -> None:
        root = lay_out(tmp_path, {
            "cgroup.controllers": "cpuset cpu memory\n",
            f"{SLICE}/cpuset.cpus.effective": "0-3\n",
            f"{SLICE}/lxc-gpu@all.service/cpuset.cpus": "0-7\n",  # as when it may use all again
            f"{SLICE}/lxc-gpu@ann.service/cpuset.cpus": "2-3\n",
            f"{SLICE}/lxc-gpu@le-qun.service/cpuset.cpus": "\n",
            f"{SLICE}/lxc-gpu@gone.service/cgroup.procs": "",
            f"{SLICE}/other.service/cpuset.cpus": "1\n",
        })  # fmt: skip
        groups = control_groups.mounted(root)
        assert isinstance(groups, Unified)
        nothing: Cpus = frozenset()
        assert groups.held() == {"ann": parse("2-3"), "le-qun": nothing, "all": nothing}

    def test_a_sysadmin_may_keep_cpus_from_all_containers(self, tmp_path: Path) -> None:
        groups = Unified(lay_out(tmp_path, {"cpuset.cpus.effective": "0-6\n"}))
        assert groups.usable(MACHINE).cpus == parse("0-6")
        lay_out(tmp_path, {f"{SLICE}/cpuset.cpus.effective": "4-7\n"})
        assert groups.usable(MACHINE).cpus == parse("4-7")

    def test_without_cpusets_there_is_nothing_to_be_done(self, tmp_path: Path) -> None:
        assert control_groups.mounted(lay_out(tmp_path, {"cgroup.controllers": "cpu\n"})) is None
        assert control_groups.mounted(tmp_path / "nothing") is None


class TestSeparate:
    def test_what_is_narrow_and_has_programs_counts(self, tmp_path: Path) -> None:
        ours = f"cpuset/{control_groups.OURS}"
        root = lay_out(tmp_path, {
            "cpuset/cpuset.cpus": "0-7\n",
            **{f"systemd/{SLICE}/lxc-gpu@{name}.service/cgroup.procs": "" for name in "abcd"},
            f"{ours}/a/cpuset.cpus": "0-1\n", f"{ours}/a/cgroup.procs": "17\n",
            f"{ours}/b/cpuset.cpus": "0-7\n", f"{ours}/b/cgroup.procs": "18\n",
            f"{ours}/c/cpuset.cpus": "4\n", f"{ours}/c/cgroup.procs": "",
        })  # fmt: skip
        groups = control_groups.mounted(root)
        assert isinstance(groups, Separate)
        assert groups.held() == {"a": parse("0-1"), **dict.fromkeys("bcd", frozenset())}
        assert groups.usable(MACHINE) == MACHINE


class TestGroupsInside:
    """A container makes as many control groups as it likes."""

    @pytest.fixture
    def separate(self, tmp_path: Path) -> Iterator[tuple[Separate, Path]]:
        unit = f"systemd/{SLICE}/lxc-gpu@mallory.service"
        root = lay_out(tmp_path, {
            "cpuset/cpuset.cpus": "0-7\n", "cpuset/cpuset.mems": "0\n",
            f"cpuset/{control_groups.OURS}/mallory/cgroup.procs": "17\n18\n",
            f"{unit}/cgroup.procs": "17\n", f"{unit}/a/b/cgroup.procs": "18\n",
        })  # fmt: skip
        yield Separate(root), root / unit
        subprocess.run(["rm", "-r", root / unit], check=True)  # pytest's way is recursive

    def test_all_of_them_are_looked_through(self, separate: tuple[Separate, Path]) -> None:
        groups, _ = separate
        groups.give("mallory", parse("0-1"))
        assert groups.held() == {"mallory": parse("0-1")}

    @pytest.mark.parametrize("form", ["deep", "wide"])
    def test_too_many_are_a_failure_of_this_one(
        self, separate: tuple[Separate, Path], form: str
    ) -> None:
        groups, unit = separate
        at = os.open(unit, os.O_RDONLY)
        for number in range(1200 if form == "deep" else 3000):
            os.mkdir(f"group-{number}", dir_fd=at)
            if form == "deep":
                below = os.open(f"group-{number}", os.O_RDONLY, dir_fd=at)
                os.close(at)
                at = below
        os.close(at)
        with none_left_open(), pytest.raises(LxcGpuError) as caught:
            groups.give("mallory", parse("0-1"))
        assert caught.value.code == "cpus-busy"
