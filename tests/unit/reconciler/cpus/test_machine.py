"""The CPUs of machines as the kernel describes them, in folders like /sys/devices/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cpus.machine import Cpus, Machine, in_words, named, parse, read


def described(
    system: Path, sockets: int, cores: int, threads: int = 1, online: str = "", isolated: str = ""
) -> Path:
    """A machine whose threads are numbered as most are: first one of each core, then the next."""
    every = sockets * cores
    cpu = system / "cpu"
    for number in range(every * threads):
        socket = number % every // cores
        core = frozenset(number % every + t * every for t in range(threads))
        siblings = frozenset(n for n in range(every * threads) if n % every // cores == socket)
        folder = cpu / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{in_words(core)}\n")
        (folder / "core_siblings_list").write_text(f"{in_words(siblings)}\n")
        node = system / "node" / f"node{socket}"
        node.mkdir(parents=True, exist_ok=True)
        (node / "cpulist").write_text(f"{in_words(siblings)}\n")
    (cpu / "online").write_text(f"{online or f'0-{every * threads - 1}'}\n")
    (cpu / "isolated").write_text(f"{isolated}\n")
    return system


def cpus(text: str) -> Cpus:
    return parse(text)


@pytest.mark.parametrize("text", ["", "0", "0-3", "0-3,8", "0,2,4", "0-63,128-191"])
def test_lists_are_read_and_written_as_the_kernel_does(text: str) -> None:
    assert in_words(parse(f"{text}\n")) == text


@pytest.mark.parametrize("text", ["a", "0-", "-1", "0x1"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse(text)


def test_two_sockets_of_64_cores_with_two_threads_each(tmp_path: Path) -> None:
    machine = read(described(tmp_path, sockets=2, cores=64, threads=2))
    assert machine.cpus == cpus("0-255")
    assert len(machine.cores) == 128
    assert machine.cores[3] == cpus("3,131")
    assert machine.sockets == machine.nodes == (cpus("0-63,128-191"), cpus("64-127,192-255"))


def test_a_machine_with_two_cores_and_a_kernel_without_numa(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "online").write_text("0-1\n")
    machine = read(tmp_path)
    assert (machine.cores, machine.nodes) == ((cpus("0"), cpus("1")), (cpus("0-1"),))


def test_cpus_that_are_offline_or_isolated_are_left_out(tmp_path: Path) -> None:
    tree = described(tmp_path, sockets=2, cores=4, online="0-2,4-7", isolated="6-7")
    machine = read(tree)
    assert machine.cpus == cpus("0-2,4-5")
    assert machine.nodes == (cpus("0-2"), cpus("4-5"))


def test_nodes_that_have_memory_only_are_none_of_ours(tmp_path: Path) -> None:
    tree = described(tmp_path, sockets=1, cores=4)
    for name, text in (("node1", "\n"), ("node10", "\n")):
        (tree / "node" / name).mkdir()
        (tree / "node" / name / "cpulist").write_text(text)
    assert read(tree).nodes == (cpus("0-3"),)


def test_part_of_a_machine_keeps_its_order(tmp_path: Path) -> None:
    machine = read(described(tmp_path, sockets=2, cores=2)).only(cpus("1-3"))
    assert machine == Machine(
        (cpus("1"), cpus("2"), cpus("3")), (cpus("1"), cpus("2-3")), (cpus("1"), cpus("2-3"))
    )


@pytest.mark.parametrize(
    ("cpus", "words"), [({0}, "CPU 0"), ({0, 1}, "CPUs 0-1"), ({0, 4}, "CPUs 0,4")]
)
def test_one_cpu_is_one(cpus: set[int], words: str) -> None:
    assert named(cpus) == words
