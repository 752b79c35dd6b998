"""Taking a system that is ready, on a disk with projects: `reconciler.spares`.

Kernels without quotas know projects all the same; the limits are `vm/test_quota.py`'s.
"""

from __future__ import annotations

import json
import os
import syslog
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from threading import Barrier

import pytest

from reconciler.archives.id_map import IdMapOwner
from reconciler.disk import project_quota, removal
from reconciler.disk.free_space import free_space
from reconciler.host import places
from reconciler.mounts.tree import Tree
from reconciler.rounds import keep_spares, make_spares
from reconciler.spares import notes, store
from reconciler.spares.decision import Todo
from reconciler.spares.notes import Notes, Spare
from state.errors import LxcGpuError
from state.view import View
from tests.integration.disks import disk
from tests.unit.reconciler.views import RESIDENT, VIEW

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")
MB = 1 << 20


@pytest.fixture
def view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[View]:
    """A server whose containers' disk has projects, and lqchen's folder in lqchen's."""
    for name in ("SPARES", "TEMPLATES", "LOCKS"):
        monkeypatch.setattr(places, name, tmp_path / name)
    places.TEMPLATES.mkdir()
    notes.archive("debian-12").write_text("whatever")
    with disk("xfs", tmp_path / "disk", "400M") as folder:
        (folder / "lqchen").mkdir()
        around = os.open(folder / "lqchen", os.O_RDONLY)
        project_quota.assign(around, RESIDENT.uid, passed_on=True)
        os.close(around)
        yield replace(VIEW, containers=str(folder), spares=1, spare_subid=4_000_000_000)


def spare(view: View, size: int, *, base: bool = False) -> Spare:
    """One that is ready, or a base, noted as the maker does."""
    stamp = notes.stamp_now("debian-12")
    assert stamp is not None
    ident = "b" * 16 if base else token_hex(8)
    made = Spare(ident, "debian-12", stamp, "digest", size, base)
    store.store(view).mkdir(exist_ok=True)
    tree = store.tree_of(view, made.ident)
    store.make_empty(tree)
    (tree.top / "etc").mkdir()
    (tree.top / "etc/large").write_bytes(b"x" * size)
    notes.write_notes(Notes((*notes.read_notes().spares, made)))
    return made


def taken(view: View) -> tuple[bool, Tree]:
    """Whether lqchen's next system is the one that is ready; and that system."""
    tree = Tree.of(view, "lqchen", RESIDENT).beside("rootfs.new")
    store.make_empty(tree)
    owner = IdMapOwner.of(view, "lqchen", RESIDENT)
    return store.take(view, "debian-12", tree, owner, lambda _: None), tree


def test_all_of_it_counts_for_who_took_it(view: View) -> None:
    """What has another project, the kernel renames into no folder that passes its own on."""
    spare(view, 8 * MB)
    assert taken(view)[0]
    large = os.open(Path(view.containers) / "lqchen/rootfs.new/system/etc/large", os.O_RDONLY)
    try:
        assert project_quota.project_of(large)[0] == RESIDENT.uid
    finally:
        os.close(large)
    assert store.names(view) == frozenset()


def test_a_base_gives_way_last(view: View) -> None:
    base, ready = spare(view, 20 * MB, base=True), spare(view, 40 * MB)
    free = free_space(Path(view.containers)).size
    store.give_way(view, free)
    assert store.names(view) == {base.ident, ready.ident}
    store.give_way(view, free + 20 * MB)
    assert store.names(view) == {base.ident}
    store.give_way(view, free + 50 * MB)
    assert store.names(view) == frozenset()


def test_none_gives_way_in_vain_and_none_too_many(view: View) -> None:
    """Somebody may say of a snapshot that it is larger than any disk."""
    large, small = spare(view, 40 * MB), spare(view, 20 * MB)
    making = store.tree_of(view, f"{store.NEW}{'1' * 16}")
    store.make_empty(making)
    all_of_them = {large.ident, small.ident, making.slot.name}
    store.give_way(view, 10**17)
    store.give_way(view, store.within_reach(view) + 1)
    assert store.names(view) == all_of_them
    store.give_way(view, free_space(Path(view.containers)).size + MB)
    assert store.names(view) == {small.ident, making.slot.name}


def test_no_copy_of_a_base_that_is_going_is_handed_out(view: View) -> None:
    base = spare(view, MB, base=True)
    making = store.tree_of(view, f"{store.NEW}{'1' * 16}")
    store.make_empty(making)
    store.throw_away(view, base.ident)
    with pytest.raises(FileNotFoundError):
        store.put_in(view, making, "1" * 16, base.ident)
    assert store.names(view) == {making.slot.name}
    store.put_in(view, making, "1" * 16, None)
    assert store.names(view) == {"1" * 16}


def test_what_two_put_away_at_once_goes_once(view: View) -> None:
    slot = Path(view.containers) / "slot"

    def put_away(rounds: Barrier) -> list[Path | None]:
        found = list[Path | None]()
        for _ in range(300):
            if rounds.wait() == 0:
                slot.mkdir()
            rounds.wait()
            found.append(removal.put_away(slot))
        return found

    rounds = Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(put_away, rounds) for _ in range(2)]
    for pair in zip(*(each.result() for each in asked), strict=True):
        assert len([trash for trash in pair if trash is not None]) == 1


def test_one_that_gave_way_while_it_was_compared_is_no_mistake(view: View) -> None:
    there = spare(view, MB)
    gone = replace(there, ident="fedcba9876543210")
    notes.write_notes(Notes((gone, there)))
    make_spares.do(view, notes.read_notes(), Todo(compare=(gone,)))
    assert notes.read_notes().spares == (there,)


def test_a_disk_that_is_away_is_said_by_others(
    view: View, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A round of every five minutes would fill the journal."""
    said = list[str]()
    monkeypatch.setattr(syslog, "syslog", lambda _, words: said.append(words))
    record = tmp_path / "containers.json"
    record.write_text(json.dumps({"folder": view.containers, "ident": "another disk's"}))
    monkeypatch.setattr(places, "CONTAINERS", record)
    with pytest.raises(LxcGpuError, match="away") as caught:
        keep_spares.look(view)
    assert caught.value.code.startswith("containers-")
    keep_spares.wake(view)
    keep_spares.wake(replace(view, spares=0))
    assert said == []


def test_one_of_another_archive_stays(view: View) -> None:
    """Touched is enough: whether it is the same is for the maker to see."""
    spare(view, MB)
    os.utime(notes.archive("debian-12"))
    assert not taken(view)[0]
