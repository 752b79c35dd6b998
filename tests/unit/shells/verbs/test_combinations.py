import pytest

from shells.usage import Verb, parse
from shells.verbs import VerbRequest, serve
from state.errors import LxcGpuError


@pytest.mark.parametrize(
    ("verb", "typed", "together"),
    [
        (Verb.RECOVER, "--undo --forget", "`--undo` and `--forget`"),
        (Verb.RECOVER, "--undo img", "`img` and `--undo`"),
        (Verb.RECOVER, "img --from-stdin", "`img` and `--from-stdin`"),
        (Verb.RECOVER, "img thesis --undo", "`img` and `--undo`"),
        (Verb.REBUILD, "--undo --template x", "`--undo` and `--template`"),
        (Verb.REBUILD, "--keep-home --forget", "`--forget` and `--keep-home`"),
        (Verb.SNAPSHOT, "--list --to-stdout", "`--list` and `--to-stdout`"),
    ],
)
def test_what_can_not_be_combined_is_named(verb: Verb, typed: str, together: str) -> None:
    with pytest.raises(LxcGpuError) as refused:
        serve(verb, VerbRequest("ann", parse(verb, typed.split())), lambda _: None)
    assert refused.value.message == f"{together} can't be combined."


def test_recover_alone_says_what_it_needs() -> None:
    with pytest.raises(LxcGpuError, match="needs a snapshot's name"):
        serve(Verb.RECOVER, VerbRequest("ann", {}), lambda _: None)
