"""`ssh iam@gpu17 load`: the real stream, of real people. Only NVML is a fake (fake_nvml.c)."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from laboratory.hosts import Host

from state.wire.server_load import ServerLoad, UserLoad, decode
from tests.lab import nvidia
from tests.lab.fleet import Fleet
from tests.patience import eventually

GIB = 1 << 30
VERSION = "535.261.03"
GPUS = f"""\
driver {VERSION}
gpu {nvidia.UUIDS[0]} 0 {40 * GIB} {12 * GIB} 87 NVIDIA A100-SXM4-40GB
gpu {nvidia.UUIDS[1]} 1 {40 * GIB} 0 -1 NVIDIA A100-SXM4-40GB
power 0 251500 400000
"""
SSH = (
    "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR -o"
    " UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -i /etc/lxc-gpu/keys/nudge iam@172.16.2.17"
)
LINES = "/run/load.jsonl"
LONG = 60.0
QUICK = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.load import file_systems, gpus
from reconciler.load.stream import stream
file_systems.EACH = gpus.RENEWED = 3.0
gpus.PAUSES = (1.0,) * len(gpus.PAUSES)
stream(sys.stdout.fileno(), "gpu17", interval=1.0)
"""
"""The same program, which looks each second and lets nothing rest for long: nobody waits for it."""
HANGS = 8.0
"""Seconds that a line would come late if it waited for what hangs: the shortest time limit."""
DEAD_NAS = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
nobody_answers = os.open("/dev/fuse", os.O_RDWR)
words = f"fd={nobody_answers},rootmode=40755,user_id=0,group_id=0,allow_other"
os.makedirs("/NAS", exist_ok=True)
assert libc.mount(b"nas:/home", b"/NAS", b"fuse.sshfs", 0, words.encode()) == 0, ctypes.get_errno()
signal.pause()
"""
PROGRAM = "^/usr/bin/python3 -IS /usr/local/lib/lxc-gpu/iam"
CHILDREN = "ps -o pid=,ppid=,comm= -u iam"


@dataclass(frozen=True)
class Stream:
    """A stream, as it is written to a file."""

    host: Host
    unit: str

    def begin(self, words: str, user: str = "root") -> None:
        into = f"-p StandardOutput=truncate:{LINES}"
        self.host.sh(f"systemd-run -q --unit={self.unit} --uid={user} {into} {words}")

    def end(self) -> None:
        for verb in ("stop", "reset-failed"):
            self.host.sh(f"systemctl {verb} {self.unit} 2>&- || true")

    def loads(self, after: int = 0) -> list[ServerLoad]:
        """All but the first so many."""
        whole, _, _ = self.host.sh(f"tail -n +{after + 1} {LINES}").stdout.rpartition("\n")
        return [decode(line.encode()) for line in whole.splitlines()]

    def count(self) -> int:
        return int(self.host.sh(f"wc -l <{LINES}").stdout)

    def next(self) -> ServerLoad:
        """The first one that comes from now on."""
        before = self.count()
        eventually(lambda: self.count() > before)
        return self.loads(before)[0]

    def until(self, held: Callable[[ServerLoad], object], seconds: float = LONG) -> ServerLoad:
        """The first one of which something holds. All that come on the way can be decoded."""
        deadline = time.monotonic() + seconds
        while True:
            load = self.next()
            if held(load):
                return load
            assert time.monotonic() < deadline, load


@pytest.fixture(scope="module")
def key(fleet: Fleet) -> Iterator[None]:
    """The web page's key opens gpu17. The page, which listens by itself, doesn't meanwhile."""
    folder = "/etc/lxc-gpu/authorized_keys"
    fleet.iam.sh("systemctl stop lxc-gpu-web.socket")
    fleet.gpu17.sh(f"cp {folder}/.iam {folder}/iam")
    yield
    fleet.gpu17.sh(f"rm {folder}/iam")
    fleet.iam.sh("systemctl start lxc-gpu-web")


@pytest.fixture(scope="module")
def both_up(fleet: Fleet) -> Iterator[None]:
    """Both containers run; afterwards, ann's doesn't."""
    for name in ("lqchen", "ann"):
        assert fleet.types("ssh gpu17-manage start", user=name).ok
    yield
    fleet.types("ssh gpu17-manage stop", user="ann")


@pytest.fixture(scope="class")
def pages(fleet: Fleet, key: None, both_up: None) -> Iterator[Stream]:
    """The stream as the web page has it; its end on the web machine."""
    stream = Stream(fleet.iam, "load-test")
    stream.begin(f"{SSH} load")
    yield stream
    stream.end()


@pytest.fixture(scope="module")
def stream(fleet: Fleet, both_up: None) -> Iterator[Stream]:
    """A quick one, begun on the server itself."""
    stream = Stream(fleet.gpu17, "load-test")
    stream.begin(f"/usr/bin/python3 -IS -c {shlex.quote(QUICK)}", user="iam")
    yield stream
    stream.end()


def of(load: ServerLoad, user: str) -> UserLoad:
    none = UserLoad(user, 0.0, 0, 0)
    return next((each for each in load.users if each.user == user), none)


def gaps(loads: Sequence[ServerLoad]) -> list[float]:
    """The seconds between each two."""
    return [later.at - one.at for one, later in pairwise(loads)]


class TestStream:
    def test_a_line_soon_and_then_by_the_clock(self, pages: Stream) -> None:
        eventually(lambda: pages.count() >= 4, 30)
        loads = pages.loads()
        assert all(abs(gap - 5) < 1.5 for gap in gaps(loads)), gaps(loads)
        assert all(load.server == "gpu17" and load.interval == 5 for load in loads)
        newest = loads[-1]
        assert newest.cpu.cpus >= 1
        assert 0 < newest.memory.available < newest.memory.total
        assert newest.file_systems
        assert newest.network
        assert (newest.gpus, newest.gpu_problem) == ((), None)

    def test_without_root(self, pages: Stream, fleet: Fleet) -> None:
        pages.next()
        owners = fleet.gpu17.sh(f"ps -o user= -p $(pgrep -d, -f '{PROGRAM}')").stdout
        assert set(owners.split()) == {"iam"}

    def test_goes_with_its_reader(self, fleet: Fleet, key: None) -> None:
        count = f"pgrep -fc '{PROGRAM}' || true"
        before = int(fleet.gpu17.sh(count).stdout)
        fleet.iam.sh(f"systemd-run -q --unit=load-gone {SSH} load")
        eventually(lambda: int(fleet.gpu17.sh(count).stdout) > before)
        fleet.iam.sh(
            "systemctl kill --signal=KILL load-gone; systemctl reset-failed load-gone || true"
        )
        eventually(lambda: int(fleet.gpu17.sh(count).stdout) == before, 20)
        fleet.iam.sh("systemctl reset-failed load-gone || true")


class TestPeople:
    def test_in_the_container(self, stream: Stream, fleet: Fleet) -> None:
        """A loop and 200 MiB. How much of a CPU it gets is for the other programs here to say."""
        hog = "a=$(head -c 200M /dev/zero | tr '\\0' x)\nwhile :; do :; done\n"
        fleet.types("ssh gpu17 'cat >hog'", stdin=hog)
        fleet.types("ssh gpu17 'nohup timeout 90 bash hog >&- 2>&- &'")
        try:
            stream.until(lambda load: of(load, "lqchen").memory > 200 << 20)
            load = stream.until(
                lambda load: 0.2 < of(load, "lqchen").cpus < 1.3 and of(load, "ann").cpus < 0.1
            )
            assert of(load, "ann").programs > 3
        finally:
            fleet.types("ssh gpu17 pkill timeout")
        stream.until(lambda load: of(load, "lqchen").cpus < 0.1)

    def test_programs_that_live_for_a_moment(self, stream: Stream, fleet: Fleet) -> None:
        """None of them is there at two looks."""
        brief = "while :; do bash -c 'for ((i = 0; i < 30000; i++)); do :; done'; done\n"
        fleet.types("ssh gpu17 'cat >brief'", stdin=brief)
        fleet.types("ssh gpu17 'nohup timeout 60 bash brief >&- 2>&- &'")
        try:
            stream.until(lambda load: 0.25 < of(load, "lqchen").cpus < 1.3)
        finally:
            fleet.types("ssh gpu17 pkill timeout")

    def test_an_account_of_the_server(self, stream: Stream, fleet: Fleet) -> None:
        host = fleet.gpu17
        host.sh("id visitor >/dev/null 2>&1 || useradd --uid 20778 visitor")
        burn = "timeout 60 bash -c 'while :; do :; done'"
        host.sh(f"systemd-run -q --unit=visit --uid=visitor {burn}")
        try:
            load = stream.until(lambda load: of(load, "visitor").cpus > 0.2)
            assert of(load, "visitor").programs == 2
            assert of(load, "system").programs > 3
        finally:
            host.sh("systemctl stop visit; userdel visitor")

    def test_a_name_is_no_trick(self, stream: Stream, fleet: Fleet) -> None:
        before = of(stream.next(), "lqchen").programs
        fleet.types("""ssh gpu17 'f=$(printf "/tmp/x) R 1 2\\n3 (y"); cp /bin/sleep "$f"
            nohup "$f" 50 >&- 2>&- &'""")
        name = fleet.gpu17.sh("cat /proc/[0-9]*/comm 2>&- | grep -A1 '^x) R 1'").stdout
        assert name.startswith("x) R 1 2\n3 (y"), name
        load = stream.until(lambda load: of(load, "lqchen").programs > before)
        assert sum(each.cpus for each in load.users) < 2 * load.cpu.cpus


class TestDeadNas:
    def test_costs_only_itself(self, stream: Stream, fleet: Fleet) -> None:
        fleet.gpu17.write("/root/dead-nas.py", DEAD_NAS)
        fleet.gpu17.sh("systemd-run -q --unit=dead-nas python3 /root/dead-nas.py")
        try:
            eventually(lambda: "lxc-gpu-disks" in fleet.gpu17.sh(CHILDREN).stdout, 40)
            seen = [stream.next() for _ in range(10)]
            assert all("/NAS" not in [f.mounted for f in load.file_systems] for load in seen)
            assert all(load.file_systems for load in seen), "the others are there"
            assert max(gaps(seen)) < HANGS, gaps(seen)
            assert fleet.gpu17.sh(CHILDREN).stdout.count("lxc-gpu-disks") <= 2
        finally:
            fleet.gpu17.sh("systemctl stop dead-nas; umount -l /NAS; rmdir /NAS")


@pytest.fixture(scope="class")
def gpus(fleet: Fleet) -> Iterator[Host]:
    """gpu17 with two GPUs, as NVML tells it; afterwards, as it was."""
    nvidia.load(fleet.gpu17, VERSION)
    nvidia.install_fake_nvml(fleet.gpu17, VERSION, GPUS)
    yield fleet.gpu17
    nvidia.clean(fleet.gpu17)
    fleet.gpu17.sh("rm -f /etc/fake-nvml")


class TestGpus:
    def test_whose(self, stream: Stream, gpus: Host, fleet: Fleet) -> None:
        fleet.types("ssh gpu17 'nohup bash -c \"exec -a train sleep 300\" >&- 2>&- &'")
        pid = gpus.sh("pgrep -fx 'train 300'").stdout.strip()
        gpus.write("/etc/fake-nvml", f"{GPUS}process 0 {pid} {12 * GIB}\nprocess 0 1 1048576\n")
        try:
            load = stream.until(lambda load: load.gpus and load.gpus[0].users)
            first, second = load.gpus
            assert [(each.user, each.memory) for each in first.users] == [
                ("lqchen", 12 * GIB), ("system", 1 << 20)]  # fmt: skip
            assert (first.utilisation, first.power, first.power_limit) == (87, 251.5, 400)
            assert (second.utilisation, second.power, second.users) == (None, None, ())
            assert load.free_gpus == (second,)
            assert (load.driver.loaded, load.driver.installed) == (VERSION, VERSION)
            assert load.gpu_problem is None
        finally:
            gpus.sh(f"kill {pid}")

    def test_in_parts(self, stream: Stream, gpus: Host) -> None:
        system = gpus.sh("pgrep -xo systemd-journal").stdout.strip()
        parts = "".join(
            f"part 0 MIG-{each} {5 * GIB} {each * GIB} 1g.5gb\npart-process {each} {system} {GIB}\n"
            for each in (0, 1)
        )
        gpus.write("/etc/fake-nvml", GPUS + parts)
        load = stream.until(lambda load: load.gpus and load.gpus[0].mig)
        zero, one = load.gpus[0].mig
        assert (zero.uuid, zero.name, zero.memory_used) == ("MIG-0", "1g.5gb", 0)
        assert (one.memory_total, one.memory_used) == (5 * GIB, GIB)
        assert [(each.user, each.memory) for each in load.gpus[0].users] == [("system", 2 * GIB)]

    def test_one_that_is_lost_takes_none_along(self, stream: Stream, gpus: Host) -> None:
        gpus.write("/etc/fake-nvml", f"{GPUS}lost 0\n")
        load = stream.until(lambda load: load.gpu_problem)
        assert load.gpu_problem is not None
        assert load.gpu_problem.code == "gpu-lost"
        assert [gpu.index for gpu in load.gpus] == [1]
        gpus.write("/etc/fake-nvml", GPUS)
        stream.until(lambda load: len(load.gpus) == 2 and not load.gpu_problem, 45)

    @pytest.mark.parametrize(
        ("answers", "code"),
        [("hang", "gpu-hangs"), ("error 15", "gpu-silent"), ("error 18", "gpu-upgraded")],
    )
    def test_comes_back(self, stream: Stream, gpus: Host, answers: str, code: str) -> None:
        gpus.write("/etc/fake-nvml", f"{answers}\n")
        begun = stream.count()
        load = stream.until(lambda load: load.gpu_problem and load.gpu_problem.code == code)
        assert load.gpus == ()
        assert of(load, "system").programs > 0, "the rest is there"
        gpus.write("/etc/fake-nvml", GPUS)
        stream.until(lambda load: len(load.gpus) == 2 and not load.gpu_problem, 45)
        assert max(gaps(stream.loads(begun))) < HANGS
        assert gpus.sh(CHILDREN).stdout.count("lxc-gpu-nvml") == 1

    def test_lets_go_while_the_server_is_suspended(self, stream: Stream, gpus: Host) -> None:
        stream.until(lambda load: load.gpus)
        gpus.sh("lxc-gpu suspend --reason 'another driver'")
        try:
            load = stream.until(lambda load: load.gpu_problem)
            assert load.gpu_problem is not None
            assert load.gpu_problem.code == "gpu-suspended"
            assert "lxc-gpu-nvml" not in gpus.sh(CHILDREN).stdout
        finally:
            gpus.sh("lxc-gpu resume")
        stream.until(lambda load: len(load.gpus) == 2, 30)

    def test_a_driver_that_goes_and_comes(self, stream: Stream, gpus: Host) -> None:
        nvidia.unload(gpus)
        gpus.sh("rm /etc/fake-nvml")  # then this NVML says that the module isn't loaded
        load = stream.until(lambda load: load.gpu_problem)
        assert load.gpu_problem is not None
        assert load.gpu_problem.code == "gpu-not-loaded"
        assert (load.driver.loaded, load.driver.installed) == ("", VERSION)
        nvidia.clean(gpus)
        load = stream.until(lambda load: not load.driver.installed)
        assert (load.gpus, load.gpu_problem) == ((), None)
        assert "lxc-gpu-nvml" not in gpus.sh(CHILDREN).stdout
        nvidia.load(gpus, VERSION)
        nvidia.install_fake_nvml(gpus, VERSION, GPUS)
        stream.until(lambda load: len(load.gpus) == 2, 30)


def test_nvidias_own_library_without_a_module_says_so(stream: Stream, fleet: Fleet) -> None:
    """No fake here: Debian's libnvidia-ml1, on a machine that has no driver."""
    version = nvidia.versions()[0]
    nvidia.install(fleet.gpu17, version)
    try:
        load = stream.until(
            lambda load: load.gpu_problem and load.gpu_problem.code == "gpu-not-loaded"
        )
        assert load.gpus == ()
        assert (load.driver.loaded, load.driver.installed) == ("", version)
        assert not load.driver.in_step
    finally:
        nvidia.clean(fleet.gpu17)
    stream.until(lambda load: load.gpu_problem is None, 15)
