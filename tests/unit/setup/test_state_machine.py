"""Where setup/gpu-server looks for the host key of the machine with the state repository."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from state.errors import LxcGpuError

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from installation.gpu_server import state_machine


@pytest.mark.parametrize(
    ("url", "account", "machine"),
    [
        ("ssh://lxc-gpu@iam.mylab.com/var/lib/state.git", "lxc-gpu", "iam.mylab.com"),
        ("ssh://git@forge.mylab.com:2222/lab/state.git", "git", "[forge.mylab.com]:2222"),
        ("ssh://git@forge.mylab.com:22/lab/state.git", "git", "forge.mylab.com"),
        ("git@forge.mylab.com:lab/state.git", "git", "forge.mylab.com"),
    ],
)
def test_the_host_key_is_pinned_under_the_name_that_ssh_looks_up(
    url: str, account: str, machine: str
) -> None:
    assert state_machine(url) == (account, machine)


@pytest.mark.parametrize("url", ["/srv/state.git", "https://x/y.git", "ssh://host/x", "git@h", ""])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(LxcGpuError, match="is not the address"):
        state_machine(url)
