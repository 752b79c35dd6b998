"""Taking a system that is ready, on a disk with projects: `reconciler.spares`.

Kernels without quotas know projects all the same; the limits are `vm/test_quota.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.archives.id_map import Owner
from reconciler.disk import project_quota
from reconciler.disk.room import room
from reconciler.host import places
from reconciler.mounts.tree import Tree
from reconciler.rounds import keep_spares
from reconciler.spares import notes, store
from reconciler.spares.decision import Todo
from reconciler.spares.notes import Notes, Spare
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
    ident = "b" * 16 if base else "0123456789abcdef"
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
    owner = Owner.of(view, "lqchen", RESIDENT)
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
    free = room(Path(view.containers)).size
    store.give_way(view, free)
    assert store.names(view) == {base.ident, ready.ident}
    store.give_way(view, free + 20 * MB)
    assert store.names(view) == {base.ident}
    store.give_way(view, free + 50 * MB)
    assert store.names(view) == frozenset()


def test_one_that_gave_way_while_it_was_compared_is_no_mistake(view: View) -> None:
    there = spare(view, MB)
    gone = replace(there, ident="fedcba9876543210")
    notes.write_notes(Notes((gone, there)))
    keep_spares.do(view, notes.read_notes(), Todo(compare=(gone,)))
    assert notes.read_notes().spares == (there,)


def test_one_of_another_archive_stays(view: View) -> None:
    """Touched is enough: whether it is the same is for the maker to see."""
    spare(view, MB)
    os.utime(notes.archive("debian-12"))
    assert not taken(view)[0]
