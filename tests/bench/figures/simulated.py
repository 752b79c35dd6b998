"""A hundred servers that are none: a real sshd each, on its own address, and generated loads.

`python -m tests.bench.figures.simulated FOLDER` writes the loads; it runs apart, so that what it
costs is not counted as the web page's.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from state.wire.messages import Report
from state.wire.messages import encode as encode_message
from state.wire.server_load import ServerLoad, encode
from tests.generated_loads import load

INTERVAL = 5.0
PORT = 2217
PEOPLE = [f"user{n:02}" for n in range(60)]
# Which account there is, is the machine's matter: `iam` is added in a mount namespace of its own.
START = """
mount --bind "$1/passwd" /etc/passwd
for config in "$1"/sshd/*; do /usr/sbin/sshd -E "$1/sshd.log" -f "$config"; done
exec sleep infinity
"""
ANSWER = """#!/bin/sh
server=$(echo "$SSH_CONNECTION" | cut -d ' ' -f 3)
case "$SSH_ORIGINAL_COMMAND" in
    load) exec sh "{folder}/stream/$server" ;;
    reconcile) cat "{folder}/report/$server" ;;
esac
"""
HONEST = 'exec cat "{folder}/loads/{address}"\n'


def address_of(number: int) -> str:
    """Where the server with this number listens."""
    return f"127.0.0.{number + 2}"


def prepare(folder: Path, names: list[str], keys: Path, nudge: str) -> None:
    """Everything that `running` needs; `keys/NAME-host` are the host keys."""
    for each in ("sshd", "loads", "stream", "report", "lying"):
        (folder / each).mkdir()
    (folder / "passwd").write_text(
        Path("/etc/passwd").read_text() + f"iam:*:64999:64999::{folder}:/bin/sh\n"
    )
    (folder / "answer").write_text(ANSWER.format(folder=folder))
    (folder / "authorized_keys").write_text(f'restrict,command="sh {folder}/answer" {nudge}\n')
    for number, name in enumerate(names):
        address = address_of(number)
        fifo = folder / "loads" / address
        os.mkfifo(fifo)
        fifo.chmod(0o666)
        (folder / "stream" / address).write_text(HONEST.format(folder=folder, address=address))
        (folder / "sshd" / address).write_text(
            f"Port {PORT}\nListenAddress {address}\nHostKey {keys}/{name}-host\nPidFile none\n"
            f"StrictModes no\nUsePAM no\nAuthorizedKeysFile {folder}/authorized_keys\n"
            "MaxStartups 500\n"
        )
    folder.chmod(0o755)


def report(folder: Path, names: list[str], revision: str) -> None:
    """What each says when it is nudged."""
    for number, name in enumerate(names):
        line = encode_message(Report(name, revision, time.time(), 0.3))
        (folder / "report" / address_of(number)).write_text(line)


def lie(folder: Path, number: int, script: str) -> None:
    """From here on the server with this number says what the shell script does.

    `$1` in it is a file with one of its loads.
    """
    address = address_of(number)
    file = folder / "lying" / address
    (folder / "stream" / address).write_text(f"set -- {file}\n{script}\n")
    file.write_text(encode(load_of(number, f"gpu{number:03}")))


@contextmanager
def running(folder: Path, names: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """All of them, with loads; yields the generator's process."""
    Path("/run/sshd").mkdir(exist_ok=True)
    unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    servers = subprocess.Popen([*unshared, "sh", "-euc", START, "sh", folder])
    words: list[str | Path] = [
        sys.executable,
        "-P",
        "-m",
        "tests.bench.figures.simulated",
        folder,
        *names,
    ]
    generator = subprocess.Popen(words)
    try:
        yield generator
    finally:
        for each in (generator, servers):
            each.kill()
            each.wait()


def load_of(number: int, name: str) -> ServerLoad:
    """What the server with this number does now: every number that moves is another one."""
    return load(name, time.time(), seed=number, there=20, everybody=PEOPLE)


def generate(folder: Path, names: list[str]) -> None:
    """Write a load of each server every five seconds, spread over them, to who listens."""
    due, turn = time.monotonic(), 0
    while True:
        number = turn % len(names)
        fifo = folder / "loads" / address_of(number)
        if (folder / "lying" / address_of(number)).exists():
            _close(fifo)
        else:
            _write(fifo, encode(load_of(number, names[number])).encode())
        turn += 1
        due += INTERVAL / len(names)
        time.sleep(max(0.0, due - time.monotonic()))


_open: dict[Path, int] = {}


def _write(fifo: Path, line: bytes) -> None:
    """To the one who reads `fifo`, if anybody does; never waits."""
    try:
        if fifo not in _open:
            _open[fifo] = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.write(_open[fifo], line)
    except BlockingIOError:
        return
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EPIPE):
            raise
        _close(fifo)


def _close(fifo: Path) -> None:
    """Who reads it comes to its end."""
    if fifo in _open:
        os.close(_open.pop(fifo))


if __name__ == "__main__":
    generate(Path(sys.argv[1]), sys.argv[2:])
