"""recover and rebuild: nothing is lost, nobody gets in, and one can always go back."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.archives import Add, archive, file, folder, link, member, packed, system
from tests.lab.fleet import (
    CONTAINERS,
    Fleet,
    empty,
    end_at_once,
    in_container,
    plan,
    reconcile,
    running,
    system_of,
)
from tests.patience import eventually

FOLDER = f"{CONTAINERS}/lqchen"
SYSTEM = f"{FOLDER}/rootfs/system"
HERS = f"{CONTAINERS}/ann"
ASIDE = f"{CONTAINERS}/.lqchen-of-tests"
BAIT = "/srv/bait"
UNCONFIRMED = 3
DRIVER = """
import os, sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from shells.usage import Verb
from shells.verbs import VerbRequest, serve
from state.errors import LxcGpuError
from reconciler.archives import extract
from reconciler.disk import free_space
user, source, setting = sys.argv[1:]
exec(setting)
try:
    asked = VerbRequest(user, {"from-stdin": ""}, os.open(source, os.O_RDONLY))
    print(serve(Verb.RECOVER, asked, lambda progress: None).text)
except LxcGpuError as error:
    print(error.code, "details:", error.details[:500])
    sys.exit(1)
"""
"""The root helper's work without its socket, so that strace can kill it at a call."""
KEEPS_HOME = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.requests import exchange
from reconciler.systems.next_system import FromTemplate, WithHome
tell = lambda progress: None
exchange.replace("lqchen", "rebuild", None, FromTemplate("lqchen", "debian-12", tell), tell,
                 at_rest=WithHome("lqchen", tell))
"""
"""What `rebuild --keep-home` does after the yes."""


def manage(
    fleet: Fleet, request: str, stdin: bytes | None = None, user: str = "lqchen"
) -> Finished:
    """What somebody gets for a verb."""
    return fleet.types(f"ssh gpu17-manage {request}", user=user, stdin=stdin, wait=120)


def agreed(fleet: Fleet, request: str) -> Finished:
    """The same with a yes."""
    asked = manage(fleet, request)
    assert asked.status == UNCONFIRMED, asked.stdout + asked.stderr
    return manage(fleet, f"{request} --confirm {token(asked)}")


def token(asked: Finished) -> str:
    """What has to be typed to go on."""
    found = re.search(r"--confirm ([0-9a-f]{8})\n", asked.stderr)
    assert found, asked.stderr
    return found[1]


def status(fleet: Fleet) -> dict[str, object]:
    """What `status --json` says."""
    facts: dict[str, object] = json.loads(manage(fleet, "status --json").stdout)
    return facts


def inside(fleet: Fleet, script: str) -> str:
    """What a script prints in lqchen's running container."""
    done = fleet.types(f"ssh gpu17 {shlex.quote(script)}")
    assert done.ok, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def gpu17(fleet: Fleet) -> Iterator[Host]:
    """The server; nothing is kept from before, nor for afterwards."""
    host = fleet.gpu17
    leftovers = f"rm -rf {FOLDER}/rootfs.before /var/lib/lxc-gpu/snapshots/lqchen"
    host.sh(leftovers)
    yield host
    host.sh(leftovers)


@pytest.fixture(scope="module")
def small(gpu17: Host) -> Iterator[Host]:
    """The server, on which lqchen's container is another one meanwhile: a small, stopped system."""
    if running(gpu17, "lqchen"):
        end_at_once(gpu17, "lqchen")
    gpu17.sh(f"mkdir -p {BAIT}; chmod 777 {BAIT}; echo secret >{BAIT}/secret; chmod 666 {BAIT}/*")
    gpu17.sh(f"mv {FOLDER} {ASIDE}; mkdir -m 711 {FOLDER}; mkdir -m 700 {FOLDER}/rootfs")
    gpu17.sh(f"mkdir -m 755 {SYSTEM}")
    in_container(
        gpu17,
        "lqchen",
        """
        mkdir -p etc home/lqchen; chown 1000:1000 home/lqchen
        echo old >etc/marker; echo x >etc/shadow""",
    )
    yield gpu17
    gpu17.sh(f"rm -rf {FOLDER} {BAIT}; mv {ASIDE} {FOLDER}")
    assert reconcile(gpu17).ok


class TestStory:
    """One after the other, as somebody would do it."""

    def test_back_to_a_snapshot_and_forth(self, fleet: Fleet, gpu17: Host) -> None:
        assert manage(fleet, "start").ok
        names = "cat /etc/machine-id; hostname"
        before = inside(fleet, f"echo one >thesis; sudo touch /etc/mine; {names}")
        assert manage(fleet, "snapshot first").ok
        inside(fleet, "echo two >thesis; sudo rm /etc/mine")

        asked = manage(fleet, "recover first")
        assert asked.status == UNCONFIRMED
        assert "It is running: programs in it end when it is restarted." in asked.stderr
        assert manage(fleet, "recover first --confirm 00000000").status == UNCONFIRMED
        assert inside(fleet, "cat thesis") == "two\n", "nothing was done without a yes"

        done = manage(fleet, f"recover first --confirm {token(asked)}")
        assert done.ok, done.stderr
        assert "- unpacking the snapshot first" in done.stderr
        assert inside(fleet, f"cat thesis; ls /etc/mine; {names}") == f"one\n/etc/mine\n{before}"
        assert plan(gpu17) == [], "a round has nothing to mend"
        assert "recover from the snapshot first: done" in manage(fleet, "status").stdout
        assert status(fleet)["previous_since"]

        assert manage(fleet, f"recover first --confirm {token(asked)}").status == UNCONFIRMED
        assert agreed(fleet, "recover --undo").ok
        assert inside(fleet, "cat thesis") == "two\n"
        assert agreed(fleet, "recover --undo").ok
        assert inside(fleet, "cat thesis") == "one\n"

    def test_files_come_back_beside_what_is_there(self, fleet: Fleet, gpu17: Host) -> None:
        inside(fleet, "echo now >thesis; sudo rm -f /etc/mine")
        done = manage(fleet, "recover first thesis /etc/mine")
        assert done.ok, done.stderr
        assert "  /recovered/first/home/lqchen/thesis\n" in done.stdout
        came = "find /recovered ! -type d -printf '%p %u\\n' | sort; cat thesis"
        assert inside(fleet, came) == (
            "/recovered/first/etc/mine root\n/recovered/first/home/lqchen/thesis lqchen\nnow\n"
        )
        modes = "stat -c '%n %U %a' /recovered /recovered/* /recovered/first/home/lqchen"
        assert inside(fleet, modes).split("\n")[:2] == [
            "/recovered root 755", "/recovered/first lqchen 700",
        ]  # fmt: skip

        done = manage(fleet, "recover first ~/thesis ./nothing/there /tmp/x")
        assert done.status == 1
        assert (
            "no /home/lqchen/nothing/there (there is /home/lqchen), no /tmp/x (there is /tmp); "
            "the others are in /recovered/first-2."
        ) in done.stderr
        assert inside(fleet, "cat /recovered/first-2/home/lqchen/thesis") == "one\n"
        for words in ("first nothing", "first ../ann", "first /", "first x --undo", "none x"):
            done = manage(fleet, f"recover {words}")
            assert (done.status, "Traceback" in done.stderr) == (1, False), done.stderr
        assert "recover files from the snapshot first: " in manage(fleet, "status").stdout
        assert inside(fleet, "ls -A /recovered") == "first\nfirst-2\n"
        inside(fleet, "cp /recovered/first/home/lqchen/thesis thesis; sudo touch /etc/mine")
        inside(fleet, "sudo rm -r /recovered")

    def test_what_fails_after_the_exchange_says_that_it_was_done(
        self, fleet: Fleet, gpu17: Host
    ) -> None:
        config = "/run/lxc-gpu/lqchen.config"
        gpu17.sh(f"rm {config}; mkdir {config}")
        try:
            done = agreed(fleet, "recover --undo")
        finally:
            gpu17.sh(f"rmdir {config}")
        assert "✗ The systems were exchanged, but the one in place" in done.stderr, done.stderr
        assert "Is a directory" in done.stderr
        assert agreed(fleet, "recover --undo").ok
        assert manage(fleet, "start").ok
        assert inside(fleet, "cat thesis") == "one\n"

    def test_rebuild_with_home_takes_all_of_it_along(self, fleet: Fleet, gpu17: Host) -> None:
        inside(fleet, """
            rm .profile; ln thesis same; mkfifo pipe; mkdir -m 700 deep; echo >deep/file
            sudo chown 4242:4343 deep/file; truncate -s 5G hole
            sudo cp -a /usr/bin/ping ping; sudo setfattr -n user.x -v y thesis 2>&- || true
            sudo setcap cap_net_raw=ep ping 2>&- || true""")  # fmt: skip
        facts = "cd /home/lqchen; find . ! -path './.ssh*' -printf '%p %U %G %m %n %y %s\\n' | sort"
        before = inside(fleet, f"sudo bash -c {shlex.quote(facts)}")
        capable = gpu17.sh(f"getcap {SYSTEM}/home/lqchen/ping").stdout.split()[1:]
        done = agreed(fleet, "rebuild --keep-home")
        assert done.ok, done.stderr
        assert inside(fleet, f"sudo bash -c {shlex.quote(facts)}") == before
        copied = gpu17.sh(f"getcap {SYSTEM}/home/lqchen/ping").stdout.split()[1:]
        assert copied == capable
        assert inside(fleet, "ls /etc/mine 2>&- || echo gone") == "gone\n"
        used = inside(fleet, "du --block-size=1M hole | cut -f1")
        assert int(used) <= 1, "the hole was filled"

        inside(fleet, "echo three >thesis")
        assert agreed(fleet, "rebuild --undo").ok
        assert inside(fleet, "cat thesis; ls /etc/mine") == "one\n/etc/mine\n"

    def test_a_stopped_container_stays_stopped(self, fleet: Fleet, gpu17: Host) -> None:
        assert manage(fleet, "stop").ok
        done = agreed(fleet, "rebuild")
        assert done.ok, done.stderr
        assert done.stdout.endswith("Start it:  ssh gpu17-manage\n")
        assert not running(gpu17, "lqchen")
        assert plan(gpu17) == []
        assert "thesis" not in in_container(gpu17, "lqchen", "ls home/lqchen").stdout
        gpu17.sh(f"mount -t tmpfs busy {FOLDER}/rootfs.before/system/mnt")  # rm leaves it alone
        done = agreed(fleet, "rebuild")
        gpu17.sh(f"umount {FOLDER}/.trash-*/system/mnt")
        assert done.ok, done.stderr
        assert "The system kept until now could not be removed yet" in done.stdout
        assert agreed(fleet, "recover --forget").ok
        assert manage(fleet, "recover --undo").stderr.startswith("✗ No previous system")

    def test_ctrl_c_stops_nothing(self, fleet: Fleet, gpu17: Host) -> None:
        asked = token(manage(fleet, "recover first"))
        keys = "(sleep 1; printf '\\003'; sleep 1)"
        done = fleet.types(f"{keys} | ssh -tt gpu17-manage recover first --confirm {asked}")
        if "Interrupted" not in done.stdout + done.stderr:
            pytest.skip("it was done before ctrl-C came")
        eventually(lambda: "first: done" in manage(fleet, "status").stdout, 60)
        assert in_container(gpu17, "lqchen", "cat home/lqchen/thesis").stdout == "one\n"

    def test_a_damaged_snapshot_changes_nothing(self, fleet: Fleet, gpu17: Host) -> None:
        place = "/var/lib/lxc-gpu/snapshots/lqchen/first"
        gpu17.sh(f"cp -a {place}.json /root/first.json; sed -i 's/\"sha256\": \"..../&0000/;"
                 f"s/\\(\"sha256\": \"....\\)0000..../\\10000/' {place}.json")  # fmt: skip
        before = trees(gpu17)
        done = agreed(fleet, "recover first")
        gpu17.sh(f"cp -a /root/first.json {place}.json")
        assert done.status == 1
        assert "✗ The snapshot first is damaged" in done.stderr
        assert trees(gpu17) == before

    def test_a_container_moves_to_another_server(self, fleet: Fleet, gpu17: Host) -> None:
        assert fleet.register("lqchen", "gpu18").ok
        inside_17 = in_container(gpu17, "lqchen", "cat home/lqchen/thesis etc/machine-id").stdout
        line = "ssh gpu17-manage snapshot --to-stdout | ssh gpu18-manage recover --from-stdin"
        done = fleet.types(line, wait=120)
        assert done.ok, done.stderr
        assert "- unpacking the archive: " in done.stderr
        assert fleet.types("ssh gpu18-manage").ok
        seen = fleet.types(
            "ssh gpu18 'cat thesis /etc/machine-id; hostname; getent hosts $HOSTNAME'"
        )
        assert seen.ok, seen.stderr
        thesis, ident, name, address = seen.stdout.splitlines()
        assert (thesis, name) == ("one", "lqchen-gpu18")
        assert address.split()[1] == "lqchen-gpu18"
        assert inside_17.splitlines() != [thesis, ident], "two machines with one id"
        assert plan(fleet.gpu18) == []
        empty(fleet, "gpu18")


def trees(host: Host) -> str:
    """A text that differs if any system of lqchen's or ann's is another one, or outside is."""
    hers = system_of(host, "ann")
    return host.sh(f"""
        stat -c '%n %i %u %a' {FOLDER}/* {SYSTEM} {HERS}/* {FOLDER}
        mkdir -p {BAIT}; find {BAIT} -printf '%p %i %U %m\\n' -type f -exec cat {{}} +
        sha256sum /etc/passwd /etc/shadow {SYSTEM}/etc/shadow {hers}/etc/shadow
        ls -A -I 'systemd-private-*' {FOLDER} {HERS} {BAIT} /tmp /var/tmp /dev/shm""").stdout


@dataclass(frozen=True)
class Attack:
    """An archive, and what is said of it; empty: it is taken, and harmless."""

    name: str
    add: tuple[Add, ...]
    said: str = ""
    options: tuple[str, ...] = ()


FAR = "../" * 12
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


class TestArchives:
    @pytest.fixture
    def whole(self, small: Host) -> Iterator[Host]:
        """lqchen's container has one system, and so it has afterwards."""
        yield small
        there = small.sh(f"ls -A {FOLDER}; ls -A {BAIT}; cat {BAIT}/secret").stdout
        small.sh(f"cd {FOLDER}; rm -rf rootfs.new .trash-*; ! test -e rootfs.before || "
                 "{ rm -rf rootfs; mv rootfs.before rootfs; }")  # fmt: skip
        assert there.split() == ["rootfs", "secret", "secret"]

    @pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
    def test_archive_hurts_nobody(self, fleet: Fleet, whole: Host, attack: Attack) -> None:
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
        self, fleet: Fleet, whole: Host, raw: bytes, said: str
    ) -> None:
        before = trees(whole)
        done = manage(fleet, "recover --from-stdin", raw)
        assert done.status == 1
        assert said in done.stderr, done.stderr
        assert "Nothing was changed." in done.stderr
        assert trees(whole) == before

    def test_a_header_of_gigabytes_eats_no_memory(self, fleet: Fleet, whole: Host) -> None:
        info = tarfile.TarInfo("./x")
        info.type, info.size = tarfile.XHDTYPE, 6 << 30
        raw = info.tobuf() + bytes(1 << 20)
        done = manage(fleet, "recover --from-stdin", packed(raw))
        assert done.status == 1
        assert "memory exhausted" in done.stderr

    def test_the_fence_holds_whoever_runs_behind_it(self, fleet: Fleet, whole: Host) -> None:
        """The second wall by itself: a program that does try to write elsewhere."""
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


SNAPSHOTS = "/var/lib/lxc-gpu/snapshots/lqchen"
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


def keep(host: Host, raw: bytes, name: str = "planted") -> None:
    """Whatever it is, it is a snapshot of lqchen's."""
    said = {"server": "gpu17", "taken": 1e9, "packed": len(raw), "unpacked": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(), "own_name": True}  # fmt: skip
    there = f"install -D -m 600 -o lqchen /dev/stdin {SNAPSHOTS}/{name}"
    host.sh(f"install -d -m 700 -o lqchen {SNAPSHOTS}; {there}.tar.zst", stdin=raw)
    host.sh(f"{there}.json", stdin=json.dumps(said).encode())


FILES_DRIVER = DRIVER.replace(
    '{"from-stdin": ""}, os.open(source, os.O_RDONLY)', '{"name": source, "paths": "/dir"}'
)


class TestFilesBack:
    """Into a container that is stopped."""

    @pytest.fixture
    def planted(self, small: Host) -> Iterator[Host]:
        """Nothing else is in the container afterwards."""
        yield small
        small.sh(f"rm -rf {BACK} {SNAPSHOTS}")
        assert small.sh(f"cat {BAIT}/*; ls {BAIT}").stdout == "secret\nsecret\n"

    def test_names_are_taken_as_they_are(self, fleet: Fleet, planted: Host) -> None:
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
    def test_archive_hurts_nobody(self, fleet: Fleet, planted: Host, number: int) -> None:
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
    def test_what_is_in_the_way_stays(self, fleet: Fleet, planted: Host, plant: str) -> None:
        keep(planted, packed(system(file("./dir/x"))))
        before = planted.sh(f"{plant}; find {SYSTEM} | sort").stdout
        done = manage(fleet, "recover planted /dir")
        assert "In your container, /recovered can't be used: " in done.stderr
        assert planted.sh(f"find {SYSTEM} | sort").stdout == before

    def test_what_is_left_of_others_goes(self, fleet: Fleet, planted: Host) -> None:
        keep(planted, packed(system(file("./dir/x"), folder("./dir/deep" + "/d" * 1500))))
        planted.sh(f"""
            mkdir -p {BACK}; cd {BACK}; touch planted; mkdir -p planted-2/x .unfinished
            ln -s {BAIT} .unfinished/bait; cp -a ../home .unfinished""")
        assert manage(fleet, "recover planted /dir").ok
        assert planted.sh(f"ls -A {BACK}").stdout == "planted\nplanted-2\nplanted-3\n"
        assert planted.sh(f"ls -A {BACK}/planted-3").stdout == "dir\n"

    def test_a_damaged_or_cut_archive_leaves_nothing(self, fleet: Fleet, planted: Host) -> None:
        raw = packed(system(file("./dir/x")))
        keep(planted, raw[:-20])
        assert "only the beginning came" in manage(fleet, "recover planted /dir").stderr
        keep(planted, raw)
        digest = hashlib.sha256(raw).hexdigest()
        planted.sh(f"sed -i s/{digest}/{digest[::-1]}/ {SNAPSHOTS}/planted.json")
        assert "is damaged" in manage(fleet, "recover planted /dir").stderr
        assert planted.sh(f"ls -A {BACK}").stdout == ""

    def drives(self, host: Host, setting: str = "", at: str = "") -> Finished:
        """The same without the socket, killed `at` a call."""
        host.sh("cat >/root/files.py", stdin=FILES_DRIVER.encode())
        words = f"/usr/bin/python3 -IS /root/files.py lqchen planted {shlex.quote(setting)}"
        return host.sh(f"{at} {words}", check=False, timeout=120)

    def test_a_full_disk_keeps_room_for_others(self, planted: Host) -> None:
        keep(planted, packed(system(file("./dir/x", bytes(1 << 25)))))
        done = self.drives(planted, "free_space.RESERVE = 2; free_space.MOST_RESERVED = 1 << 60")
        assert done.stdout.startswith("disk-full "), done.stdout + done.stderr
        assert planted.sh(f"ls -A {BACK}").stdout == ""

    @pytest.mark.parametrize("call", ["clone", "vfork", "syncfs"])
    def test_a_kill_leaves_all_or_nothing(self, planted: Host, call: str) -> None:
        """strace(1) kills the helper at each such call, until it gets through."""
        keep(planted, packed(system(file("./dir/x"))))
        for number in range(1, 20):
            kill = f"--trace={call} --inject={call}:signal=KILL:when={number}"
            done = self.drives(planted, at=f"strace -qq -o /dev/null {kill}")
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


def swap_back(host: Host) -> None:
    """By hand: the previous system is in place again, and nothing else is left."""
    host.sh(f"cd {FOLDER}; rm -rf rootfs; mv rootfs.before rootfs")


SENDS_ON = "(head -c 100 small.tar.zst; sleep 60)"
"""Somebody who begins to send a system, and doesn't go on."""
MARKER = f"cat {SYSTEM}/etc/marker; echo; test -e {SYSTEM}/home && ls -A {FOLDER}"


class TestFaults:
    @pytest.fixture
    def sent(self, fleet: Fleet, small: Host) -> Host:
        """The server; there and on the laptop lies a small system, and one is in place."""
        raw = packed(system(marker="new"))
        small.sh("cat >/root/small.tar.zst", stdin=raw)
        small.sh(f"cd {FOLDER}; rm -rf rootfs.before; echo old >{SYSTEM}/etc/marker")
        fleet.laptop.sh("cat >small.tar.zst", user="lqchen", stdin=raw)
        small.sh("cat >/root/driver.py", stdin=DRIVER)
        return small

    def drives(self, host: Host, setting: str = "", user: str = "lqchen", at: str = "") -> Finished:
        """Recover from the file on the server, killed `at` a call."""
        words = f"/usr/bin/python3 -IS /root/driver.py {user} /root/small.tar.zst"
        return host.sh(f"{at} {words} {shlex.quote(setting)}", check=False, timeout=120)

    @pytest.mark.parametrize(
        ("call", "step"),
        [("rename", 1), ("renameat2", 1), ("mkdir", 1), ("vfork", 1), ("poll", 6), ("fsync", 1)],
    )
    def test_a_kill_leaves_a_whole_system_and_is_healed(
        self, sent: Host, call: str, step: int
    ) -> None:
        """strace(1) kills the helper at each `step`-th such call, until it gets through."""
        for number in range(1, 30 * step, step):
            sent.sh(f"cd {FOLDER}; rm -rf rootfs.before; echo old >{SYSTEM}/etc/marker")
            kill = f"--trace={call} --inject={call}:signal=KILL:when={number}"
            done = self.drives(sent, at=f"strace -qq -o /dev/null {kill}")
            marker, *there = sent.sh(MARKER).stdout.split()
            if done.ok:
                assert (marker, there) == ("new", ["rootfs", "rootfs.before"])
                assert number > 1
                return
            assert done.status == 137, done.stdout + done.stderr
            assert marker in ("old", "new"), "not a whole system"
            healed = self.drives(sent)
            assert healed.ok, f"after a kill at {call} {number}: {healed.stdout}"
            assert sent.sh(MARKER).stdout.split() == ["new", "rootfs", "rootfs.before"]
        raise AssertionError("never got through")

    def test_the_copied_home_is_on_the_disk_before_the_exchange(self, sent: Host) -> None:
        helper = f"/usr/bin/python3 -IS -c {shlex.quote(KEEPS_HOME)}"
        calls = "strace -f -qq -o /root/calls --trace=execve,syncfs,renameat2"
        sent.sh(f"{calls} {helper}", timeout=120)
        seen = re.findall(r"/cp\"(?=, )|syncfs|renameat2", sent.read("/root/calls"))
        assert seen[-3:] == ['/cp"', "syncfs", "renameat2"]

    def test_an_exchange_that_fails_keeps_the_previous_system(self, sent: Host) -> None:
        sent.sh(f"mkdir {FOLDER}/rootfs.before; echo kept >{FOLDER}/rootfs.before/mine")
        fails = "strace -qq -o /dev/null --trace=renameat2 --inject=renameat2:error=EINVAL"
        done = self.drives(sent, at=fails)
        assert done.stdout.startswith("no-exchange "), done.stdout + done.stderr
        assert sent.sh(MARKER).stdout.split() == ["old", "rootfs", "rootfs.before"]
        assert sent.read(f"{FOLDER}/rootfs.before/mine") == "kept\n"

    def test_a_killed_helper_leaves_nobody_behind(self, fleet: Fleet, sent: Host) -> None:
        fleet.types(f"{{ {SENDS_ON} | ssh gpu17-manage recover --from-stdin; }} >said 2>&1 &")
        eventually(lambda: "zstd" in working(sent), 30)
        assert "under way since" in manage(fleet, "status").stdout
        assert manage(fleet, "recover --from-stdin", b"x").stderr.startswith("✗ Other work on your")
        assert reconcile(sent).ok, "a round doesn't wait for who sends"
        sent.sh("systemctl kill --signal=KILL 'lxc-gpu-root@*'")
        eventually(lambda: working(sent) == "")
        eventually(lambda: "ended without an answer" in fleet.types("cat said").stdout)
        assert "it was killed; nothing was lost" in manage(fleet, "status").stdout
        assert self.drives(sent).ok
        assert sent.sh(MARKER).stdout.split() == ["new", "rootfs", "rootfs.before"]

    def test_a_lost_connection_changes_nothing(self, fleet: Fleet, sent: Host) -> None:
        line = "{ echo $BASHPID >pid; exec ssh gpu17-manage recover --from-stdin; }"
        fleet.types(f"{{ {SENDS_ON} | {line}; }} >said 2>&1 &")
        eventually(lambda: "zstd" in working(sent), 30)
        fleet.types("kill -9 $(cat pid)")
        eventually(lambda: "only the beginning came" in manage(fleet, "status").stdout, 30)
        assert sent.sh(MARKER).stdout.split() == ["old", "rootfs"]

    def test_who_stops_sending_is_not_waited_for(self, fleet: Fleet, sent: Host) -> None:
        sent.sh("rm -f /root/pipe; mkfifo /root/pipe")
        sends = "(head -c 100 /root/small.tar.zst; sleep 5) >/root/pipe"
        sent.sh(f"{{ {sends}; }} >/dev/null 2>&1 </dev/null &")
        line = "/usr/bin/python3 -IS /root/driver.py lqchen /root/pipe 'extract.STALL = 1'"
        done = sent.sh(line, check=False)
        assert done.stdout.startswith("stalled ")
        assert sent.sh(MARKER).stdout.split() == ["old", "rootfs"]

    def test_a_bomb_leaves_room_for_others(self, fleet: Fleet, sent: Host) -> None:
        """On a disk of its own: the reserve is touched, and never used up.

        Half of it is more than tar fills from one look at the room to the next.
        """
        disk = f"{CONTAINERS}/ann"
        if running(sent, "ann"):
            end_at_once(sent, "ann")
        sent.sh(f"""
            mv {disk} {CONTAINERS}/.ann; mkdir -m 711 {disk}
            mount -t tmpfs -o size=1600M,nr_inodes=30000,mode=711 none {disk}
            mkdir {disk}/rootfs; chown --reference={CONTAINERS}/.ann/rootfs {disk}/rootfs
            truncate -s 4G /root/zeros
            mkdir /root/many; cd /root/many; seq 50000 | xargs touch""")
        half = "free_space.RESERVE = 0.5"
        try:
            for what in ("zeros", "many"):
                sent.sh(f"cd /root; tar -c {what} | zstd -q -f -o small.tar.zst", timeout=120)
                done = self.drives(sent, half, user="ann")
                assert done.status == 1
                assert done.stdout == "disk-full details: \n", "it was tar that ran into the end"
                assert sent.sh(f"ls -A {disk}").stdout == "rootfs\n"
                done = self.drives(sent, "free_space.RESERVE = 0", user="ann")
                assert done.stdout.startswith("disk-full ")
                assert sent.sh(f"ls -A {disk}").stdout == "rootfs\n"
        finally:
            sent.sh(f"cd /; umount {disk}; rmdir {disk}; mv {CONTAINERS}/.ann {disk}; "
                    "rm -r /root/zeros /root/many")  # fmt: skip

    def test_rounds_take_nothing_half_made_for_a_system(self, fleet: Fleet, sent: Host) -> None:
        sent.sh(f"mkdir -p {FOLDER}/rootfs.new/etc {FOLDER}/rootfs.before/etc {FOLDER}/.trash-x/y")
        assert reconcile(sent).ok
        assert plan(sent) == []
        done = agreed(fleet, "recover --forget")
        assert done.ok, done.stderr
        assert sent.sh(MARKER).stdout.split() == ["old", "rootfs"]

    def test_a_system_that_does_not_come_up_can_be_left(self, fleet: Fleet, sent: Host) -> None:
        """lqchen's real container becomes the small one, which can't start, and goes back."""
        small = f"{CONTAINERS}/.small"
        sent.sh(f"mv {FOLDER} {small}; mv {ASIDE} {FOLDER}")
        try:
            assert manage(fleet, "start").ok
            raw = packed(system(link("./home/x", "/etc")))
            done = manage(fleet, "recover --from-stdin", raw)
            assert done.status == 1
            assert "the one in place now doesn't come up." in done.stderr
            assert "To go back: `ssh gpu17-manage recover --undo`" in done.stderr
            assert agreed(fleet, "recover --undo").ok
            assert manage(fleet, "start").ok
            assert inside(fleet, "echo here") == "here\n"

            inside(fleet, "sudo mv /home /homes; sudo ln -s /etc /home")
            done = agreed(fleet, "rebuild --keep-home")
            assert done.status == 1
            assert "✗ /home in your container isn't a folder" in done.stderr
            assert running(sent, "lqchen"), "it was not started again"
            in_container(sent, "lqchen", "rm home; mv homes home")
            assert agreed(fleet, "recover --forget").ok
        finally:
            end_at_once(sent, "lqchen")
            sent.sh(f"mv {FOLDER} {ASIDE}; mv {small} {FOLDER}")


def working(host: Host) -> str:
    """The programs that unpack something."""
    return host.sh("ps -eo comm= | grep -E '^(tar|zstd)$' | sort -u || true").stdout
