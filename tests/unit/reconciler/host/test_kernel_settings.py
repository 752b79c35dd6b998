"""The drop-in of kernel settings, as systemd reads it, and what of it a server lacks."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.doctor import machine
from reconciler.host import kernel_settings
from reconciler.host.kernel_settings import SETTINGS, lacking
from state.wire.findings import Level

SYSCTL = "/lib/systemd/systemd-sysctl"
KERNEL = """
mount -t tmpfs tmpfs /proc/sys
mkdir -p /proc/sys/vm /proc/sys/fs/inotify
echo 128 >/proc/sys/fs/inotify/max_user_instances
echo 65530 >/proc/sys/vm/max_map_count
echo 65536 >/proc/sys/fs/aio-max-nr
mount -t tmpfs tmpfs /etc/sysctl.d
cp "$1" /etc/sysctl.d/40-lxc-gpu.conf
echo "vm.max_map_count = 2000000" >/etc/sysctl.d/50-site.conf
echo "fs.inotify.max_user_instances = 1024" >/etc/sysctl.d/30-lxc-inotify.conf
"$2" --prefix=vm.max_map_count --prefix=fs.inotify.max_user_instances
cd /proc/sys/fs; cat inotify/max_user_instances ../vm/max_map_count /proc/sys/fs/aio-max-nr
"""
"""In a mount namespace: settings are plain files there, and nobody else's."""


def test_each_setting_stands_there_with_its_reason() -> None:
    blocks = kernel_settings.text(bridged=False).split("\n\n")[1:]
    assert len(blocks) == len(SETTINGS)
    for block, setting in zip(blocks, SETTINGS, strict=True):
        assert re.fullmatch(rf"# .+\.\n{re.escape(setting.name)} = {setting.value}\n?", block)


def test_the_servers_bridges_stay_as_they_were_where_set_up_loads_br_netfilter() -> None:
    ours, others = (kernel_settings.text(bridged=bridged) for bridged in (True, False))
    lines = [line for line in ours.removeprefix(others).splitlines() if not line.startswith("#")]
    assert lines[1:] == [
        f"net.bridge.bridge-nf-call-{tables} = 0"
        for tables in ("iptables", "ip6tables", "arptables")
    ]


def test_what_allows_less_is_lacking_and_nothing_else() -> None:
    debian = {
        "fs.inotify.max_user_instances": 128,
        "vm.max_map_count": 2**31 - 1,
        "kernel.perf_event_paranoid": 3,
    }
    found = lacking(debian.get)
    assert [(each.name, now) for each, now in found] == [
        ("fs.inotify.max_user_instances", 128), ("kernel.perf_event_paranoid", 3)]  # fmt: skip
    finding = machine.settings_of(found)
    assert finding.level is Level.NOTE
    assert "max_user_instances is 128 (8192 wanted)" in finding.text
    assert "40-lxc-gpu.conf" in finding.hint
    assert lacking({"kernel.perf_event_paranoid": -1}.get) == ()
    assert machine.settings_of(()).level is Level.OK


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a mount namespace")
@pytest.mark.skipif(not shutil.which(SYSCTL), reason="needs systemd")
def test_systemd_takes_it_and_the_sysadmins_file_has_the_last_word(tmp_path: Path) -> None:
    """Only what is asked for is set."""
    (tmp_path / "ours").write_text(kernel_settings.text(bridged=False))
    argv = ["unshare", "--mount", "sh", "-euc", KERNEL, "sh", str(tmp_path / "ours"), SYSCTL]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["8192", "2000000", "65536"], done.stderr
