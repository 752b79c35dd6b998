"""What the set-up installs as root is what the lock file names, and nothing else."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import lock
from laboratory.hosts import Host, Lab
from laboratory.layout import SOURCE_INSIDE, WHEELS_INSIDE

from state.command import Finished

WORK = "/srv/locked"
PIP = f"{WORK}/opt/lxc-gpu/bin/python -m pip --disable-pip-version-check"
SET_UP = f"""
umask 077
mount --bind {WORK}/opt /opt
mount --bind {WORK}/wheels {WHEELS_INSIDE}
exec {SOURCE_INSIDE}/setup/gpu-server --packages
"""


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Host]:
    """gpu18 with another, empty /opt and other wheels, for the set-up of these tests only."""
    gpu18 = lab.host("gpu18")
    gpu18.sh(f"mkdir -p {WORK}/opt; cp -r {WHEELS_INSIDE} {WORK}/wheels", timeout=300)
    yield gpu18
    gpu18.sh(f"rm -r {WORK}")


def set_up(server: Host) -> Finished:
    """Run the real script, in a mount namespace of its own: nothing else sees the other folders."""
    done = server.run(["unshare", "-m", "sh", "-euc", SET_UP], check=False, timeout=600)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def installed(server: Host) -> dict[str, str]:
    listed = json.loads(server.sh(f"{PIP} list --format=json").stdout)
    return {lock.normal(each["name"]): each["version"] for each in listed}


class TestWheels:
    def test_one_with_other_content_is_refused(self, server: Host, tmp_path: Path) -> None:
        (wheel,) = (server.folder / "wheels").glob("waitress-*.whl")
        forged = tmp_path / wheel.name
        forged.write_bytes(wheel.read_bytes())
        with zipfile.ZipFile(forged, "a") as archive:
            archive.writestr("waitress/more.py", "import os\n")
        place = f"{WORK}/wheels/{wheel.name}"
        server.push(forged, place)
        try:
            done = set_up(server)
            assert done.status == 1
            assert "waitress==" in done.stderr
            assert "has another package than setup/locked/servers.txt names" in done.stderr
            assert "Fetch it again" in done.stderr
            assert "waitress" not in installed(server)
            assert "flask" not in installed(server), "nothing at all was installed"
        finally:
            server.sh(f"cp {WHEELS_INSIDE}/{wheel.name} {place}")

    def test_one_that_is_missing_is_named_with_what_to_type(self, server: Host) -> None:
        server.sh(f"mkdir {WORK}/away; mv {WORK}/wheels/waitress-* {WORK}/away")
        try:
            done = set_up(server)
            assert done.status == 1
            assert f"{WHEELS_INSIDE} lacks a package" in done.stderr
            assert "waitress==" in done.stderr
            assert "pip download --require-hashes" in done.stderr
        finally:
            server.sh(f"mv {WORK}/away/* {WORK}/wheels; rmdir {WORK}/away")


def test_exactly_what_the_lock_file_names_is_installed(server: Host) -> None:
    """And what an older one named is taken away again."""
    assert set_up(server).ok
    as_anybody = ["runuser", "-u", "nobody", "--", f"{WORK}/opt/lxc-gpu/bin/python"]
    server.run([*as_anybody, "-c", "import flask"])  # although root's umask is a strict one
    found = installed(server)
    pip = found.pop("pip")
    assert found == lock.pins(lock.SERVERS.read_text())
    assert pip
    site = f"{WORK}/opt/lxc-gpu/lib/python3*/site-packages"
    server.sh(f"""
        cd {site}; mkdir leftover-1.0.dist-info; touch leftover.py
        printf 'Metadata-Version: 2.1\\nName: leftover\\nVersion: 1.0\\n' \
            >leftover-1.0.dist-info/METADATA
        printf 'leftover.py,,\\nleftover-1.0.dist-info/METADATA,,\\n' \
            >leftover-1.0.dist-info/RECORD
        rm {WORK}/opt/lxc-gpu/.made-from""")
    assert "leftover" in installed(server)
    done = set_up(server)
    assert done.ok
    assert "remove from /opt/lxc-gpu: leftover" in done.stdout
    assert installed(server).keys() == {*found, "pip"}
    assert "nothing to change" in set_up(server).stdout
