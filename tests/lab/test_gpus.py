"""`gpus`: who uses which GPU. NVML is a fake (fake_nvml.c); pynvml, programs, people are real."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab import nvidia
from tests.lab.fleet import Fleet
from tests.patience import eventually

GIB = 1 << 30
VERSION = "460.73.01"
"""What the fake says; older than any that the archive may have."""
GPUS = f"""\
driver {VERSION}
gpu {nvidia.UUIDS[0]} 0 {40 * GIB} {12 * GIB} 87 NVIDIA A100-SXM4-40GB
gpu {nvidia.UUIDS[1]} 1 {40 * GIB} 0 -1 NVIDIA A100-SXM4-40GB
"""


@pytest.fixture(scope="module")
def server(fleet: Fleet) -> Iterator[Host]:
    """gpu17 with two GPUs, as NVML tells it; afterwards, as it was."""
    for name in ("lqchen", "ann"):
        assert fleet.types("ssh gpu17-manage start", user=name).ok
    nvidia.load(fleet.gpu17, VERSION)
    nvidia.install_fake_nvml(fleet.gpu17, VERSION, GPUS)
    yield fleet.gpu17
    nvidia.clean(fleet.gpu17)
    fleet.gpu17.sh("rm -f /etc/fake-nvml")
    fleet.types("ssh gpu17-manage stop", user="ann")


@pytest.fixture
def trains(fleet: Fleet, server: Host) -> Iterator[str]:
    """lqchen trains something: its process id on the server."""
    fleet.types("ssh gpu17 'nohup bash -c \"exec -a train sleep 600\" >&- 2>&- &'")
    pid = server.sh("pgrep -fx 'train 600'").stdout.strip()
    yield pid
    server.sh(f"kill {pid}")


def says(fleet: Fleet, words: str = "gpus", user: str = "lqchen") -> str:
    done = fleet.types(f"ssh gpu17-manage {words}", user=user)
    assert done.ok, done.stderr
    assert done.stderr == ""
    return done.stdout


class TestWho:
    def test_by_name_with_memory_and_since(self, fleet: Fleet, server: Host, trains: str) -> None:
        clock = server.sh("date +%H:%M").stdout.strip()
        system = server.sh("pgrep -xo systemd-journal").stdout.strip()
        own = f"process 0 {trains} {12 * GIB}\nprocess 0 {system} 1048576\nprocess 1 4194300 7\n"
        server.write("/etc/fake-nvml", GPUS + own)
        for user in ("lqchen", "ann"):
            lines = says(fleet, user=user).splitlines()
            assert lines[0] == "GPUs of gpu17:"
            assert lines[1].split() == ["0", "NVIDIA", "A100-SXM4-40GB", "12.0", "of", "40.0",
                                        "GiB", "87", "%"]  # fmt: skip
            name = ["lqchen", "Lequn", "Chen", "12.0", "GiB", "since"]
            assert lines[2].split()[:6] == name
            assert lines[2].split()[6] in (clock, server.sh("date +%H:%M").stdout.strip())
            assert lines[2].split()[7] == "sleep"
            assert lines[3].split()[:3] == ["root", "1.0", "MiB"]
            assert lines[4].split()[-1] == "-"
            assert lines[5].split()[0] == "?", "a process that has just ended"
            assert "600" not in "".join(lines), "what somebody typed is nobody's business"

    def test_for_programs(self, fleet: Fleet, server: Host, trains: str) -> None:
        server.write("/etc/fake-nvml", f"{GPUS}process 0 {trains} {GIB}\n")
        facts = json.loads(says(fleet, "gpus --json"))
        first, second = facts["gpus"]
        assert (first["index"], first["uuid"], first["yours"]) == (0, nvidia.UUIDS[0], True)
        assert (first["utilisation_percent"], second["utilisation_percent"]) == (87, None)
        (process,) = first["processes"]
        assert (process["user"], process["memory_bytes"]) == ("lqchen", GIB)
        assert 0 < time.time() - process["since"] < 120
        assert second["processes"] == []
        assert facts["gpu_problem"] is None

    def test_which_are_not_ones_own(self, fleet: Fleet, server: Host) -> None:
        nvidia.choose_gpus(fleet, "lqchen", f"[{nvidia.UUIDS[1]}]")
        try:
            lines = says(fleet).splitlines()
            assert lines[1].endswith("(not for your container)")
            assert "not for" not in lines[3]
            assert "not for" not in says(fleet, user="ann")
        finally:
            nvidia.choose_gpus(fleet, "lqchen", "")


class TestBetweenAnUpgradeAndTheReboot:
    def test_the_library_that_was_kept_is_asked(self, fleet: Fleet, server: Host) -> None:
        server.write("/etc/fake-nvml", GPUS)
        assert fleet.types("ssh gpu17-manage restart", user="ann").ok  # which keeps the fake one
        nvidia.install(server, nvidia.versions()[1])
        try:
            assert says(fleet).startswith("GPUs of gpu17:\n   0  NVIDIA A100-SXM4-40GB")
            server.sh("rm -r /var/lib/lxc-gpu/nvidia")
            assert says(fleet).startswith("NVIDIA's driver is installed on this server, but not ")
        finally:
            nvidia.install_fake_nvml(server, VERSION, GPUS)


class TestPeople:
    def test_cpu_and_memory(self, fleet: Fleet, server: Host) -> None:
        """One loop and 200 MiB of memory of lqchen's; ann is idle."""
        hog = "a=$(head -c 200M /dev/zero | tr '\\0' x)\nwhile :; do :; done\n"
        fleet.types("ssh gpu17 'cat >hog'", stdin=hog)
        fleet.types("ssh gpu17 'nohup timeout 60 bash hog >&- 2>&- &'")
        try:
            deadline = time.monotonic() + 30
            while True:
                people = {p["user"]: p for p in json.loads(says(fleet, "gpus --json"))["people"]}
                lqchen, ann = people["lqchen"], people["ann"]
                if lqchen["cpus"] > 0.1 and lqchen["memory_bytes"] > 200 << 20:
                    break
                assert time.monotonic() < deadline, people
            assert lqchen["cpus"] < 3
            assert ann["cpus"] < 0.1
            assert 1 << 20 < ann["memory_bytes"] < 100 << 20
            assert lqchen["full_name"] == "Lequn Chen"
            text = says(fleet)
            assert "Ann Example  0.0 CPUs" in text
        finally:
            fleet.types("ssh gpu17 pkill timeout")


class TestNoAnswer:
    """The rest is shown all the same."""

    @pytest.mark.parametrize(
        ("answers", "words"),
        [
            ("error 18", "was upgraded, and the server not restarted since."),
            ("error 9", "is installed on this server, but not loaded."),
            ("error 15", "NVIDIA's driver gives no answer: GPU is lost."),
            ("hang", "NVIDIA's driver did not answer within 8 s."),
        ],
    )
    def test_says_why(self, fleet: Fleet, server: Host, answers: str, words: str) -> None:
        server.write("/etc/fake-nvml", f"{answers}\n")
        text = says(fleet)
        assert words in text.splitlines()[0]
        assert "lqchen  Lequn Chen" in text
        loaded = server.sh("systemctl show -p MainPID --value lxc-gpu-loaded").stdout.split()
        ours = "pgrep -u root -f '^/usr/bin/python3 -IS' || true"
        eventually(lambda: set(server.sh(ours).stdout.split()) <= set(loaded))  # none is left

    def test_without_any_driver(self, fleet: Fleet, server: Host) -> None:
        nvidia.clean(server)
        text = says(fleet)
        assert text.startswith("This server has no NVIDIA driver, so there are no GPUs.\n\nOf ")
        facts = json.loads(says(fleet, "gpus --json"))
        assert (facts["gpus"], facts["gpu_problem"]["code"]) == ([], "gpu-none")

    def test_takes_no_words(self, fleet: Fleet, server: Host) -> None:
        done = fleet.types("ssh gpu17-manage gpus all")
        assert (done.status, done.stdout) == (1, "")
        assert done.stderr.startswith("✗ `gpus` takes no `all`.")
        assert says(fleet, "help gpus").startswith("gpus: who uses which GPU")
