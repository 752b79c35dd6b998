import pytest

from shells.accounts import help_texts
from state.errors import LxcGpuError


@pytest.mark.parametrize(
    "program", ["scp", "/usr/lib/openssh/sftp-server", "internal-sftp", "rsync", "git-upload-pack"]
)
def test_file_transfers_are_known(program: str) -> None:
    assert help_texts.is_file_transfer(program)


@pytest.mark.parametrize("verb", ["", *help_texts.SUMMARIES])
def test_every_verb_has_help(verb: str) -> None:
    assert help_texts.help_text(verb)


def test_no_help_for_what_does_not_exist() -> None:
    with pytest.raises(LxcGpuError):
        help_texts.help_text("; rm -rf /")


@pytest.mark.parametrize("verb", ["", *help_texts.SUMMARIES])
def test_help_fits_a_terminal(verb: str) -> None:
    assert max(map(len, help_texts.help_text(verb).splitlines())) <= 80
