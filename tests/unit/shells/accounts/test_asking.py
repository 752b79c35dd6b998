"""What the login shell prints of an answer, against a socket in the root helper's place."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from state.wire import messages

ASK = """
import sys
from pathlib import Path
from reconciler.host import places
from shells.helper import client
places.SERVER_CONFIG, client.ROOT_SOCKET = Path(sys.argv[1]), sys.argv[2]
from shells.accounts.login import main
sys.exit(main(["-c", sys.argv[3]]))
"""
QUESTION = messages.Question("It begins anew.\nReally?", "1bdb9508")


def _asked(folder: Path, request: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a request that is answered with the question."""
    config, place = folder / "server.toml", folder / "root.sock"
    config.write_text('name = "gpu17"\nstate_url = ""\ngate = ""\n')

    def serve(listening: socket.socket) -> None:
        with listening.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(messages.encode(QUESTION).encode())

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        Thread(target=serve, args=(listening,), daemon=True).start()
        argv = [sys.executable, "-c", ASK, str(config), str(place), request]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("request_", "again"),
    [
        ("rebuild", "rebuild --confirm 1bdb9508"),
        ("rebuild --json --keep-home", "rebuild --keep-home --confirm 1bdb9508 --json"),
        ("snapshot --remove x --confirm 00000000 --json",
         "snapshot --remove x --confirm 1bdb9508 --json"),
    ],
)  # fmt: skip
def test_a_question_is_for_people_and_for_scripts(
    tmp_path: Path, request_: str, again: str
) -> None:
    status, out, err = _asked(tmp_path, request_)
    assert status == 3
    assert err == (
        f"{QUESTION.text}\nNothing was done yet. To go on, type the same with its number:\n"
        f"  ssh gpu17-manage {again}\n"
    )
    asked = {"question": QUESTION.text, "confirm": QUESTION.token}
    assert (json.loads(out) if out else None) == (asked if "--json" in request_ else None)
