"""Machines without internet are set up from a release archive, and from nothing else."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import lock
from laboratory.hosts import Host, Lab
from laboratory.images.recipes import python_of
from laboratory.layout import SOURCE_INSIDE, WHEELS_INSIDE, own_release, places
from laboratory.progress import ProgressLines
from laboratory.wiring import wire

from state.command import Finished
from state.wire.findings import Level, from_json
from tests.lab import CHECKOUT
from tests.lab.running import NAME, RELEASE, setup_lab
from tests.patience import eventually

VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
FOLDER = f"lxc-gpu-{VERSION}-draft"
ARCHIVE = f"{FOLDER}.tar.gz"
OFFLINE = "-".join(filter(None, (NAME, "offline")))
WORK = "/srv/offline"
"""Where the archive lies on gpu18 of the usual lab."""
UNPACKED = f"{WORK}/{FOLDER}"
UNPACK = f"sha256sum --check SHA256SUMS && tar --no-same-owner -xzf {ARCHIVE}"
"""The settings that the guide recommends."""
NOTHING_OF_OURS = f"""
mount --bind {WORK}/opt /opt
mount -t tmpfs none {SOURCE_INSIDE}
umount {WHEELS_INSIDE}; mount -t tmpfs none /var/cache/lxc-gpu
"""
"""In a mount namespace: neither the lab's checkout nor its wheels nor what was installed."""
LISTING = "find /opt /etc /usr/local -xdev -printf '%p %s %C@\\n' | sort"


def make(into: Path) -> Path:
    """An archive of this checkout as it is; for one Python, which takes less time."""
    python = python_of(RELEASE or own_release())
    words: list[str | Path] = [
        CHECKOUT / "setup/release",
        "--draft",
        "--python",
        python,
        "--into",
        into,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return into


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the archive and its digest."""
    return make(tmp_path_factory.mktemp("dist"))


def bring(made: Path, host: Host, folder: str) -> None:
    """What a sysadmin does with a USB stick."""
    for name in (ARCHIVE, "SHA256SUMS"):
        host.push(made / name, f"{folder}/{name}")


@pytest.fixture(scope="module")
def server(lab: Lab, made: Path) -> Iterator[Host]:
    """gpu18, with the archive unpacked and an empty /opt for these tests only."""
    gpu18 = lab.host("gpu18")
    bring(made, gpu18, WORK)
    gpu18.sh(f"mkdir {WORK}/opt; cd {WORK}; {UNPACK}", timeout=120)
    yield gpu18
    gpu18.sh(f"rm -r {WORK}")


def set_up(server: Host) -> Finished:
    script = f"{NOTHING_OF_OURS} exec {UNPACKED}/setup/gpu-server --packages"
    done = server.run(["unshare", "-m", "sh", "-euc", script], check=False, timeout=600)
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def offline(made: Path) -> Iterator[Lab]:
    """Both set up as the guide says, out of the archive."""
    hosts = "ldap,iam,gpu17,laptop"
    done = setup_lab("up", "--bare", "--hosts", hosts, name=OFFLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    lab = Lab(places(OFFLINE))
    for name in ("iam", "gpu17"):
        host = lab.host(name)
        host.sh(f"""
            umount -R {SOURCE_INSIDE} {WHEELS_INSIDE}
            rm -rf {SOURCE_INSIDE} /opt/lxc-gpu /var/cache/lxc-gpu""")
        bring(made, host, "/usr/src")
        host.sh(f"cd /usr/src; {UNPACK}; ln -s {FOLDER} {SOURCE_INSIDE}", timeout=120)
    with ProgressLines() as progress:
        wire(lab, progress)
    yield lab
    assert setup_lab("down", name=OFFLINE).returncode == 0


def test_two_builds_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "again")
    assert (again / "SHA256SUMS").read_text() == (made / "SHA256SUMS").read_text()
    assert (again / ARCHIVE).read_bytes() == (made / ARCHIVE).read_bytes()


class TestOnAServer:
    def test_an_archive_that_was_damaged_on_the_way_is_noticed(self, server: Host) -> None:
        server.sh(f"""
            mkdir {WORK}/damaged; cd {WORK}/damaged; cp ../SHA256SUMS ../{ARCHIVE} .
            printf X | dd of={ARCHIVE} bs=1 seek=1000000 conv=notrunc status=none""")
        done = server.sh(f"cd {WORK}/damaged; {UNPACK}", check=False)
        server.sh(f"ls {WORK}/damaged/{FOLDER} 2>/dev/null && exit 1; rm -r {WORK}/damaged")
        assert done.status == 1
        assert f"{ARCHIVE}: FAILED" in done.stdout

    @pytest.mark.parametrize(
        "damage",
        ["printf X >>wheels/flask-*.whl", "rm wheels/flask-*.whl", "printf X >>state/errors.py"],
    )
    def test_a_damaged_one_is_refused_and_changes_nothing(self, server: Host, damage: str) -> None:
        server.sh(f"cd {UNPACKED}; cp -a wheels state {WORK}; {damage}")
        before = server.sh(LISTING).stdout
        try:
            done = server.run([f"{UNPACKED}/setup/gpu-server"], check=False)
            assert done.status == 1
            assert "This copy of lxc-gpu is damaged" in done.stderr
            assert ": FAILED" in done.stderr
            assert done.stdout == ""
            assert server.sh(LISTING).stdout == before
        finally:
            server.sh(f"cd {UNPACKED}; rm -r wheels state; mv {WORK}/wheels {WORK}/state .")

    def test_its_packages_are_what_the_archive_holds(self, server: Host) -> None:
        done = set_up(server)
        assert done.ok, done.stdout + done.stderr
        pip = f"{WORK}/opt/lxc-gpu/bin/python -m pip --disable-pip-version-check"
        listed = json.loads(server.sh(f"{pip} list --format=json").stdout)
        found = {lock.normal(each["name"]): each["version"] for each in listed}
        assert found.pop("pip")
        assert found == lock.pins(lock.SERVERS.read_text())
        assert "nothing to change" in set_up(server).stdout


@pytest.mark.matrix
class TestFromNothing:
    """A web machine and a GPU server, on machines that never saw the checkout."""

    @pytest.mark.parametrize("name", ["iam", "gpu17"])
    def test_a_machine_is_what_was_released_and_well(self, offline: Lab, name: str) -> None:
        host = offline.host(name)
        assert "default" not in host.run(["ip", "route"]).stdout
        assert host.run(["lxc-gpu", "--version"]).stdout == f"lxc-gpu {VERSION}\n"
        found = from_json(host.run(["lxc-gpu", "doctor", "--json"], check=False).stdout)
        assert [each for each in found if each.level is Level.WRONG] == []
        assert host.failed_units() == ()

    def test_the_page_answers_and_the_server_has_the_newest_state(self, offline: Lab) -> None:
        iam, gpu17 = offline.host("iam"), offline.host("gpu17")
        page = offline.host("laptop").run(["curl", "-s", "http://iam.mylab.com"]).stdout
        assert "Vision Lab" in page
        bare = "/var/lib/lxc-gpu/state.git"
        newest = iam.sh(f"git -c safe.directory='*' -C {bare} rev-parse main").stdout.strip()
        eventually(lambda: newest in gpu17.read("/var/lib/lxc-gpu/view.json"))
