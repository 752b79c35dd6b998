"""News that a nudge carries: what fits comes in, what is hostile leaves nothing behind."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.git import news as carried
from state.git.news import BadNewsError, news, tip_of, unpacked
from state.git.repository import Repository
from tests.unit.state.state_files import files
from tests.unit.state.workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    made = Workshop.open(tmp_path)
    made.write(files())
    made.write({f"notes/{number}.md": f"{number}\n" for number in range(300)})
    made.commit(None)
    return made


@pytest.fixture
def clone(shop: Workshop, tmp_path: Path) -> Repository:
    return Repository.clone(str(shop.folder), tmp_path / "kept" / "state.git")


def objects(clone: Repository) -> set[Path]:
    """Everything that lies in the clone's folder, and beside it."""
    return {path for path in clone.path.parent.rglob("*") if path.suffix != ".flock"}


def made(shop: Workshop, base: str, tip: str) -> bytes:
    found = news(shop.repository.git, base, tip)
    assert found is not None
    return found


def test_what_is_new_comes_into_the_clone(shop: Workshop, clone: Repository) -> None:
    base = shop.head
    long = "".join(random.Random(1).choices("abcdef \n", k=5000))
    shop.commit(None, {"README.md": long})
    tip = shop.commit(None, {"notes/7.md": "another\n", "README.md": long + "more"})
    brings = made(shop, base, tip)
    assert tip_of(brings) == tip
    assert len(brings) < 10_000, "trees go as differences"
    with unpacked(clone, brings) as seen:
        assert seen.files(tip, ("notes/7.md",)) == {"notes/7.md": b"another\n"}
        assert not clone.holds(tip), "not before it was judged"
    assert clone.files(tip, ("notes/7.md",)) == {"notes/7.md": b"another\n"}
    assert clone.whole()
    assert clone.tip() == base, "no branch moves"
    assert [path.name for path in clone.path.parent.iterdir() if "news" in path.name] == []


def test_what_came_in_survives_a_power_cut(
    shop: Workshop, clone: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, before, synced = shop.head, objects(clone), dict[Path, set[Path]]()

    def noted(descriptor: int) -> None:
        folder = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced[folder] = set(folder.iterdir())

    monkeypatch.setattr(os, "fsync", noted)
    with unpacked(clone, made(shop, base, shop.commit(None, {"README.md": "x"}))):
        pass
    came = objects(clone) - before
    assert came
    for path in came:
        assert path in synced.get(path.parent, ()), "its folder was kept when it was there"


def test_what_is_refused_by_who_takes_it_leaves_nothing(shop: Workshop, clone: Repository) -> None:
    base, before = shop.head, objects(clone)
    tip = shop.commit(None, {"README.md": "x"})
    with pytest.raises(KeyError), unpacked(clone, made(shop, base, tip)):
        raise KeyError
    assert objects(clone) == before


def test_what_builds_on_something_unknown_is_refused(shop: Workshop, clone: Repository) -> None:
    between = shop.commit(None, {"README.md": "x"})
    tip = shop.commit(None, {"README.md": "y"})
    refused(clone, made(shop, between, tip))


def test_news_that_are_too_large_are_not_carried(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shop.head
    tip = shop.commit(None, {"README.md": "x"})
    assert news(shop.repository.git, "0" * 40, tip) is None, "nobody knows it"
    monkeypatch.setattr(carried, "LONGEST_NEWS", 100)
    assert news(shop.repository.git, base, tip) is None


def refused(clone: Repository, brings: bytes) -> None:
    before = objects(clone)
    with pytest.raises(BadNewsError), unpacked(clone, brings):
        raise AssertionError
    assert objects(clone) == before


def test_every_damage_is_refused(shop: Workshop, clone: Repository) -> None:
    base = shop.head
    whole = made(shop, base, shop.commit(None, {"README.md": "x"}))
    chance = random.Random(2)
    for _ in range(40):
        at = chance.randrange(41, len(whole))
        refused(clone, whole[:at])
        refused(clone, whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
    for nonsense in (b"", b"\n", b"HEAD\n" + whole[41:], b"--all\n", whole[:41], whole + b"more"):
        refused(clone, nonsense)


def entry(kind: int, content: bytes, says: int | None = None, between: bytes = b"") -> bytes:
    """One object of a pack (gitformat-pack(5))."""
    size = len(content) if says is None else says
    first, size = kind << 4 | size & 0x0F, size >> 4
    return number(size, first) + between + zlib.compress(content)


def number(size: int, first: int | None = None) -> bytes:
    out = []
    if first is not None:
        out.append(first | (0x80 if size else 0))
    while size or not out:
        out.append(size & 0x7F | (0x80 if size >> 7 else 0))
        size >>= 7
    return bytes(out)


def hostile() -> Iterator[tuple[str, list[bytes]]]:
    zeros, small = bytes(20 * 1024 * 1024), b"small"
    base = bytes(20)
    grows = number(5) + number(3 << 30) + b"\x90\x05" * 8
    yield "a bomb", [entry(3, zeros)]
    yield "a bomb that says it is small", [entry(3, zeros, says=5)]
    yield "half a bomb, ten times", [entry(3, zeros[: 1 << 20])] * 10
    yield "a difference that makes gigabytes", [entry(7, grows, between=base)]
    yield "the same by place", [entry(3, small), entry(6, grows, between=b"\x10")]
    yield "a tag", [entry(4, small)]
    yield "no kind", [entry(0, small), entry(5, small)]
    yield "too many", [entry(3, b"%d" % each) for each in range(3000)]
    yield "no commit", [entry(1, b"tree 0\n")]
    yield "a tree that leads out", [entry(2, b"100644 ../../etc\0" + base)]
    yield "a tree with .git", [entry(2, b"40000 .git\0" + base)]
    yield "a number without end", [entry(7, b"\xff" * (8 << 20), between=base)]
    yield "a size without end", [b"\xb0" + b"\xff" * 250_000]
    yield "nothing but a difference without end", [entry(7, b"\xff" * 5, between=base)]


@pytest.mark.parametrize(("what", "entries"), list(hostile()), ids=[each for each, _ in hostile()])
def test_hostile_packs_are_refused(
    clone: Repository, shop: Workshop, what: str, entries: list[bytes]
) -> None:
    from hashlib import sha1

    body = b"PACK\0\0\0\2" + len(entries).to_bytes(4, "big") + b"".join(entries)
    refused(clone, f"{shop.head}\n".encode() + body + sha1(body).digest())


def test_what_a_kill_left_beside_is_removed(shop: Workshop, clone: Repository) -> None:
    base = shop.head
    (clone.path.parent / ".state.git.news-killed" / "objects").mkdir(parents=True)
    tip = shop.commit(None, {"README.md": "x"})
    with unpacked(clone, made(shop, base, tip)):
        pass
    assert not (clone.path.parent / ".state.git.news-killed").exists()
