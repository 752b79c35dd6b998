"""A first state repository: what `lxc-gpu init FOLDER` writes, and the bare one that holds it.

The texts lie in `state/origin/scaffold/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from state.edits.render import write
from state.errors import LxcGpuError
from state.files import settle, write_file
from state.git.commits import Author
from state.git.locks import remove_abandoned
from state.git.plumbing import Plumbing
from state.model.documents import Signer
from state.model.layout import FLEET
from state.model.schema import schemas
from state.origin import limits
from state.reading.load import load

_FOLDERS = ("servers", "users", "registrations", "former", "announcements")
_HOOK = "hooks/pre-receive"
_SETTINGS = {
    "core.fsync": "all",
    "receive.denyNonFastForwards": "true",
    "receive.denyDeletes": "false",  # the hook judges: branches besides main come and go
    "receive.fsckObjects": "true",
    **limits.SETTINGS,
}
_MESSAGE = "Begin the state repository\n\nWho signs is what everything later is judged by."


def init(
    folder: Path,
    author: Author,
    options: Mapping[str, str] | None = None,
    signers: Sequence[Signer] = (),
    signing_key: Path | None = None,
) -> str:
    """Write a first state to `folder`, a new Git repository; the revision of its first commit.

    `options` are lines of fleet.yaml by field, such as {"network": "10.80.0.0/16"}, in YAML.
    `signing_key` signs the commit; who pushes it to an empty repository must be an admin among
    the `signers` that it names. LxcGpuError if the folder isn't empty; StateInvalidError if an
    option is wrong, with nothing written.
    """
    _refuse_full(folder)
    texts = _texts(options or {}, signers)
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / _HOOK).chmod(0o755)
    git = Plumbing(folder.absolute() / ".git")
    tree = {"GIT_WORK_TREE": str(folder.absolute())}
    git.run("init", "--quiet", "--initial-branch=main", "--template=", env=tree)
    git.run("add", "--all", env=tree)
    people = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", author.name), ("EMAIL", author.email))
    }
    signed = ["gpg.format=ssh", f"user.signingKey={signing_key}", "commit.gpgSign=true"]
    words = ("commit", "--quiet", "--no-verify", "-m", _MESSAGE)
    git.run(*words, env={**tree, **people}, settings=signed if signing_key else ())
    return git.word("rev-parse", "HEAD")


def init_bare(path: Path, then: str = "") -> None:
    """Make the bare repository that people and machines push to, its hooks installed.

    One that is there already keeps its commits and gets settings and hooks of this version. `then`
    are lines of shell for the end of the post-receive hook, which has what was pushed on its
    standard input (githooks(5)).
    """
    git = Plumbing(path.absolute())
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "HEAD").exists():
        _refuse_full(path)
        git.run("init", "--quiet", "--bare", "--initial-branch=main", "--template=")
    remove_abandoned(path)  # one of config.lock's would have us fail
    for setting, value in _SETTINGS.items():
        git.run("config", setting, value)
    (path / "hooks").mkdir(exist_ok=True)
    write_file(path / _HOOK, _text("pre-receive"), 0o755)
    write_file(path / "hooks/post-receive", _text("post-receive") + then, 0o755)
    settle(path)


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LxcGpuError(
            "folder-not-empty",
            f"{folder} is not an empty folder; nothing was written.",
            "Name a new folder.",
        )


def _texts(options: Mapping[str, str], signers: Sequence[Signer]) -> dict[str, bytes]:
    """Every file of a first state by path. StateInvalidError if an option is wrong."""
    texts = {f"{folder}/.gitkeep": "" for folder in _FOLDERS}
    for name, schema in schemas().items():
        texts[f".schema/{name}.json"] = json.dumps(schema, indent=2) + "\n"
    texts["README.md"] = _text("README.md")
    texts[_HOOK] = _text("pre-receive")
    texts[".vscode/settings.json"] = _text("settings.json")
    texts[".gitlab-ci.yml"] = _text("gitlab-ci.yml")
    for forge in ("gitea", "github"):
        texts[f".{forge}/workflows/check.yaml"] = _text("workflow.yaml")
    example = "# signers:\n" if signers else "\0"
    fleet = _with_options(_text(FLEET).partition(example)[0], options).encode()
    signed = load({FLEET: fleet}).fleet.model_copy(update={"signers": tuple(signers)})
    contents = {path: text.encode() for path, text in texts.items()}
    contents[FLEET] = write(signed, fleet) if signers else fleet
    load({FLEET: contents[FLEET]})
    return contents


def _with_options(text: str, options: Mapping[str, str]) -> str:
    """fleet.yaml with each option in the place of the example, which may be a comment."""
    for field, value in options.items():
        line = f"{field}: {value}"
        found = re.search(rf"^(# )?{re.escape(field)}:.*$", text, re.MULTILINE)
        at = found.span() if found else (len(text), len(text))
        text = text[: at[0]] + line + ("" if found else "\n") + text[at[1] :]
    return text


def _text(name: str) -> str:
    return (files("state.origin") / "scaffold" / name).read_text(encoding="utf-8")
