import pytest

from shells.usage import Verb, as_typed, parse, without_json
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
    ("verb", "words", "option"),
    [
        (Verb.PORT, "--udp --udp 90", "--udp"),
        (Verb.REBUILD, "--keep-home --keep-home", "--keep-home"),
        (Verb.REBUILD, "--template a --template=b", "--template"),
        (Verb.RECOVER, "monday --undo --undo", "--undo"),
        (Verb.REGISTER, "--template a --template a", "--template"),
        (Verb.RESERVE, "2 8h --from mon --from fri", "--from"),
        (Verb.NOTIFY, "--stop --stop", "--stop"),
    ],
)
def test_an_option_that_is_there_twice_is_called_so(verb: Verb, words: str, option: str) -> None:
    with pytest.raises(LxcGpuError) as refused:
        parse(verb, words.split())
    assert refused.value.message == f"`{option}` is there twice."


@pytest.mark.parametrize(
    ("verb", "words", "word"),
    [
        (Verb.STOP, "--udp --udp", "--udp"),
        (Verb.RESERVE, "2 8h --frm mon --frm fri", "--frm"),
        (Verb.PORT, "8888 8889", "8889"),
        (Verb.REGISTER, "--json", "--json"),
    ],
)
def test_what_is_no_option_is_called_so(verb: Verb, words: str, word: str) -> None:
    with pytest.raises(LxcGpuError) as refused:
        parse(verb, words.split())
    assert refused.value.message == f"`{verb}` takes no `{word}`."


def test_json_is_taken_once_by_every_verb() -> None:
    assert without_json(Verb.STOP, ["--json"]) == ([], True)
    assert without_json(Verb.PORT, ["8888"]) == (["8888"], False)
    with pytest.raises(LxcGpuError, match="`--json` is there twice"):
        without_json(Verb.PORT, ["--json", "8888", "--json"])


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
    options = parse(verb, words.split())
    assert as_typed(verb, options, as_json=False).split() == [verb, *words.split()]
    assert as_typed(verb, options, as_json=True).split() == [verb, *words.split(), "--json"]
