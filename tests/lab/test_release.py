"""A lab of another release of Debian than this machine's: what `setup/demo` tells holds on it.

Made for these tests, and gone afterwards. `LXC_GPU_LAB_RELEASE=trixie` has all others run on one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host, Lab
from laboratory.layout import SOURCE_INSIDE, own_release, places
from laboratory.wiring import GPU_SERVERS

from state.wire.findings import Finding, Level, from_json
from tests.lab import CHECKOUT
from tests.lab.running import NAME
from tests.patience import eventually

RELEASE = "bookworm" if own_release() == "trixie" else "trixie"
NEW_SSHD = "sshd -T | grep -q ^persourcepenalties"
WRONG_KEY = "/root/wrong-key"
FAILS = f"ssh -F none -i {WRONG_KEY} -o BatchMode=yes -o StrictHostKeyChecking=no"


def demo(*words: str) -> str:
    """What `setup/demo` prints for the lab of these tests."""
    name = "-".join(filter(None, (NAME, "release")))
    done = subprocess.run(
        [str(CHECKOUT / "setup/demo"), "--name", name, *words],
        env={**os.environ, "LXC_GPU_LAB_RELEASE": RELEASE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def story() -> Iterator[str]:
    """What `setup/demo` said of it; the lab stays up for the tests."""
    yield demo()
    demo("--down")


@pytest.fixture
def other(story: str) -> Lab:
    """That lab."""
    return Lab(places("-".join(filter(None, (NAME, "release")))))


def test_the_story_holds_on_machines_of_that_release(story: str, other: Lab) -> None:
    assert "The story held:" in story
    for host in other.hosts:
        assert f"VERSION_CODENAME={RELEASE}\n" in host.read("/etc/os-release")
        assert host.failed_units() == ()


def test_doctor_finds_nothing_wrong_there(other: Lab) -> None:
    for name in ("iam", *GPU_SERVERS):
        found = examined(other.host(name))
        assert [each for each in found if each.level is Level.WRONG] == []


class TestPenalties:
    """From OpenSSH 9.8 on, sshd refuses an address for a while from which somebody failed often."""

    def test_who_is_behind_one_address_is_not_shut_out_for_another(self, other: Lab) -> None:
        iam, gpu17, laptop = (other.host(name) for name in ("iam", "gpu17", "laptop"))
        if not iam.sh(NEW_SSHD, check=False).ok:
            pytest.skip("an sshd before OpenSSH 9.8 punishes nobody")
        for host in (gpu17, laptop):
            host.sh(f"ssh-keygen -q -t ed25519 -N '' -f {WRONG_KEY} <<<y")
        # As docs/sysadmins/gpu-server.md says, after the servers were committed.
        assert "172.16.2.17" in may_punish(iam)
        for name, script in (
            ("iam", "web-server"),
            *((name, "gpu-server") for name in GPU_SERVERS),
        ):
            other.host(name).run([f"{SOURCE_INSIDE}/setup/{script}"], timeout=300)
            assert may_punish(other.host(name)) == ""

        assert refused_after_failing(laptop, "nobody@iam"), "sshd punishes, or this shows nothing"
        assert not refused_after_failing(gpu17, "lxc-gpu@iam")
        gpu17.run(["lxc-gpu", "reconcile"])
        iam.sh("systemctl restart ssh")  # which forgets it all
        eventually(lambda: not refused(laptop, "nobody@iam"))


def examined(host: Host) -> list[Finding]:
    done = host.run(["lxc-gpu", "doctor", "--json"], check=False)
    assert "healthy" in json.loads(done.stdout), done.stderr
    return from_json(done.stdout)


def may_punish(host: Host) -> str:
    """What the doctor says of addresses that sshd may refuse, if anything."""
    texts = (each.text for each in examined(host) if each.text.startswith("sshd may "))
    return "\n".join(texts)


def refused(host: Host, place: str) -> bool:
    """Whether sshd there hangs up before it asks for a key."""
    return "Permission denied" not in host.sh(f"{FAILS} {place} true", check=False).stderr


def refused_after_failing(host: Host, place: str) -> bool:
    """The same, after more failures than sshd forgives."""
    for _ in range(6):
        host.sh(f"{FAILS} {place} true", check=False)
    return refused(host, place)
