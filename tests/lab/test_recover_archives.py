"""`recover --from-stdin`: whatever archive comes, nothing is lost and nobody gets in."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from laboratory.hosts import Host

from tests.lab.archives import FAR, Add, archive, file, folder, link, member, packed, system
from tests.lab.fleet import BAIT, SYSTEM, Fleet
from tests.lab.recovering import FOLDER, manage, trees


@dataclass(frozen=True)
class Attack:
    """An archive, and what is said of it; empty: it is taken, and harmless."""

    name: str
    add: tuple[Add, ...]
    said: str = ""
    options: tuple[str, ...] = ()


REFUSED = "could not be unpacked: "
ATTACKS = (
    Attack("absolute path", (file(f"{BAIT}/x"),)),
    Attack("climbing path", (file(f"./{FAR}srv/bait/x"),), "Member name contains '..'"),
    Attack("link out, file through it", (link("./out", BAIT), file("./out/x")), REFUSED),
    Attack("climbing link, file through it",
           (link("./out", f"{FAR}srv/bait"), file("./out/secret", b"taken")), REFUSED),
    Attack("link to a link out",
           (link("./a", "b"), link("./b", BAIT), file("./a/secret", b"taken")), REFUSED),
    Attack("hard link out", (link("./hard", f"{BAIT}/secret", tarfile.LNKTYPE),), REFUSED),
    Attack("climbing hard link",
           (link("./hard", f"{FAR}srv/bait/secret", tarfile.LNKTYPE),), "Cannot hard link"),
    Attack("hard link to today's system",
           (link("./hard", "../rootfs/etc/shadow", tarfile.LNKTYPE),), "Cannot hard link"),
    Attack("written through a hard link", (link("./l", f"{BAIT}/secret"),
           link("./m", "./l", tarfile.LNKTYPE), file("./m", b"taken"))),
    Attack("block device", (member("./disk", tarfile.BLKTYPE, devmajor=254),), "mknod"),
    Attack("device in dev", (member("./dev/disk", tarfile.BLKTYPE, devmajor=254),)),
    Attack("pipe", (member("./etc/pipe", tarfile.FIFOTYPE),)),
    Attack("set-uid root", (file("./usr/sbin/su", mode=0o6755),)),
    Attack("closed root folder of somebody else", (folder("./", mode=0, uid=1000),)),
    Attack("ids of nobody", (file("./x", uid=3_000_000),), "Cannot change ownership"),
    Attack("init is a link to the server's", (link("./sbin/init", "/usr/bin/env"),),
           "holds no system that could start: it lacks an init program."),
    Attack("passwd is a pipe", (member("./etc/passwd", tarfile.FIFOTYPE),), "a list of accounts"),
    Attack("passwd is the server's", (link("./etc/passwd", f"{FAR}etc/passwd"),)),
    Attack("etc is a link", (link("./elsewhere", BAIT), link("./etc", BAIT)), ""),
    Attack("deep", (folder("./" + "d/" * 1900),)),
    Attack("deeper than a path can be", (folder("./" + "d/" * 3000),), "File name too long"),
    Attack("name of a megabyte", (file("./" + "n" * (1 << 20)),), "File name too long"),
    Attack("window of two gigabytes", (), "too much memory", ("--long=31",)),
)  # fmt: skip


def swap_back(host: Host) -> None:
    """By hand: the previous system is in place again, and nothing else is left."""
    host.sh(f"cd {FOLDER}; rm -rf rootfs; mv rootfs.before rootfs")


@pytest.fixture
def whole(small_system: Host) -> Iterator[Host]:
    """lqchen's container has one system, and so it has afterwards."""
    yield small_system
    there = small_system.sh(f"ls -A {FOLDER}; ls -A {BAIT}; cat {BAIT}/secret").stdout
    small_system.sh(f"cd {FOLDER}; rm -rf rootfs.new .trash-*; ! test -e rootfs.before || "
             "{ rm -rf rootfs; mv rootfs.before rootfs; }")  # fmt: skip
    assert there.split() == ["rootfs", "secret", "secret"]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_archive_hurts_nobody(fleet: Fleet, whole: Host, attack: Attack) -> None:
    before = trees(whole)
    raw = packed(system(*attack.add), attack.options)
    done = manage(fleet, "recover --from-stdin", raw)
    assert "Traceback" not in done.stderr
    assert "Something went wrong" not in done.stderr
    if attack.said:
        assert done.status == 1
        assert attack.said in done.stderr
        assert trees(whole) == before
        return
    if done.ok:
        owners = whole.sh(f"stat -c '%u %a' {FOLDER}/rootfs {SYSTEM}").stdout
        assert owners == "0 700\n0 755\n"
        foreign = whole.sh(f"find {SYSTEM} -uid +262143 -o -gid +262143 -o -type b -o -type c")
        assert foreign.stdout == ""
        swap_back(whole)
    assert trees(whole) == before


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "Nothing of the archive came"),
        (b"no archive at all\n" * 99, "unsupported format"),
        (packed(b""), "could not be unpacked"),
        (packed(b"no tar archive\n" * 999), "This does not look like a tar archive"),
        (packed(system())[:-40], "only the beginning came"),
        (packed(system()[:5120]), "only the beginning came"),
        (packed(system()) + b"garbage", "could not be unpacked"),
        (packed(archive(file("./thesis"))), "holds no system that could start"),
        (packed(system(file("./x"))[:4096] + b"\xff" * 9000), "could not be unpacked"),
    ],
    ids=["empty", "text", "packed nothing", "packed text", "cut", "cut inside", "garbage after",
         "no system", "garbage within"],
)  # fmt: skip
def test_what_is_no_whole_system_changes_nothing(
    fleet: Fleet, whole: Host, raw: bytes, said: str
) -> None:
    before = trees(whole)
    done = manage(fleet, "recover --from-stdin", raw)
    assert done.status == 1
    assert said in done.stderr, done.stderr
    assert "Nothing was changed." in done.stderr
    assert trees(whole) == before


def test_a_header_of_gigabytes_eats_no_memory(fleet: Fleet, whole: Host) -> None:
    info = tarfile.TarInfo("./x")
    info.type, info.size = tarfile.XHDTYPE, 6 << 30
    raw = info.tobuf() + bytes(1 << 20)
    done = manage(fleet, "recover --from-stdin", packed(raw))
    assert done.status == 1
    assert "memory exhausted" in done.stderr


def test_the_fence_holds_whoever_runs_behind_it(fleet: Fleet, whole: Host) -> None:
    """The fence alone, without tar: this program does try to write elsewhere."""
    script = f"""
        cd /; fence=/opt/lxc-gpu/packages/reconciler/archives/fence.py
        ids=$(sed -n 's/^lqchen://p' /etc/subuid)
        mkdir {FOLDER}/fenced; chown ${{ids%:*}}:${{ids%:*}} {FOLDER}/fenced
        setpriv --reuid=lqchen --regid=lqchen --init-groups \\
            lxc-usernsexec -m b:0:$ids -- python3 -IS $fence {FOLDER}/fenced sh -c '
                for place in {BAIT}/x {BAIT}/secret /tmp/x /dev/shm/x {SYSTEM}/etc/x; do
                    echo taken 2>&- >$place && echo $place
                done; mount -o remount,bind,rw / 2>&-; touch {BAIT}/x 2>&- && echo again
                echo yes >inside && cat inside' || true
        rm -r {FOLDER}/fenced"""
    assert whole.sh(script).stdout == "yes\n"
