"""What is made of what a container's shell says: `lab/test_login.py` starts real ones."""

import pytest

from reconciler.children.inside import Ended
from reconciler.requests.login import MARK, account_in, judged, parts_in

PASSWD = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann:/home/ann:\nbob:x:7:7::/:/bin/sh\n"


@pytest.mark.parametrize(
    ("text", "user", "account"),
    [(PASSWD, "ann", (1000, "/home/ann", "/bin/sh")), (PASSWD, "bob", None), (PASSWD, "eve", None),
     ("", "ann", None), ("ann:x:1000", "ann", None), ("ann:x:1000:-1::/:/bin/sh", "ann", None),
     ("ann:x:1000:9999999999::/:/bin/sh", "ann", None)],
)  # fmt: skip
def test_an_account_is_the_user_s_only_with_the_uid(
    text: str, user: str, account: tuple[int, str, str] | None
) -> None:
    assert account_in(text, user) == account


@pytest.mark.parametrize(
    ("ended", "words"),
    [(Ended(0, f"/bin/bash\nhello\n{MARK}\n"), ""), (Ended(1, f"/bin/bash\n{MARK}\n"), ""),
     (Ended(None, "/bin/bash\n"), ""), (Ended(0, "/bin/bash\n"), ""),
     (Ended(3, "/bin/bash\nmotd\n"), "Your login shell, /bin/bash, ends with status 3 before"),
     (Ended(126, "/bin/zsh\nnot-run No such file or directory\n"),
      "Your login shell, /bin/zsh, can't be run: No such file or directory."),
     (Ended(126, "/bin/\x1b[2Jsh\nnot-run x\n"), "Your login shell, /bin/[2Jsh, can't be run: x."),
     (Ended(126, f"/usr/sbin/nologin\n{MARK}\n"), "Your login shell is /usr/sbin/nologin, which"),
     (Ended(126, "way 0 16877\n/bin/false\n"), "Your login shell is /bin/false, which"),
     (Ended(0, f"way 0 16877 1000 16832\n/bin/bash\n{MARK}\n"), ""), (Ended(None, "way \n"), ""),
     (Ended(126, ": setns\n"), ""), (Ended(None, ""), ""), (Ended(126, ""), ""),
     (Ended(126, "no-account\n"), "There is no account ann with the uid 1000"),
     (Ended(126, "no-list\n"), "There is no readable /etc/passwd")],
)  # fmt: skip
def test_only_what_is_certain_is_said(ended: Ended, words: str) -> None:
    said = judged("ann", ended)
    assert len(said) == (1 if words else 0)
    assert "".join(said).startswith(words)


@pytest.mark.parametrize(
    ("line", "parts"),
    [("way 0 16877 1000 16832", [(0, 16877), (1000, 16832)]), ("way", []), ("way 0", []),
     ("no-list", []), ("", []), ("way 0 -1", []),
     (f"way 0 {'9' * 5000}", []), ("way 0 \u0663", []), ("/bin/way 0 16877", [])],
)  # fmt: skip
def test_the_way_is_said_in_the_first_line(line: str, parts: list[tuple[int, int]]) -> None:
    assert parts_in(line) == parts
