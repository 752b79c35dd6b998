"""The profile by which containers get no subvolumes."""

from reconciler.children.denied import IOCTLS
from reconciler.container.seccomp import profile

LXCS = "2\ndenylist\n[all]\nkexec_load errno 1\n[x86]\nuselib errno 1\n"


def test_ours_goes_on_from_lxcs_for_all_architectures() -> None:
    lines = profile(LXCS).splitlines()
    assert lines[:6] == LXCS.splitlines()
    assert lines[6] == "[all]"
    assert lines[7] == "ioctl errno 25 [1,0x50009401,SCMP_CMP_MASKED_EQ,0xffffffff]"
    assert len(lines) == 7 + len(IOCTLS)
