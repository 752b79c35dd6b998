import pytest

from shells.accounts.shell import command_in


@pytest.mark.parametrize(
    ("request_", "command"),
    [("shell", ""), (" shell ", ""), ("shell id", "id"),
     ("shell  echo 'a  b' \"$x\" \\;", "echo 'a  b' \"$x\" \\;"),
     ("shell a\nb\tc", "a\nb\tc"), ("shell --json", "--json"), ("shells", None), ("start", None),
     ("shellshell id", None), ("", None), ("start shell id", None)],
)  # fmt: skip
def test_what_follows_shell_is_taken_as_it_was_typed(request_: str, command: str | None) -> None:
    assert command_in(request_) == command
