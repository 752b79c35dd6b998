import pytest

from shells import messages
from state.errors import LxcGpuError


@pytest.mark.parametrize(
    "program", ["scp", "/usr/lib/openssh/sftp-server", "internal-sftp", "rsync", "git-upload-pack"]
)
def test_file_transfers_are_known(program: str) -> None:
    assert messages.is_file_transfer(program)


@pytest.mark.parametrize("verb", ["", *messages.SUMMARIES])
def test_every_verb_has_help(verb: str) -> None:
    assert messages.help_text(verb)


def test_no_help_for_what_does_not_exist() -> None:
    with pytest.raises(LxcGpuError):
        messages.help_text("; rm -rf /")


@pytest.mark.parametrize("verb", ["", *messages.SUMMARIES])
def test_help_fits_a_terminal(verb: str) -> None:
    assert max(map(len, messages.help_text(verb).splitlines())) <= 80
