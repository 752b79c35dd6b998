"""Snapshots as researchers take them: what is in them, and what can't go wrong with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import CONTAINERS, Fleet, end_at_once, in_container, reconcile, running
from tests.patience import eventually

NAS = "/NAS/snapshots"
FOLDER = f"{NAS}/lqchen"
SERVER = "servers/gpu17.yaml"
SLOT = f"{CONTAINERS}/lqchen/rootfs"
ROOTFS = f"{SLOT}/system"
ODD = r"""
import os, socket, struct
os.makedirs("srv/odd/deep/er"); os.chdir("srv/odd")
for uid in (0, 1, 1000, 65534, 100_000, 262_143):
    open(f"of{uid}", "w").write(str(uid)); os.chown(f"of{uid}", uid, uid + (uid < 262_143))
for mode in (0o4755, 0o2755, 0o6711, 0o1777, 0o000, 0o400):
    open(f"mode{mode:o}", "w").close(); os.chmod(f"mode{mode:o}", mode)
open("ping", "w").write("ping")
os.setxattr("ping", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
open("tagged", "w").close(); os.setxattr("tagged", "user.empty", b"")
os.setxattr("tagged", "user.lines", b"a\nb\0c")
entry = lambda tag, bits, who=2**32 - 1: struct.pack("<HHI", tag, bits, who)
acl = struct.pack("<I", 2) + entry(1, 7) + entry(2, 5, 1000)
acl += entry(4, 5) + entry(16, 7) + entry(32, 0)
open("shared", "w").close(); os.setxattr("shared", "system.posix_acl_access", acl)
os.setxattr("deep", "system.posix_acl_default", acl)
open("one", "w").write("linked"); os.link("one", "deep/two"); os.link("one", "deep/er/three")
for size, at in ((1 << 40, 1 << 39), (5 << 20, 0)):
    with open(f"sparse{size}", "wb") as f: f.truncate(size); f.seek(at); f.write(b"x" * 9000)
os.symlink("/etc/shadow", "link"); os.symlink("no\nwhere", "dangling"); os.mkfifo("pipe")
open("two\nlines \x1b[2J", "w").write("odd"); open(b"\xff\xfe", "w").write("no UTF-8")
open("a" * 255, "w").close(); open("-rf", "w").close(); open("--to-command=id", "w").close()
os.utime("one", ns=(1_234_567_890_123_456_789,) * 2)
socket.socket(socket.AF_UNIX).bind("socket")
way = os.open(".", os.O_RDONLY)
for _ in range(15):
    os.mkdir("d" * 200, dir_fd=way); way = os.open("d" * 200, os.O_RDONLY, dir_fd=way)
"""
"""A folder in a container with everything that archives are known to lose, or to fall for."""
LISTED = r"""
import hashlib, os, stat
def content(path, s):
    if stat.S_ISLNK(s.st_mode): return os.readlink(path)
    if not stat.S_ISREG(s.st_mode): return ""
    with open(path, "rb") as f:
        begin = f.read(9000 if s.st_size < 1 << 30 else 0)
    small = s.st_blocks < 1000
    return s.st_mtime_ns, s.st_size, small, hashlib.sha256(begin).hexdigest()[:8]
def attributes(path, s):
    names = [] if stat.S_ISLNK(s.st_mode) else sorted(os.listxattr(path))
    return [(name, os.getxattr(path, name).hex()) for name in names]
first = {}
for folder, folders, files in os.walk(b"srv/odd"):
    folders.sort()
    for path in sorted(os.path.join(folder, name) for name in [b"", *files]):
        s = os.lstat(path)
        if stat.S_ISSOCK(s.st_mode): continue
        same = first.setdefault((s.st_dev, s.st_ino), path)
        owner = (oct(s.st_mode), s.st_uid, s.st_gid)
        print(path, *owner, same, attributes(path, s), content(path, s))
"""
"""Prints everything that has to survive, as the container's root sees it."""

SHOWN = f"ls -lan --time-style=+ {FOLDER} {FOLDER}/ 2>&1 || true; ls -A /root"
WRITES = """
head -c 200000000 /dev/zero >/var/tmp/big
while :; do echo more >&3; done 3>>/var/tmp/big
"""
"""A program that writes to a file all the time."""


def manage(fleet: Fleet, words: str, wait: float = 60) -> Finished:
    """What lqchen gets for a request."""
    return fleet.types(f"ssh gpu17-manage {words}", wait=wait)


def listed(fleet: Fleet) -> list[str]:
    """The names of lqchen's snapshots."""
    facts = json.loads(manage(fleet, "snapshot --list --json").stdout)
    return [each["name"] for each in facts["snapshots"]]


@pytest.fixture(scope="module", autouse=True)
def nas(fleet: Fleet) -> Iterator[None]:
    """Snapshots go to a folder as a NAS has it, three each; lqchen's container is up."""
    fleet.gpu17.sh(f"mkdir -p {NAS}; chown nobody {NAS}; chmod 1777 {NAS}")
    fleet.commits("Snapshots go to the NAS", f"sed -i '/^snapshots:/d' {SERVER}; echo "
                  f"'snapshots: {{folder: {NAS}, keep: 3}}' >>{SERVER}")  # fmt: skip
    assert reconcile(fleet.gpu17).ok
    yield
    fleet.commits("Snapshots stay on the server", f"sed -i '/^snapshots:/d' {SERVER}")
    assert reconcile(fleet.gpu17).ok
    fleet.gpu17.sh("rm -rf /NAS")


@pytest.fixture(autouse=True)
def none_yet(fleet: Fleet) -> None:
    """lqchen has no snapshots, and the folder is as it was made."""
    fleet.gpu17.sh(f"rm -rf {NAS}/* {NAS}/.[!.]*; chown nobody {NAS}; chmod 1777 {NAS}")


@pytest.fixture(scope="class")
def small(fleet: Fleet) -> Iterator[Host]:
    """lqchen's container holds next to nothing for a while, so that snapshots take no time."""
    end_at_once(fleet.gpu17, "lqchen")
    fleet.gpu17.sh(f"""
        mv {SLOT} {SLOT}.aside; mkdir -m 700 {SLOT}
        mkdir -m 755 {ROOTFS} {ROOTFS}/srv; head -c 1000000 /dev/urandom >{ROOTFS}/srv/file""")
    yield fleet.gpu17
    fleet.gpu17.sh(f"rm -rf {SLOT}; mv {SLOT}.aside {SLOT}")


@pytest.fixture
def random(small: Host) -> Iterator[Host]:
    """In it are 90 MB that nobody can pack any smaller."""
    small.sh(f"head -c 90000000 /dev/urandom >{ROOTFS}/srv/random; chmod 644 {ROOTFS}/srv/random")
    yield small
    small.sh(f"rm {ROOTFS}/srv/random")


@pytest.fixture
def paused(fleet: Fleet) -> Iterator[Host]:
    """The next snapshot stands still in the middle, until its zstd is told to go on."""
    fleet.gpu17.sh("""
        rm -f /run/paused
        nohup bash -c 'for _ in {1..1500}; do
            pkill -STOP -u lqchen -x zstd && { touch /run/paused; break; }; sleep 0.01
        done' >/dev/null 2>&1 &""")
    yield fleet.gpu17
    fleet.gpu17.sh("pkill -CONT -x zstd || true")


KILL_TAR = "until pkill -KILL -x tar; do sleep 0.1; done; pkill -CONT -x zstd"
"""zstd, which is paused, may have begun a moment before it."""


def _begin(fleet: Fleet, words: str = "snapshot") -> None:
    """Somebody types that and doesn't wait for the end."""
    fleet.types(f"nohup ssh gpu17-manage {words} >/tmp/said 2>&1 & echo $! >/tmp/typed")
    eventually(lambda: fleet.gpu17.sh("test -e /run/paused", check=False).ok)


class TestWhatIsInIt:
    def test_everything_comes_back_under_anybodys_ids(self, fleet: Fleet) -> None:
        host = fleet.gpu17
        try:
            in_container(host, "lqchen", f"python3 - <<'END'\n{ODD}\nEND")
            before = in_container(host, "lqchen", f"python3 - <<'END'\n{LISTED}\nEND").stdout
            done = manage(fleet, "snapshot odd")
            assert done.ok, done.stderr
            host.sh(f"cp {FOLDER}/odd.tar.zst /tmp/; chmod 644 /tmp/odd.tar.zst")
            host.sh(f"""
                ids=$(sed -n 's/^ann://p' /etc/subuid); rm -rf {CONTAINERS}/ann/unpacked
                install -d -o ${{ids%:*}} -g ${{ids%:*}} {CONTAINERS}/ann/unpacked""")
            unpack = (
                "tar -xp --zstd -f /tmp/odd.tar.zst -C ../unpacked --numeric-owner --xattrs "
                "--xattrs-include=* --acls ./srv; cd ../unpacked; "
            )
            after = in_container(host, "ann", f"{unpack} python3 - <<'END'\n{LISTED}\nEND").stdout
        finally:
            host.sh(f"rm -rf {CONTAINERS}/ann/unpacked {ROOTFS}/srv/odd /tmp/odd.tar.zst")
        assert len(before.splitlines()) > 40
        assert after == before
        for part in ("security.capability", "posix_acl_access", "user.lines", "0o106711", "262143"):
            assert part in before

    def test_what_a_boot_makes_anew_is_left_out(self, fleet: Fleet) -> None:
        in_container(fleet.gpu17, "lqchen", "touch tmp/left-out run/left-out var/tmp/packed")
        names = fleet.types("ssh gpu17-manage snapshot --to-stdout 2>/dev/null | tar -t --zstd")
        names_of = names.stdout.splitlines()
        assert {"./tmp/", "./run/", "./proc/", "./var/tmp/packed"} <= set(names_of)
        assert not [name for name in names_of if re.match(r"\./(dev|proc|run|sys|tmp)/.", name)]


@pytest.mark.usefixtures("small")
class TestManyOfThem:
    def test_it_says_what_it_is_and_keeps_its_word(self, fleet: Fleet) -> None:
        done = manage(fleet, "snapshot --json")
        facts = json.loads(done.stdout)
        assert "- packing the container\n" in done.stderr
        assert re.fullmatch(r"gpu17-20\d\d-\d\d-\d\d-\d{4}", facts["name"])
        shown = fleet.gpu17.sh(f"""
            cd {FOLDER}; sha256sum <*.tar.zst; stat -c %s *.tar.zst; zstd -dc *.tar.zst | wc -c
            stat -c '%U %G %a' . *""").stdout.split("\n")
        assert shown[0].split()[0] == facts["sha256"]
        assert [int(n) for n in shown[1:3]] == [facts["packed_bytes"], facts["unpacked_bytes"]]
        assert shown[3:6] == ["lqchen lqchen 700", *["lqchen lqchen 600"] * 2]

    def test_a_description_without_archive_is_cleaned_up_if_it_is_ours(self, fleet: Fleet) -> None:
        assert manage(fleet, "snapshot mine").ok
        fleet.gpu17.sh(f"""
            cd {FOLDER}; rm mine.tar.zst
            sed s/gpu17/gpu18/ mine.json >theirs.json; chown lqchen theirs.json""")
        lines = manage(fleet, "snapshot --list").stdout
        assert "Not complete: mine." in lines
        assert manage(fleet, "snapshot mine").status == 0
        assert fleet.gpu17.sh(f"ls {FOLDER}").stdout.split() == [
            "mine.json", "mine.tar.zst", "theirs.json",
        ]  # fmt: skip

    def test_dated_ones_make_room_and_named_ones_stay(self, fleet: Fleet) -> None:
        first = json.loads(manage(fleet, "snapshot --json").stdout)["name"]
        assert manage(fleet, "snapshot mine").ok
        third = json.loads(manage(fleet, "snapshot --json").stdout)["name"]
        assert listed(fleet) == [first, "mine", third]
        done = manage(fleet, "snapshot paper")
        assert f"Removed {first} to make room: 3 are kept.\n" in done.stdout
        assert manage(fleet, "snapshot draft").ok
        assert listed(fleet) == ["mine", "paper", "draft"]
        done = manage(fleet, "snapshot")
        assert (done.status, done.stdout) == (1, "")
        assert "You keep 3 snapshots with names of their own, and 3 may be kept" in done.stderr
        assert "snapshot --remove mine" in done.stderr
        assert "looking" not in done.stderr, "refused before any work"

    def test_a_table_of_them(self, fleet: Fleet) -> None:
        done = manage(fleet, "snapshot --list")
        assert done.stdout == ("You have no snapshots yet. Take one:  ssh gpu17-manage snapshot\n")
        assert manage(fleet, "snapshot mine").ok
        lines = manage(fleet, "snapshot --list").stdout.splitlines()
        assert lines[0].split() == ["NAME", "TAKEN", "SIZE", "UNPACKED", "FROM"]
        assert re.fullmatch(r"mine  20[\d: -]{14}  +[\d.]+ KiB  +[\d.]+ MiB  +gpu17", lines[1])
        assert lines[2:] == ["1 of 3.", "The oldest one without a name from you makes room."]
        done = manage(fleet, "snapshot mine")
        assert (done.status, listed(fleet)) == (1, ["mine"])
        assert "There is a snapshot `mine` already; nothing was done." in done.stderr

    def test_removing_one_needs_a_yes(self, fleet: Fleet) -> None:
        assert manage(fleet, "snapshot mine").ok
        asked = manage(fleet, "snapshot --remove mine")
        assert (asked.status, listed(fleet)) == (3, ["mine"])
        again = re.search(
            r"ssh gpu17-manage (snapshot .*--confirm [0-9a-f]{8})$", asked.stderr, re.M
        )
        assert again is not None, asked.stderr
        for_a_script = manage(fleet, "snapshot --remove mine --json")
        assert (for_a_script.status, listed(fleet)) == (3, ["mine"])
        facts = json.loads(for_a_script.stdout)
        assert facts["question"].startswith("This removes the snapshot mine of gpu17, taken ")
        assert again[1].endswith(f"--confirm {facts['confirm']}")
        fleet.gpu17.sh(f'sed -i \'s/"taken": 1/"taken": 1.1e9, "x": 1/\' {FOLDER}/mine.json')
        other = manage(fleet, again[1])
        assert (other.status, listed(fleet)) == (3, ["mine"]), "it isn't what was asked about"
        token = other.stderr.split()[-1]
        done = manage(fleet, f"snapshot --remove mine --confirm {token}")
        assert done.stdout.startswith("Removed the snapshot mine of gpu17, taken ")
        assert fleet.gpu17.sh(f"ls -A {FOLDER}").stdout == ""

    @pytest.mark.parametrize(
        ("words", "said"),
        [("../x", "can't be"), ("x/y", "can't be"), ("--list --to-stdout", "can't be combined"),
         ("--list mine", "takes no name"), ("--remove", "Which one?"), (".x", "can't be"),
         ("--remove nothing", "You have no snapshot `nothing`. You have none yet."),
         ("--to-stdout mine", "takes no name"), ("--confirm 1", "can't be")],
    )  # fmt: skip
    def test_nonsense_is_told_apart(self, fleet: Fleet, words: str, said: str) -> None:
        done = manage(fleet, f"snapshot {words}")
        assert (done.status, done.stdout) == (1, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr


class TestInterruptions:
    def test_files_that_change_are_told_and_no_failure(self, fleet: Fleet) -> None:
        if not running(fleet.gpu17, "lqchen"):
            assert manage(fleet, "start").ok
        begins = "ssh gpu17 'cat >w; nohup timeout 60 sh w >/dev/null 2>&1 & echo $! >w.pid'"
        fleet.types(begins, stdin=WRITES)
        done = manage(fleet, "snapshot")
        fleet.types("ssh gpu17 'kill $(cat w.pid); rm /var/tmp/big'")
        assert done.ok, done.stderr
        assert re.search(r"\d files? changed while being read, e.g. /var/", done.stdout)
        assert "ssh gpu17-manage stop; ssh gpu17-manage snapshot" in done.stdout

    def test_work_goes_on_meanwhile_and_without_its_asker(self, fleet: Fleet, paused: Host) -> None:
        _begin(fleet)
        assert "Under way: gpu17-" in manage(fleet, "snapshot --list").stdout
        assert "files is under way (snapshot)." in manage(fleet, "snapshot mine").stderr
        assert "snapshot: under way since" in manage(fleet, "status").stdout
        assert manage(fleet, "restart").ok, "a start doesn't wait for a snapshot"
        assert reconcile(fleet.gpu17).ok, "nor does a round"
        fleet.types("kill -9 $(cat /tmp/typed)")
        assert listed(fleet) == []
        paused.sh("pkill -CONT -u lqchen -x zstd")
        eventually(lambda: len(listed(fleet)) == 1)
        assert "Under way" not in manage(fleet, "snapshot --list").stdout
        assert "snapshot: done" in manage(fleet, "status").stdout

    def test_a_killed_one_leaves_nothing_that_counts_or_stays(
        self, fleet: Fleet, paused: Host
    ) -> None:
        _begin(fleet, "snapshot mine")
        paused.sh(f"touch {FOLDER}/.gpu18~theirs.new; systemctl kill -s KILL 'lxc-gpu-root@*'")
        eventually(lambda: not paused.sh("pgrep -u lqchen -x zstd", check=False).ok)
        assert ".gpu17~mine.new" in paused.sh(f"ls -A {FOLDER}").stdout
        assert listed(fleet) == []
        assert "ended without an answer" in fleet.types("cat /tmp/said").stdout
        assert manage(fleet, "snapshot mine").ok
        assert paused.sh(f"ls -A {FOLDER}").stdout.split() == [
            ".gpu18~theirs.new", "mine.json", "mine.tar.zst",
        ]  # fmt: skip

    def test_a_tar_that_is_killed_is_no_snapshot(self, fleet: Fleet, paused: Host) -> None:
        _begin(fleet)
        paused.sh(KILL_TAR)
        eventually(lambda: "could not be packed" in fleet.types("cat /tmp/said").stdout)
        assert paused.sh(f"ls -A {FOLDER}").stdout == ""

    def test_a_stream_that_is_not_whole_does_not_unpack(self, fleet: Fleet, paused: Host) -> None:
        fleet.types("nohup ssh gpu17-manage snapshot --to-stdout >/tmp/stream 2>/tmp/said &")
        eventually(lambda: paused.sh("test -e /run/paused", check=False).ok)
        paused.sh(KILL_TAR)
        eventually(lambda: "could not be packed" in fleet.types("cat /tmp/said").stdout)
        assert not fleet.types("zstd -dc /tmp/stream >/dev/null").ok


NESTED = """
import os
os.makedirs("srv/deep"); os.chdir("srv/deep")
for _ in range(5_000): os.mkdir("d"); os.chdir("d")
"""


@pytest.mark.usefixtures("small")
class TestNobodyWaits:
    @pytest.fixture
    def walking(self, small: Host) -> Iterator[Host]:
        """Folders in folders; who packs them stands still as soon as it has begun."""
        in_container(small, "lqchen", f"python3 - <<'END'\n{NESTED}\nEND")
        small.sh("""
            nohup bash -c 'for _ in {1..3000}; do pkill -STOP -x tar && break; sleep 0.005; done' \
                >/dev/null 2>&1 &""")
        yield small
        small.sh(f"pkill -KILL -x tar || true; rm -r {ROOTFS}/srv/deep")

    def test_what_is_sent_ends_when_its_asker_goes(self, fleet: Fleet, walking: Host) -> None:
        """sshd tells a program without a terminal nothing, and tar says nothing meanwhile."""
        host, stopped = walking, "ps -o state= -C tar | grep -q T"
        fleet.types("""
            nohup ssh gpu17-manage snapshot --to-stdout >/dev/null 2>&1 & echo $! >/tmp/typed""")
        eventually(lambda: host.sh(stopped, check=False).ok)
        group = host.sh("cat /proc/$(pgrep -x tar)/cgroup; echo user-$(id -u lqchen).slice").stdout
        assert f"/{group.split()[-1]}/lxc-gpu-work-" in group
        fleet.types("kill -9 $(cat /tmp/typed)")
        work = "pgrep -x tar || systemctl -q is-active 'lxc-gpu-root@*' 'lxc-gpu-work-*'"
        eventually(lambda: not host.sh(work, check=False).ok)
        eventually(lambda: not host.sh("pgrep -u lqchen -f login-shell", check=False).ok)
        assert "whoever asked for it had gone" in manage(fleet, "status").stdout


@pytest.mark.usefixtures("small")
class TestDisks:
    @pytest.mark.parametrize("size", ["60m", "16m"])
    def test_a_full_disk_keeps_what_was_there(self, fleet: Fleet, random: Host, size: str) -> None:
        host = random
        host.sh(f"mkdir {FOLDER}; mount -t tmpfs -o size={size},mode=700,uid=$(id -u lqchen) "
                f"none {FOLDER}")  # fmt: skip
        try:
            done = manage(fleet, "snapshot")
            left = host.sh(f"ls -A {FOLDER}").stdout
        finally:
            host.sh(f"umount {FOLDER}")
        assert (done.status, left) == (1, "")
        assert "he disk of the snapshots" in done.stderr
        assert "snapshot --remove NAME" in done.stderr

    def test_a_reader_that_goes_away_ends_it(self, fleet: Fleet, random: Host) -> None:
        done = fleet.types("ssh gpu17-manage snapshot --to-stdout | head -c 1000000 | wc -c")
        assert done.stdout == "1000000\n"
        eventually(lambda: not random.sh("pgrep -x 'zstd|tar'", check=False).ok)
        assert not random.sh("systemctl -q is-active 'lxc-gpu-root@*'", check=False).ok
        done = fleet.types("ssh -tt gpu17-manage snapshot --to-stdout </dev/null")
        assert "is for a pipe or a file" in done.stdout

    def test_a_root_without_power_over_files_as_on_a_nas(self, fleet: Fleet) -> None:
        """Not NFS, but what root squash comes to for us: root can make nothing that is a user's.

        (Without CAP_DAC_OVERRIDE, which it doesn't have there either, newuidmap fails.)
        """
        host, unit = fleet.gpu17, "/run/systemd/system/lxc-gpu-root@.service.d"
        host.sh(f"""
            mkdir -p {unit}; cat >{unit}/squash.conf <<'END'
[Service]
CapabilityBoundingSet=~CAP_CHOWN CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
END
            systemctl daemon-reload""")
        try:
            for _ in range(3):
                assert manage(fleet, "snapshot").ok
            name = listed(fleet)[0]
            assert manage(fleet, "snapshot").ok
            assert name not in listed(fleet)
            host.sh(f"rm -rf {FOLDER}; chmod 755 {NAS}")
            done = manage(fleet, "snapshot")
        finally:
            host.sh(f"rm -r {unit}; systemctl daemon-reload")
        uid = host.sh("id -u lqchen").stdout.strip()
        assert f"Your snapshots' folder {FOLDER} can't be made from this server" in done.stderr
        assert f"`chown {uid}:{uid} lqchen`" in done.stderr
        assert manage(fleet, "snapshot").ok, "with its power, root makes the folder"
        assert host.sh(f"stat -c '%U %G %a' {FOLDER}").stdout == "lqchen lqchen 700\n"

    def test_a_nas_that_is_away_is_not_replaced(self, fleet: Fleet) -> None:
        doctor = ["lxc-gpu", "doctor"]
        fits = f"{NAS} holds up to 3 snapshots of each user"
        assert fits in fleet.gpu17.run([*doctor, "--json"], check=False).stdout
        fleet.gpu17.sh(f"mv {NAS} {NAS}.away")
        try:
            assert f"{NAS} is not there" in fleet.gpu17.run(doctor, check=False).stdout
            asked = [manage(fleet, words) for words in ("snapshot", "snapshot --list", "recover x")]
            assert not fleet.gpu17.sh(f"test -e {NAS}", check=False).ok
        finally:
            fleet.gpu17.sh(f"mv {NAS}.away {NAS}")
        for done in asked:
            assert "perhaps the NAS is away" in done.stderr, "which isn't: no snapshots"


@pytest.mark.usefixtures("small")
class TestHostile:
    def test_a_planted_folder_is_refused(self, fleet: Fleet) -> None:
        host = fleet.gpu17
        for plant in (f"ln -s /root {FOLDER}", f"install -d -m 777 -o ann {FOLDER}",
                      f"install -d -m 777 -o lqchen {FOLDER}", f"touch {FOLDER}"):  # fmt: skip
            host.sh(f"rm -rf {FOLDER}; {plant}")
            before = host.sh(f"{SHOWN}").stdout
            for words in ("snapshot", "snapshot --list", "snapshot --remove x"):
                done = manage(fleet, words)
                assert (done.status, done.stdout) == (1, ""), (plant, words)
                assert "Traceback" not in done.stderr
            shown = host.sh(f"{SHOWN}").stdout
            assert shown == before

    def test_planted_files_are_neither_followed_nor_written_to(self, fleet: Fleet) -> None:
        host = fleet.gpu17
        assert manage(fleet, "snapshot mine").ok
        host.sh(f"""
            cd {FOLDER}; echo kept >/tmp/target; chmod 666 /tmp/target
            for name in .gpu17~a.new b.tar.zst b.json c.tar.zst .gpu17~mine.json.new; do
                ln -s /tmp/target $name
            done
            mkfifo d.json d.tar.zst; mkdir e.json .gpu17~dir.new; truncate -s 1T f.json
            chown -h lqchen:lqchen * .g*""")
        assert listed(fleet) == ["mine"]
        for words in ("snapshot b", "snapshot c"):
            assert "already; nothing was done" in manage(fleet, words).stderr
        assert manage(fleet, "snapshot a").ok
        assert listed(fleet) == ["mine", "a"]
        asked = manage(fleet, "snapshot --remove b")
        assert "what is left of b, which is not complete" in asked.stderr
        assert manage(fleet, f"snapshot --remove b --confirm {asked.stderr.split()[-1]}").ok
        assert host.sh("cat /tmp/target").stdout == "kept\n"

    def test_what_its_owner_may_not_read_is_an_error_not_a_gap(self, fleet: Fleet) -> None:
        host = fleet.gpu17
        host.sh(f"install -m 600 -o 300000 /dev/null {ROOTFS}/srv/of-nobody; chmod 700 {ROOTFS}")
        try:
            done = manage(fleet, "snapshot")
        finally:
            host.sh(f"rm {ROOTFS}/srv/of-nobody")
        assert (done.status, host.sh(f"ls -A {FOLDER}").stdout) == (1, "")
        assert "./srv/of-nobody: Cannot open: Permission denied" in done.stderr
        assert manage(fleet, "snapshot").ok, "though / itself is closed to everybody but root"
        host.sh(f"chmod 755 {ROOTFS}")
