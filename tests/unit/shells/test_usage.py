import pytest

from shells.usage import Verb, as_typed, parse
from state.errors import LxcGpuError


def test_files_to_recover_follow_the_name_of_the_snapshot() -> None:
    words = ["monday", "thesis", "my file", "-rf"]
    assert parse(Verb.RECOVER, words) == {"name": "monday", "paths": "thesis\nmy file\n-rf"}
    assert parse(Verb.RECOVER, ["monday"]) == {"name": "monday"}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (Verb.RECOVER, ["monday", ""]),
        (Verb.RECOVER, ["monday", "x", "--paths", "y"]),
        (Verb.RECOVER, ["monday", "a\nb\x1b"]),
        (Verb.RECOVER, ["monday", "x", "--all"]),
        (Verb.SNAPSHOT, ["monday", "thesis"]),
        (Verb.PORT, ["8888", "8889"]),
    ],
)
def test_what_a_verb_does_not_take_is_refused(verb: Verb, words: list[str]) -> None:
    with pytest.raises(LxcGpuError):
        parse(verb, words)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (Verb.REBUILD, "--template debian-12 --keep-home --confirm 0123abcd"),
        (Verb.RECOVER, "monday --confirm 0123abcd"),
        (Verb.SNAPSHOT, "monday --remove"),
        (Verb.PORT, "8888 --udp"),
        (Verb.STOP, ""),
    ],
)
def test_what_is_to_be_typed_again_is_all_of_it(verb: Verb, words: str) -> None:
    again = as_typed(verb, parse(verb, words.split()))
    assert again.split() == [verb, *words.split()]
