"""The load stream as a program of its own, on this machine: its clock, its lines, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.load.file_systems import FileSystems
from state.wire.server_load import decode

ROOT = Path(__file__).parents[3]
PATIENCE = 30.0


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen[bytes]]]:
    streams = list[subprocess.Popen[bytes]]()
    yield streams
    for stream in streams:
        stream.kill()
        stream.wait()
        if stream.stdout:
            stream.stdout.close()


def begin(
    begun: list[subprocess.Popen[bytes]], words: str, stdout: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    code = f"from reconciler.load import stream as s; {words}"
    stream = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=stdout)
    begun.append(stream)
    return stream


def test_a_stolen_key_has_only_so_many_streams(
    begun: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The program's own name counts, as the kernel knows it of a script."""
    script = tmp_path / f"crowd{os.getpid()}"[-15:]
    code = "from reconciler.load.stream import only_so_many; only_so_many(3); print(1, flush=True)"
    script.write_text(
        f"#!{sys.executable}\nimport sys, time\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"{code}\ntime.sleep(60)\n"
    )
    script.chmod(0o755)
    for _ in range(4):
        begun.append(subprocess.Popen([script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        if len(begun) < 4:
            assert begun[-1].stdout is not None
            assert begun[-1].stdout.readline() == b"1\n"
    assert b"read this server's load already" in begun[-1].communicate(timeout=PATIENCE)[0]


def test_ends_by_itself_after_a_while(begun: list[subprocess.Popen[bytes]]) -> None:
    stream = begin(begun, "s.stream(1, 'here', interval=0.5, longest=2.4)")
    out, _ = stream.communicate(timeout=PATIENCE)
    loads = [decode(line) for line in out.splitlines()]
    assert 1 <= len(loads) <= 3
    assert {(load.server, load.interval) for load in loads} == {("here", 0.5)}
    assert stream.returncode == 0


def test_ends_at_once_when_nobody_reads(begun: list[subprocess.Popen[bytes]]) -> None:
    stream = begin(begun, "s.stream(1, 'here', interval=60)")
    assert stream.stdout is not None
    decode(stream.stdout.readline())
    stream.stdout.close()
    stream.wait(PATIENCE)


def test_ends_when_a_reader_takes_nothing(begun: list[subprocess.Popen[bytes]]) -> None:
    """A pipe that is full from the beginning, at the other end of which somebody sleeps."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    stream = begin(begun, "s.STALLED = 0.5; s.stream(1, 'here', interval=0.2)", writer)
    os.close(writer)
    stream.wait(PATIENCE)
    os.close(reader)


def test_a_program_that_stands_still_is_not_made_up_for(
    begun: list[subprocess.Popen[bytes]],
) -> None:
    stream = begin(begun, "s.stream(1, 'here', interval=0.5)")
    assert stream.stdout is not None
    decode(stream.stdout.readline())
    stream.send_signal(signal.SIGSTOP)
    time.sleep(3)
    stream.send_signal(signal.SIGCONT)
    loads = [decode(stream.stdout.readline()) for _ in range(3)]
    assert loads[2].at - loads[0].at > 0.4, "no burst"


def test_this_machines_file_systems() -> None:
    found = FileSystems()
    try:
        deadline = time.monotonic() + PATIENCE
        while not (there := found.step(1.0)) and time.monotonic() < deadline:
            pass
        for each in there:
            status = os.statvfs(each.mounted)
            assert each.total == status.f_blocks * status.f_frsize
            assert 0 <= each.available <= each.total
    finally:
        found.close()
