"""NVIDIA's libraries in containers: real ones, in two versions; the kernel's side is a stand-in."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from laboratory.hosts import Host
from laboratory.images.podman import podman
from laboratory.images.recipes import TEMPLATE_RELEASE
from laboratory.progress import ProgressLines

from reconciler.nvidia.versions import MACHINE
from state.command import run
from tests.lab import nvidia
from tests.lab.fleet import CONTAINERS, Fleet, end_at_once, in_container, reconcile

OLD, NEW = 0, 1
POLICY = """
sed -i '/^driver:/,$d' servers/gpu17.yaml
printf 'driver:\\n  policy: {}\\n' >>servers/gpu17.yaml"""
WHERE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
int main(int count, char **names) {
    for (int each = 1; each < count; each++) {
        struct link_map *map;
        void *library = dlopen(names[each], RTLD_LAZY);
        if (!library) { puts(dlerror()); return 1; }
        dlinfo(library, RTLD_DI_LINKMAP, &map);
        puts(map->l_name);
    }
}
"""
"""A program as researchers' are: it opens libraries by name. Prints where they were found."""


@pytest.fixture(scope="module")
def versions() -> tuple[str, ...]:
    found = nvidia.versions()
    assert len(found) == 2
    return found


@pytest.fixture(scope="module")
def server(fleet: Fleet, versions: tuple[str, ...]) -> Iterator[Host]:
    """gpu17 with the older driver, loaded, and two GPUs; afterwards, as it was."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "where"
        (Path(folder) / "where.c").write_text(WHERE)
        run(["gcc", "-o", program, f"{program}.c"])
        raw = program.read_bytes()
    assert fleet.types("ssh gpu17-manage").ok
    assert fleet.types("ssh gpu17 'cat >where; chmod +x where'", stdin=raw).ok
    remove_inside(fleet)
    policy(fleet, "mount")
    driver_of(fleet.gpu17, versions[OLD])
    assert "Note" not in restart(fleet)
    yield fleet.gpu17
    fleet.commits("No policy", "sed -i '/^driver:/,$d' servers/gpu17.yaml")
    assert reconcile(fleet.gpu17).ok
    nvidia.clean(fleet.gpu17)
    fleet.types("ssh gpu17-manage restart")


def policy(fleet: Fleet, word: str) -> None:
    """What gpu17 does with drivers from now on."""
    fleet.commits(f"Drivers: {word}", POLICY.format(word))
    assert reconcile(fleet.gpu17).ok


def driver_of(server: Host, version: str) -> None:
    """This version, installed and loaded: as after a reboot."""
    nvidia.install(server, version)
    nvidia.load(server, version)


def restart(fleet: Fleet) -> str:
    """Start lqchen's container anew; what start said."""
    end_at_once(fleet.gpu17, "lqchen")
    done = fleet.types("ssh gpu17-manage")
    assert done.ok, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def remove_inside(fleet: Fleet) -> None:
    """Have no libraries of its own in lqchen's container."""
    files = f"{nvidia.FOLDER}/lib{{cuda,nvidia-}}* /usr/bin/nvidia-smi"
    fleet.types(f"ssh gpu17 'sudo rm -f {files}; sudo /sbin/ldconfig'")


def found(fleet: Fleet) -> list[str]:
    """Where a program in the container finds libcuda, and what file that is."""
    line = 'where=$(./where libcuda.so.1); echo "$where"; basename $(readlink -f "$where")'
    return fleet.types(f"ssh gpu17 '{line}'").stdout.split()


def events(server: Host) -> str:
    """What the sysadmin's journal says of drivers."""
    return server.sh("journalctl -t lxc-gpu -o cat --no-pager | grep event=driver || true").stdout


def restart_with_gpus(fleet: Fleet, wanted: str) -> str:
    """Restart lqchen's container with these GPUs; all, if there are none."""
    nvidia.choose_gpus(fleet, "lqchen", wanted)
    return restart(fleet)


class TestMounted:
    def test_programs_find_the_servers_own(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        assert found(fleet) == ["/usr/local/nvidia/lib/libcuda.so.1", f"libcuda.so.{versions[OLD]}"]
        assert fleet.types("ssh gpu17 './where libcuda.so libnvidia-ml.so.1'").ok
        # it found NVML; that it finds no module is the lab's fault
        smi = fleet.types("ssh gpu17 nvidia-smi")
        assert "couldn't communicate with the NVIDIA driver" in smi.stdout
        assert fleet.types("ssh gpu17 'sudo nvidia-smi'").stdout == smi.stdout

    def test_not_even_root_inside_can_write_to_them(self, fleet: Fleet, server: Host) -> None:
        """Its root may mount what it sees anew; they are the server's root's all the same."""
        before = server.sh(
            "ls -lnR /var/lib/lxc-gpu/nvidia; sha256sum /var/lib/lxc-gpu/nvidia/*/*/*"
        )
        tries = """
            cd /usr/local/nvidia
            touch x && echo worked
            rm lib/libcuda.so.1 && echo worked
            mv lib lib2 && echo worked
            chmod 777 settle && echo worked
            chown root settle && echo worked
            dd if=/dev/zero of=lib/libcuda.so.1 count=1 && echo worked
            ln settle lib/settle && echo worked"""
        for first in ("true", "mount -o remount,bind,rw,suid,dev /usr/local/nvidia"):
            done = fleet.types("ssh gpu17 sudo bash -s", stdin=f"{first}\n{tries}\n")
            assert "worked" not in done.stdout
            assert done.stderr.count("\n") >= 7, done.stderr
        assert server.sh(before.argv[-1]).stdout == before.stdout

    def test_older_ones_of_its_own_are_not_in_the_way(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        """A container that came with another version, from a package or an installer."""
        own = nvidia.packed(versions[NEW], nvidia.FOLDER)
        assert fleet.types("ssh gpu17 'sudo tar -C / -x && sudo /sbin/ldconfig'", stdin=own).ok
        try:
            restart(fleet)
            assert found(fleet)[1] == f"libcuda.so.{versions[OLD]}"
            assert fleet.types("ssh gpu17 'command -v nvidia-smi'").stdout.startswith("/usr/local/")
        finally:
            remove_inside(fleet)

    def test_between_an_upgrade_and_the_reboot(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        nvidia.install(server, versions[NEW])
        try:
            assert found(fleet)[1] == f"libcuda.so.{versions[OLD]}", "it ran meanwhile"
            said = restart(fleet)
            assert f"driver was upgraded to {versions[NEW]}" in said
            assert f"has the libraries of {versions[OLD]}, which still fit." in said
            assert found(fleet)[1] == f"libcuda.so.{versions[OLD]}"
            assert "code=driver-upgraded user=lqchen" in events(server)
            doctor = server.run(["lxc-gpu", "doctor"], check=False)
            assert doctor.status == 1
            assert f"The module is {versions[OLD]}, the libraries are {versions[NEW]}" in (
                doctor.stdout
            )
            nvidia.load(server, versions[NEW])  # the reboot
            assert "Note" not in restart(fleet)
            assert found(fleet)[1] == f"libcuda.so.{versions[NEW]}"
            kept = server.sh("ls /var/lib/lxc-gpu/nvidia").stdout.split()
            assert [name.partition("-")[0] for name in kept] in ([versions[NEW]], list(versions))
        finally:
            driver_of(server, versions[OLD])

    def test_upgraded_and_nothing_fits_any_more(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        end_at_once(server, "lqchen")
        server.sh("rm -rf /var/lib/lxc-gpu/nvidia")
        nvidia.install(server, versions[NEW])
        try:
            said = restart(fleet)
            assert "GPUs don't work until the server is restarted." in said
            assert fleet.types("ssh gpu17 true").ok, "all else works"
            assert "code=driver-differs" in events(server)
        finally:
            driver_of(server, versions[OLD])

    @pytest.mark.parametrize("form", ["json", "yaml"])
    def test_by_the_servers_own_specification(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...], form: str
    ) -> None:
        """Its files and links are used; its programs are not run, and it can't show other files."""
        real = f"{nvidia.FOLDER}/libcuda.so.{versions[OLD]}"
        mounts = [
            {"hostPath": real, "containerPath": real, "options": ["ro", "bind"]},
            {"hostPath": "/usr/bin/nvidia-smi", "containerPath": "/usr/bin/nvidia-smi"},
            {"hostPath": "/etc/shadow", "containerPath": "/etc/shadow.of.gpu17"},
            {"hostPath": "/nowhere/libnvidia-x.so.1", "containerPath": "/lib/libnvidia-x.so.1"},
        ]
        args = ["hook", "create-symlinks", "--link", f"libcuda.so.1::{nvidia.FOLDER}/libcuda-2.so"]
        hook = {"hookName": "createContainer", "path": "/root/run-me", "args": args}
        edits = {"mounts": mounts, "hooks": [hook]}
        spec = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "containerEdits": edits}
        server.write("/root/run-me", "#!/bin/sh\ntouch /root/was-run\n", 0o755)
        text = json.dumps(spec) if form == "json" else _as_yaml(spec)
        server.write(f"/etc/cdi/nvidia.{form}", text)
        try:
            assert "Note" not in restart(fleet)
            assert found(fleet)[1] == f"libcuda.so.{versions[OLD]}"
            lib = fleet.types("ssh gpu17 ls /usr/local/nvidia/lib").stdout.split()
            assert lib == ["libcuda-2.so", "libcuda.so.1", f"libcuda.so.{versions[OLD]}"]
            assert not fleet.types("ssh gpu17 sudo cat /etc/shadow.of.gpu17").ok
            assert not server.run(["test", "-e", "/root/was-run"], check=False).ok
        finally:
            server.sh("rm -rf /etc/cdi /root/run-me")

    def test_a_specification_that_is_broken_or_of_another_version(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        server.write("/etc/cdi/a.json", f"{{ .so.{versions[OLD]} broken")
        server.write("/etc/cdi/b.yaml", f"kind: nvidia.com/gpu\nx: libcuda.so.{versions[NEW]}\n")
        try:
            assert "Note" not in restart(fleet)
            assert found(fleet)[1] == f"libcuda.so.{versions[OLD]}"
        finally:
            server.sh("rm -rf /etc/cdi")


def _as_yaml(spec: Mapping[str, object]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.compat import StringIO

    stream = StringIO()
    YAML(typ="safe").dump(spec, stream)
    return str(stream.getvalue())


IMAGE = """
sudo rm -rf image
mkdir -p image/dev image/proc image/sys image/etc image/run image/tmp image/bin
mkdir -p image/usr/lib64 image/usr/lib/x86_64-linux-gnu
ln -s usr/lib image/lib; ln -s usr/lib64 image/lib64
cp -L /lib64/ld-linux-x86-64.so.2 image/usr/lib64/
cp -L /lib/x86_64-linux-gnu/lib{c.so.6,m.so.6,dl.so.2,pthread.so.0,rt.so.1} \\
    image/usr/lib/x86_64-linux-gnu/
cp where image/bin/; cp /bin/busybox image/bin/; sudo ldconfig
"""
"""A root folder of an image as small as may be: a loader without a cache, and two programs."""
ROOTFS = "/home/lqchen/image"
PODMAN = "ssh gpu17 sudo podman run --rm --cgroups=disabled --network=none"
"""Without what needs unified control groups or networks: they have no part in this."""


@pytest.fixture(scope="class")
def engine(fleet: Fleet, server: Host) -> Iterator[Fleet]:
    """lqchen's container with Podman in it, and an image."""
    with ProgressLines() as progress:
        archive = podman(progress)
    files = run(["tar", "-tf", archive]).stdout.splitlines()
    unpack = "ssh gpu17 sudo tar -C / --keep-directory-symlink -x"
    assert fleet.types(unpack, stdin=archive.read_bytes()).ok
    made = fleet.types("ssh gpu17 bash -s", stdin=IMAGE)
    assert made.ok, made.stderr
    yield fleet
    away = "".join(f"/{file}\n" for file in files if not file.endswith("/"))
    fleet.types("ssh gpu17 'sudo rm -rf image /var/lib/containers; sudo xargs rm -f'", stdin=away)


@pytest.mark.skipif(MACHINE != "x86_64", reason="the image is made for it")
@pytest.mark.skipif(
    platform.freedesktop_os_release().get("VERSION_CODENAME") != TEMPLATE_RELEASE,
    reason="this machine's archive has Podman for another release than the containers have",
)
class TestInnerContainers:
    """GPUs in containers inside: Podman is real, the kernel's side of the driver is played."""

    def test_podman_passes_them_on(self, engine: Fleet) -> None:
        """Without NVIDIA's toolkit; programs find the libraries although nobody ran ldconfig."""
        run = f"{PODMAN} --device nvidia.com/gpu=all --rootfs {ROOTFS}"
        done = engine.types(f"{run} /bin/where libcuda.so.1 libnvidia-ml.so.1 libcuda.so")
        assert done.ok, done.stderr
        assert done.stdout.count("/x86_64-linux-gnu/lib") == 3
        seen = engine.types(f"{run} /bin/busybox ls /dev /dev/nvidia-caps").stdout.split()
        assert {"nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-cap1"} <= set(seen)
        smi = engine.types(f"{run} nvidia-smi")  # it finds NVML; that there is no module is played
        assert "couldn't communicate with the NVIDIA driver" in smi.stdout
        written = engine.types(f"{run} /bin/busybox touch /usr/bin/nvidia-smi /usr/local/nvidia/x")
        assert written.stderr.count("Read-only file system") == 2

    def test_one_of_them_and_none(self, engine: Fleet) -> None:
        one = f"{PODMAN} --device nvidia.com/gpu={nvidia.UUIDS[1]} --rootfs {ROOTFS}"
        seen = engine.types(f"{one} /bin/busybox ls /dev").stdout.split()
        assert "nvidia1" in seen
        assert "nvidia0" not in seen
        none = engine.types(f"{PODMAN} --rootfs {ROOTFS} /bin/busybox ls /dev").stdout
        assert "console" in none or "null" in none
        assert "nvidia" not in none

    def test_ones_own_specification_stays_beside_our_settings(self, engine: Fleet) -> None:
        own = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n"
        place = "/etc/cdi/nvidia.yaml"
        assert "Written by lxc-gpu" in engine.types(f"ssh gpu17 cat {place}").stdout
        assert engine.types(f"ssh gpu17 sudo tee {place}", stdin=own).ok
        restart(engine)
        assert engine.types(f"ssh gpu17 cat {place}").stdout == own
        engine.types(f"ssh gpu17 sudo rm {place}")
        settings = engine.types("ssh gpu17 cat /etc/nvidia-container-runtime/config.toml").stdout
        assert "\nno-cgroups = true\n" in settings


class TestWhichGpus:
    def nodes(self, fleet: Fleet) -> list[str]:
        return fleet.types("ssh gpu17 'cd /dev; ls -d nvidia* nvidia-caps/*'").stdout.split()

    def test_only_those_of_the_registration(self, fleet: Fleet, server: Host) -> None:
        both = self.nodes(fleet)
        control = ["nvidia-caps", "nvidia-caps/nvidia-cap1", "nvidia-uvm", "nvidiactl"]
        try:
            assert both == sorted([*control, "nvidia0", "nvidia1"])
            assert "Note" not in restart_with_gpus(fleet, f"[{nvidia.UUIDS[1]}]")
            assert self.nodes(fleet) == sorted([*control, "nvidia1"])
            named = fleet.types("ssh gpu17 cat /etc/cdi/nvidia.yaml").stdout
            assert (nvidia.UUIDS[1] in named, nvidia.UUIDS[0] in named) == (True, False)
            nvidia.choose_gpus(fleet, "lqchen", f"[{nvidia.UUIDS[0]}]")
            shut = fleet.types("ssh gpu17 ls -ln /dev/nvidia1").stdout
            assert shut.startswith("c--------- "), "it is taken from a container that runs, too"
            made = fleet.types("ssh gpu17 'sudo mknod /dev/nvidia0 c 195 0'")
            assert "Operation not permitted" in made.stderr
            said = restart_with_gpus(fleet, '["0", "7"]')
            assert "There is no GPU 7 in this server" in said
            assert self.nodes(fleet) == sorted([*control, "nvidia0"])
            assert "code=gpu-unknown user=lqchen" in events(server)
            assert "The registration of lqchen names the GPU 7" in (
                server.run(["lxc-gpu", "doctor"], check=False).stdout
            )
        finally:
            restart_with_gpus(fleet, "")
        assert self.nodes(fleet) == both

    def test_what_only_root_of_the_server_may_open_stays_shut(
        self, fleet: Fleet, server: Host
    ) -> None:
        """So NVIDIA's driver says who may divide GPUs up: /dev/nvidia-caps/nvidia-cap1 (MIG)."""
        server.sh("chmod 400 /dev/nvidia-caps/nvidia-cap1")
        try:
            restart(fleet)
            listed = fleet.types("ssh gpu17 'ls -ln /dev/nvidia0 /dev/nvidia-caps/nvidia-cap1'")
            modes = [line.split()[0] for line in listed.stdout.splitlines()]
            assert sorted(modes) == ["c---------", "crw-rw-rw-"]
            for tried in ("chmod 444", "head -c1"):
                done = fleet.types(f"ssh gpu17 sudo {tried} /dev/nvidia-caps/nvidia-cap1")
                assert not done.ok
                assert "ermi" in done.stderr, done.stderr  # not permitted, permission denied
        finally:
            server.sh("chmod 444 /dev/nvidia-caps/nvidia-cap1")

    def test_nodes_are_made_before_they_are_mounted(self, fleet: Fleet, server: Host) -> None:
        """By NVIDIA's own tool, where it is installed; here a script in its place."""
        server.sh("rm /dev/nvidia1 /dev/nvidia-uvm")
        script = '#!/bin/sh\necho "$*" >/root/asked\nmknod -m 666 /dev/nvidia1 c 195 1\n'
        server.write("/usr/local/bin/nvidia-modprobe", script, 0o755)
        try:
            assert "Note" not in restart(fleet)
            assert server.read("/root/asked") == "-u -c=1\n"
            assert "nvidia1" in self.nodes(fleet)
            server.write(
                "/usr/local/bin/nvidia-modprobe", "#!/bin/sh\necho no >&2; exit 1\n", 0o755
            )
            assert "device files could not all be made" in restart(fleet)
        finally:
            server.sh("rm /usr/local/bin/nvidia-modprobe; mknod -m 666 /dev/nvidia-uvm c 510 0")


class TestHostile:
    def test_what_the_container_runs_it_runs_as_itself(self, fleet: Fleet, server: Host) -> None:
        """Its ldconfig is its own program: it runs inside, with its root's ids, whatever it is."""
        evil = "#!/bin/sh\n(cat /proc/self/uid_map; hostname; ls /home) >/root/ran 2>&1\nexit 1\n"
        end_at_once(server, "lqchen")
        script = f"mv sbin/ldconfig sbin/ldconfig.kept; cat >sbin/ldconfig <<'END'\n{evil}END\n"
        in_container(server, "lqchen", f"{script}chmod 755 sbin/ldconfig; rm etc/ld.so.cache")
        try:
            assert fleet.types("ssh gpu17-manage").ok, "it starts all the same"
            ran = fleet.types("ssh gpu17 sudo cat /root/ran").stdout.split()
            ids = server.sh("sed -n 's/^lqchen://p' /etc/subuid").stdout.strip().split(":")
            assert ran == ["0", *ids, "lqchen-gpu17", "lqchen"]
        finally:
            in_container(server, "lqchen", "mv sbin/ldconfig.kept sbin/ldconfig")
            restart(fleet)

    @pytest.mark.parametrize("place", ["usr/local/nvidia", "etc/ld.so.conf.d"])
    def test_links_in_the_way_lead_nowhere(self, fleet: Fleet, server: Host, place: str) -> None:
        end_at_once(server, "lqchen")
        server.sh("mkdir -m 777 /tmp/bait")
        in_container(server, "lqchen", f"mv {place} {place}.kept; ln -s /tmp/bait {place}")
        try:
            said = fleet.types("ssh gpu17-manage")
            assert said.ok, said.stderr
            assert "Links and special files are not followed there" in said.stdout
            assert server.sh("ls -A /tmp/bait").stdout == ""
        finally:
            end_at_once(server, "lqchen")
            in_container(server, "lqchen", f"rm {place}; mv {place}.kept {place}")
            server.sh("rmdir /tmp/bait")
            assert fleet.types("ssh gpu17-manage").ok


@pytest.fixture(scope="class")
def install_policy(fleet: Fleet, server: Host) -> Iterator[None]:
    """Drivers are installed inside, for as long as the tests of one class run."""
    policy(fleet, "install")
    yield
    remove_inside(fleet)
    policy(fleet, "mount")


@pytest.mark.usefixtures("install_policy")
class TestInstalled:
    def test_without_an_installer_it_starts_and_says_so(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        said = restart(fleet)
        name = f"NVIDIA-Linux-{MACHINE}-{versions[OLD]}.run"
        assert f"Sysadmin: put {name} into /var/lib/lxc-gpu/drivers on gpu17." in said
        assert "code=installer-missing user=lqchen" in events(server)
        assert fleet.types("ssh gpu17 true").ok

    def test_that_fails_or_fills_the_disk(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        nvidia.make_installer(server, versions[OLD])
        fleet.types("ssh gpu17 sudo touch /etc/refuse-driver")
        done = fleet.types("ssh gpu17-manage")
        assert done.ok
        assert "could not be installed in your container (status 1): " in done.stdout
        assert "ERROR: Unable to find anything" in done.stdout
        assert "code=driver-not-installed user=lqchen" in events(server)
        fleet.types("ssh gpu17 'sudo rm /etc/refuse-driver; "
                    "sudo mount -t tmpfs -o size=1m tmpfs /var/tmp'")  # fmt: skip
        done = fleet.types("ssh gpu17-manage")
        assert done.ok
        assert "its disk is full. Make about 2 GB of room" in done.stdout
        fleet.types("ssh gpu17 sudo umount /var/tmp")

    def test_that_works_is_verified(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        done = fleet.types("ssh gpu17-manage")
        assert done.ok
        assert "Note" not in done.stdout
        assert f"installing NVIDIA's driver {versions[OLD]} in the container" in done.stderr
        assert found(fleet) == [f"/lib/{MACHINE}-linux-gnu/libcuda.so.1",
                                f"libcuda.so.{versions[OLD]}"]  # fmt: skip
        # in the container's own cgroup: its limits hold for the installer, too
        ours, inits = (
            fleet.types(f"ssh gpu17 sudo cat {file}").stdout
            for file in ("/var/log/nvidia-installer.log", "/proc/1/cgroup")
        )
        assert ours == inits
        again = fleet.types("ssh gpu17-manage")
        assert "installing" not in again.stderr

    def test_a_new_version_follows_at_the_next_start(
        self, fleet: Fleet, server: Host, versions: tuple[str, ...]
    ) -> None:
        driver_of(server, versions[NEW])
        nvidia.make_installer(server, versions[NEW])
        try:
            restart(fleet)
            assert found(fleet)[1] == f"libcuda.so.{versions[NEW]}"
        finally:
            driver_of(server, versions[OLD])


class TestNothing:
    def test_where_the_policy_says_so(self, fleet: Fleet, server: Host) -> None:
        policy(fleet, "none")
        restart(fleet)
        config = server.read("/run/lxc-gpu/lqchen.config")
        assert "/usr/local/nvidia" not in config.replace(CONTAINERS, "")
        assert "/nvidia0 dev/nvidia0 " in config

    def test_where_there_is_no_driver(self, fleet: Fleet, server: Host) -> None:
        nvidia.clean(server)
        assert "Note" not in restart(fleet)
        config = server.read("/run/lxc-gpu/lqchen.config")
        assert "nvidia" not in config
