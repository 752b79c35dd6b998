import subprocess
import sys

import pytest

LOGIN = "import sys; from shells.accounts.login import main; sys.exit(main(['-c', sys.argv[1]]))"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("help stop start", "✗ `help` takes no `start`.\n  Try `help help`.\n"),
        ("help stop --json", "✗ `help` takes no `--json`.\n  Try `help help`.\n"),
        ("connect ann", "✗ `connect` takes no `ann`.\n  Try `help connect`.\n"),
    ],
)
def test_a_surplus_word_is_refused(request_: str, says: str) -> None:
    argv = [sys.executable, "-c", LOGIN, request_]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", says)
