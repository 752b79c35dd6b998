"""Docker, Podman and LXC inside a researcher's container, under AppArmor and unified groups.

Their packages come from the lab's images, and so do images of containers: one busybox in a tar.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from laboratory.machines.virtual_machine import VirtualMachine

from state.command import Finished
from tests.lab.fleet import Fleet
from tests.vm import engines
from tests.vm.conftest import PATIENCE
from tests.vm.test_vm import entered, inside, shown

ARCHIVE = "/srv/archive"
SOURCE = "/etc/apt/sources.list.d/archive.list"
ONLY_HERE = f"-o Dir::Etc::sourcelist={SOURCE} -o Dir::Etc::sourceparts=-"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends " \
          "-o Dpkg::Options::=--force-unsafe-io install"  # fmt: skip
IMAGE = """
mkdir -p /srv/image/bin
cp /bin/busybox /srv/image/bin
for name in sh echo cat httpd; do ln -sf busybox /srv/image/bin/$name; done
"""
RUNTIMES = """
cp -r {archive}/newer-runc {newer}; chmod 755 {newer} {newer}/*
mkdir -p /etc/docker
echo '{{"runtimes": {{"newer": {{"path": "{newer}/runc"}}}}}}' >/etc/docker/daemon.json
"""
BUILT = r"FROM debian:12\nRUN echo made by RUN >/made\n"
COMPOSED = "services: {one: {image: 'debian:12', command: echo one of two}}\n"
LXC = """\
lxc.rootfs.path = dir:/srv/image
lxc.uts.name = inner
lxc.mount.auto = proc:mixed sys:ro cgroup:mixed
lxc.net.0.type = none
"""


@pytest.fixture(scope="module")
def gives(fleet: Fleet, gpu17: VirtualMachine) -> Iterator[str]:
    """What is typed to have lqchen's system find an archive of packages, by folder."""
    folder = engines.archive((gpu17.folder / "template.tar.zst").resolve())
    seen = engines.seen_by_the_machine(folder)
    init = f"$(pgrep -P {shown(gpu17, 'lqchen', 'MainPID')})"
    # Large reads, for each is a question to the machine below (9p); larger ones than its messages
    # come back short, which tar takes for the end of a file.
    yield (
        f"tar --blocking-factor=256 -C {seen} -c {{}} | "
        f"nsenter --target {init} --all sh -c 'mkdir -p {ARCHIVE}; tar -C {ARCHIVE} -x'"
    )
    entered(gpu17, "lqchen", f"rm -rf {ARCHIVE}")


@pytest.fixture(scope="module")
def docker(fleet: Fleet, gpu17: VirtualMachine, gives: str) -> None:
    """lqchen types `apt install docker.io`."""
    gpu17.sh(gives.format("docker newer-runc"), timeout=PATIENCE)
    begin = f"""
        echo 'deb [trusted=yes] file:{ARCHIVE}/docker ./' >{SOURCE}
        apt-get -qq update {ONLY_HERE}
        {RUNTIMES.format(archive=ARCHIVE, newer=engines.NEWER)}
        {INSTALL} {" ".join(engines.DOCKER)}
        {IMAGE}
        tar -C /srv/image -c . | docker import - debian:12"""
    done = inside(fleet, begin)
    assert done.ok, done.stdout + done.stderr


def typed(fleet: Fleet, line: str) -> Finished:
    """What lqchen gets for a line typed in the container, as root."""
    return inside(fleet, line)


class TestDocker:
    @pytest.mark.parametrize("runtime", ["newer", pytest.param("runc", marks=pytest.mark.matrix)])
    def test_runs_a_container(self, fleet: Fleet, docker: None, runtime: str) -> None:
        """Debian's runc, and one that opens /proc/sys through a detached mount (runc#4968)."""
        asked = "echo hello; cat /sys/fs/cgroup/memory.max /proc/sys/kernel/shmmax"
        limits = "--memory 64m --sysctl kernel.shmmax=123456"
        line = f"docker run --rm --runtime {runtime} {limits} debian:12 sh -c {shlex.quote(asked)}"
        done = typed(fleet, line)
        assert done.stdout.split() == ["hello", str(64 * 2**20), "123456"], done.stderr

    def test_builds_an_image(self, fleet: Fleet, docker: None) -> None:
        line = f"cd /srv/image; printf '{BUILT}' >Dockerfile; docker build -q -t mine .; "
        done = typed(fleet, f"{line} docker run --rm --network host mine cat /made")
        assert done.stdout.endswith("made by RUN\n"), done.stderr

    def test_publishes_a_port(self, fleet: Fleet, docker: None) -> None:
        run = "docker run --rm -d -p 8080:80 debian:12 httpd -f -h /bin -p 80"
        ask = "exec 3<>/dev/tcp/127.0.0.1/8080; echo 'GET /busybox HTTP/1.0\n' >&3; head -c 15 <&3"
        done = typed(fleet, f"name=$({run}); sleep 1; {ask}; docker stop -t 0 $name >&2")
        assert done.stdout == "HTTP/1.1 200 OK", done.stderr


class TestOthers:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def installed(cls, fleet: Fleet, gpu17: VirtualMachine, docker: None, gives: str) -> None:
        """The same for all others."""
        gpu17.sh(gives.format("others"), timeout=PATIENCE)
        source = f"echo 'deb [trusted=yes] file:{ARCHIVE}/others ./' >{SOURCE}"
        update = f"apt-get -qq update {ONLY_HERE}"
        done = inside(fleet, f"{source}; {update}; {INSTALL} {' '.join(engines.OTHERS)}")
        assert done.ok, done.stdout + done.stderr

    def test_compose(self, fleet: Fleet) -> None:
        line = f'mkdir -p /srv/two; cd /srv/two; echo "{COMPOSED}" >compose.yaml; docker-compose up'
        assert "one of two" in typed(fleet, line).stdout

    @pytest.mark.parametrize("whose", ["lqchen", pytest.param("root", marks=pytest.mark.matrix)])
    def test_podman(self, fleet: Fleet, whose: str) -> None:
        line = "tar -C /srv/image -c . | podman import -q - debian:12"
        line += "; podman run --rm debian:12 echo hi"
        done = typed(fleet, f"runuser -l {whose} -c {shlex.quote(line)}")
        assert done.stdout.endswith("hi\n"), done.stderr

    def test_buildah(self, fleet: Fleet) -> None:
        line = (
            "c=$(buildah from scratch); buildah copy -q $c /srv/image / >&2; buildah run $c echo hi"
        )
        done = typed(fleet, line)
        assert done.stdout.endswith("hi\n"), done.stderr

    def test_lxc(self, fleet: Fleet) -> None:
        lay = f"mkdir -p /var/lib/lxc/inner; echo '{LXC}' >/var/lib/lxc/inner/config"
        done = typed(fleet, f"{lay}; lxc-execute -n inner -- /bin/echo hi")
        assert done.stdout.endswith("hi\n"), done.stderr
