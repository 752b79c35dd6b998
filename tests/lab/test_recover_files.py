"""`recover NAME FILE...`: files of a snapshot come back, into a container that is stopped."""

from __future__ import annotations

import hashlib
import json
import shlex
import tarfile
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.archives import FAR, file, folder, link, member, packed, system
from tests.lab.fleet import BAIT, SYSTEM, Fleet, running
from tests.lab.recovering import SNAPSHOTS, driven, manage, trees, working
from tests.patience import eventually

BACK = f"{SYSTEM}/recovered"
ODD = ("my 'file'", "-rf", "a\\\\b", "*", "\u8bba\u6587", "line\nbreak")
"""Names of files that are their user's good right."""
HOSTILE = (
    (file(f"{BAIT}/x"), file(f"./{FAR}srv/bait/x"), link("./dir/out", BAIT)),
    (link("./dir/out", BAIT), file("./dir/out/secret", b"taken")),
    (link("./dir", f"{FAR}srv/bait"), file("./dir/out/secret", b"taken")),
    (link("./dir/hard", f"{BAIT}/secret", tarfile.LNKTYPE),),
    (member("./dir/disk", tarfile.BLKTYPE, devmajor=254),),
)
"""Of each, `dir` is asked for."""
DIR = {"name": "planted", "paths": "/dir"}
"""What `recover planted /dir` asks the root helper for."""


def keep(host: Host, raw: bytes, name: str = "planted") -> None:
    """Whatever it is, it is a snapshot of lqchen's."""
    said = {"server": "gpu17", "taken": 1e9, "packed": len(raw), "unpacked": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(), "own_name": True}  # fmt: skip
    there = f"install -D -m 600 -o lqchen /dev/stdin {SNAPSHOTS}/{name}"
    host.sh(f"install -d -m 700 -o lqchen {SNAPSHOTS}; {there}.tar.zst", stdin=raw)
    host.sh(f"{there}.json", stdin=json.dumps(said).encode())


@pytest.fixture
def planted(small_system: Host) -> Iterator[Host]:
    """Nothing else is in the container afterwards."""
    yield small_system
    small_system.sh(f"rm -rf {BACK} {SNAPSHOTS}")
    assert small_system.sh(f"cat {BAIT}/*; ls {BAIT}").stdout == "secret\nsecret\n"


def test_names_are_taken_as_they_are(fleet: Fleet, planted: Host) -> None:
    odd = [file(f"./srv/odd/{name}", mode=0o4755, uid=1000) for name in ODD]
    keep(planted, packed(system(folder("./srv"), folder("./srv/odd", 0o700, 33), *odd)))
    words = " ".join(shlex.quote(f"/srv/odd/{name}") for name in ODD[:-1])
    done = manage(fleet, f"recover planted {shlex.quote(words)} --json")
    assert done.ok, done.stderr
    assert json.loads(done.stdout)["paths"][4] == "/recovered/planted/srv/odd/\u8bba\u6587"
    assert not running(planted, "lqchen")
    seen = f"cd {BACK}/planted/srv; stat -c '%u %a' odd; find odd -type f -printf '%U %m|'"
    assert planted.sh(seen).stdout == "33 700\n" + "1000 4755|" * 5
    assert manage(fleet, "recover planted /srv/odd/").ok, "with a line break below"
    assert planted.sh(f"ls {BACK}/planted-2/srv/odd | wc -l").stdout == "7\n"
    done = manage(fleet, 'recover planted "\'my"')
    assert "A quotation in that request has no end." in done.stderr


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_archive_hurts_nobody(fleet: Fleet, planted: Host, number: int) -> None:
    keep(planted, packed(system(*HOSTILE[number])))
    before = trees(planted)
    done = manage(fleet, "recover planted /dir /dir/out/secret")
    assert "Traceback" not in done.stderr
    assert "Something went wrong" not in done.stderr
    foreign = f"test ! -e {BACK} || find {BACK} -uid +65535 -o -type b -o -name '.*'"
    assert planted.sh(foreign).stdout == ""
    planted.sh(f"rm -rf {BACK}")
    assert trees(planted) == before


@pytest.mark.parametrize(
    "plant",
    [f"ln -s {BAIT} {BACK}", f"touch {BACK}",
     f"install -d -o 1000 {BACK}", f"install -d -m 1777 {BACK}"],
)  # fmt: skip
def test_what_is_in_the_way_stays(fleet: Fleet, planted: Host, plant: str) -> None:
    keep(planted, packed(system(file("./dir/x"))))
    before = planted.sh(f"{plant}; find {SYSTEM} | sort").stdout
    done = manage(fleet, "recover planted /dir")
    assert "In your container, /recovered can't be used: " in done.stderr
    assert planted.sh(f"find {SYSTEM} | sort").stdout == before


def test_what_is_left_of_others_goes(fleet: Fleet, planted: Host) -> None:
    keep(planted, packed(system(file("./dir/x"), folder("./dir/deep" + "/d" * 1500))))
    planted.sh(f"""
        mkdir -p {BACK}; cd {BACK}; touch planted; mkdir -p planted-2/x .unfinished
        ln -s {BAIT} .unfinished/bait; cp -a ../home .unfinished""")
    assert manage(fleet, "recover planted /dir").ok
    assert planted.sh(f"ls -A {BACK}").stdout == "planted\nplanted-2\nplanted-3\n"
    assert planted.sh(f"ls -A {BACK}/planted-3").stdout == "dir\n"


def test_a_damaged_or_cut_archive_leaves_nothing(fleet: Fleet, planted: Host) -> None:
    raw = packed(system(file("./dir/x")))
    keep(planted, raw[:-20])
    assert "only the beginning came" in manage(fleet, "recover planted /dir").stderr
    keep(planted, raw)
    digest = hashlib.sha256(raw).hexdigest()
    planted.sh(f"sed -i s/{digest}/{digest[::-1]}/ {SNAPSHOTS}/planted.json")
    assert "is damaged" in manage(fleet, "recover planted /dir").stderr
    assert planted.sh(f"ls -A {BACK}").stdout == ""


def test_a_full_disk_keeps_room_for_others(planted: Host) -> None:
    keep(planted, packed(system(file("./dir/x", bytes(1 << 25)))))
    least = "free_space.RESERVE = 2; free_space.MOST_RESERVED = 1 << 60"
    done = driven(planted, DIR, setting=least)
    assert done.stdout.startswith("disk-full "), done.stdout + done.stderr
    assert planted.sh(f"ls -A {BACK}").stdout == ""


@pytest.mark.parametrize("call", ["clone", "vfork", "syncfs"])
def test_a_kill_leaves_all_or_nothing(planted: Host, call: str) -> None:
    """strace(1) kills the helper at each such call, until it gets through."""
    keep(planted, packed(system(file("./dir/x"))))
    for number in range(1, 20):
        kill = f"--trace={call} --inject={call}:signal=KILL:when={number}"
        done = driven(planted, DIR, at=f"strace -qq -o /dev/null {kill}")
        eventually(lambda: working(planted) == "")
        left = planted.sh(f"ls -A {BACK}", check=False).stdout.split()
        assert done.status in (0, 137), done.stdout + done.stderr
        for name in left:
            whole = planted.sh(f"test -f {BACK}/{name}/dir/x", check=False).ok
            assert whole or name == ".unfinished", number
        if done.ok:
            assert number > 1
            assert ".unfinished" not in left
            return
    raise AssertionError("never got through")
