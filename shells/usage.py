"""Defines the verbs, and turns the words that a person typed into options. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from state.errors import LxcGpuError


class Verb(StrEnum):
    """What users can ask the root helper for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"
    PORT = "port"
    SNAPSHOT = "snapshot"
    RECOVER = "recover"
    REBUILD = "rebuild"
    GPUS = "gpus"
    SHELL = "shell"
    RESERVE = "reserve"
    RESERVATIONS = "reservations"
    RELEASE = "release"
    NOTIFY = "notify"
    REGISTER = "register"
    RECONCILE = "reconcile"
    TOLD = "told"


SEE_HELP = "Try `help`: ssh SERVER-manage help"
SET = ""
"""The pattern of options that take no value."""
JSON = "--json"
"""What every verb takes besides its options; it is for the login shell, not for the root helper."""
_NAME = r"[a-z0-9][a-z0-9._-]{0,59}"
_TEMPLATE = r"[a-z0-9][a-z0-9.-]{0,60}"
_PORT = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_PATH = "[^\\x00-\\x1f\\x7f\\ud800-\\udfff]+"
_PATHS = f"{_PATH}(\n{_PATH})*"
_CONFIRM = r"[0-9a-f]{8}"
_IDENTS = r"[0-9a-f]{12}(\n[0-9a-f]{12}){0,199}"

_WORDS = r"[!-~]{1,60}( [!-~]{1,60}){0,19}"

OPTIONS: Mapping[Verb, Mapping[str, str]] = {
    Verb.START: {"quick": SET, "announced": SET},
    Verb.STOP: {"announced": SET, "idle": SET},
    Verb.PORT: {"port": _PORT, "remove": SET, "udp": SET},
    Verb.SNAPSHOT: {
        "name": _NAME,
        "archive": SET,
        "list": SET,
        "remove": SET,
        "to-stdout": SET,
        "confirm": _CONFIRM,
    },
    Verb.RECOVER: {
        "name": _NAME,
        "paths": _PATHS,
        "from-stdin": SET,
        "undo": SET,
        "forget": SET,
        "confirm": _CONFIRM,
    },
    Verb.REGISTER: {"template": _TEMPLATE, "confirm": _CONFIRM},
    Verb.REBUILD: {
        "template": _TEMPLATE,
        "keep-home": SET,
        "undo": SET,
        "forget": SET,
        "confirm": _CONFIRM,
    },
    Verb.TOLD: {"ids": _IDENTS},
    Verb.RESERVE: {
        "what": _WORDS,
        "from": _WORDS,
        "until": _WORDS,
        "every": _WORDS,
        "first-free": SET,
        "extend": _WORDS,
        "to": _WORDS,
    },
    Verb.RESERVATIONS: {"ics": SET},
    Verb.RELEASE: {"what": _WORDS},
    Verb.NOTIFY: {"what": _WORDS, "stop": SET},
}
"""The options of each verb, and patterns (`re`) of their values."""
ARGUMENTS: Mapping[Verb, str] = {
    Verb.PORT: "port",
    Verb.SNAPSHOT: "name",
    Verb.RECOVER: "name",
}
"""The option of each verb that a word without dashes sets."""
MORE: Mapping[Verb, str] = {Verb.RECOVER: "paths"}
"""The option that all further words set, each on a line."""


IN_WORDS = frozenset({Verb.RESERVE, Verb.RELEASE, Verb.NOTIFY})
"""Options whose values are several words, because ssh takes quotation marks away: `--from tomorrow
9:00`."""


def without_json(verb: Verb, words: Sequence[str]) -> tuple[list[str], bool]:
    """The other words, and whether JSON is asked for. LxcGpuError if it is there twice."""
    others = [word for word in words if word != JSON]
    if len(words) > len(others) + 1:
        raise _twice(verb, JSON)
    return others, len(words) > len(others)


def parse(verb: Verb, words: Sequence[str]) -> dict[str, str]:
    """The options that `words` set. LxcGpuError for words that the verb doesn't take."""
    import re  # not on the way of `help`

    if verb in IN_WORDS:
        words = _together(verb, words)
    known, options = OPTIONS.get(verb, {}), dict[str, str]()
    left, more = list(words), list[str]()
    while left:
        word = left.pop(0)
        if verb in MORE and ARGUMENTS[verb] in options and word[:2] != "--":
            more.append(word)
            continue
        alone = (ARGUMENTS.get(verb, ""), "=", word)
        name, equals, value = word[2:].partition("=") if word[:2] == "--" else alone
        if name not in known or name in options:
            raise _not_taken(verb, word)
        if known[name] != SET and not equals:
            if not left:
                raise LxcGpuError("usage", f"`{word}` needs a value.", _try_help(verb))
            value = left.pop(0)
        if not re.fullmatch(known[name], value):
            raise _bad(verb, name, value)
        options[name] = value
    if more:
        paths = "\n".join(more)
        if MORE[verb] in options or not re.fullmatch(known[MORE[verb]], paths):
            raise _bad(verb, MORE[verb], more[0])
        options[MORE[verb]] = paths
    return options


def as_typed(verb: Verb, options: Mapping[str, str], *, as_json: bool) -> str:
    """The words that set these options. Only for values that need no quotation marks."""
    words = [verb.value]
    for name, value in options.items():
        if name == ARGUMENTS.get(verb):
            words.append(value)
        else:
            words += [f"--{name}", value] if value else [f"--{name}"]
    if as_json:
        words.append(JSON)
    return " ".join(words)


def not_together(verb: Verb, names: Sequence[str], options: Mapping[str, str]) -> LxcGpuError:
    """For options of which only one can be set, as they were typed."""
    typed = [options[name] if name == ARGUMENTS.get(verb) else f"--{name}" for name in names]
    words = " and ".join(f"`{word}`" for word in typed)
    return LxcGpuError("usage", f"{words} can't be combined.", _try_help(verb))


def _together(verb: Verb, words: Sequence[str]) -> list[str]:
    """Each option with all words up to the next one. Words before the first belong to `--what`."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for word in words:
        bare = word.strip("'\"")
        if bare[:2] == "--":
            name, equals, value = bare.partition("=")
            if name in found:
                raise _not_taken(verb, name)
            found[name] = [value.lstrip("'\"")] if equals else []
            name = "" if name == "--first-free" else name
        elif bare:
            found[name].append(bare)
    said = [
        (name or "--what", " ".join(values)) for name, values in found.items() if name or values
    ]
    return [f"{name}={value}" if value else name for name, value in said]


def _bad(verb: Verb, name: str, value: str) -> LxcGpuError:
    rules = {
        "name": (
            "a name has lower-case letters, digits, `.`, `_` and `-`, and begins with a "
            "letter or digit"
        ),
        "template": "a template's name has lower-case letters, digits, `.` and `-`",
        "paths": "give paths of files and folders as they were in the container",
        "port": "a port is a number from 1 to 65535",
        "confirm": "it has to be what the first call printed",
        **dict.fromkeys(
            ("what", "from", "until", "every", "extend", "to"),
            "give a few words of plain letters and digits",
        ),
    }
    said = rules.get(name, f"`--{name}` takes no value")
    return LxcGpuError("usage", f"`{value[:40]}` can't be: {said}.", _try_help(verb))


def _not_taken(verb: Verb, word: str) -> LxcGpuError:
    """For a word too many, an option that isn't the verb's, or one that is there already."""
    option = word.partition("=")[0]
    if option[:2] == "--" and option[2:] in OPTIONS.get(verb, {}):
        return _twice(verb, option)
    return LxcGpuError("usage", f"`{verb}` takes no `{word[:40]}`.", _try_help(verb))


def _twice(verb: Verb, option: str) -> LxcGpuError:
    return LxcGpuError("usage", f"`{option}` is there twice.", _try_help(verb))


def _try_help(verb: Verb) -> str:
    return f"Try `help {verb}`."
