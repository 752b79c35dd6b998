"""When the folder of the containers is this server's, when it may be marked, and when not."""

import pytest

from reconciler.host.marker import FolderLook, FolderRecord, Marker
from state.errors import LxcGpuError
from tests.unit.reconciler.views import VIEW, with_

OURS = Marker("gpu17", "a1")
ANOTHERS = Marker("gpu18", "b2")
KNOWN = FolderRecord(VIEW.containers, "a1")
EMPTY = with_(residents={})


def refused(look: FolderLook) -> LxcGpuError:
    with pytest.raises(LxcGpuError) as caught:
        look.settled(VIEW)
    return caught.value


def test_the_marker_that_is_known_makes_it_ours() -> None:
    assert FolderLook(KNOWN, OURS).settled(VIEW)
    assert FolderLook(FolderRecord("/srv/before", "a1"), OURS).settled(VIEW), (
        "moved, with the marker"
    )


def test_a_marker_of_this_servers_name_is_adopted_where_nothing_is_known() -> None:
    assert not FolderLook(None, OURS).settled(VIEW)
    assert refused(FolderLook(None, ANOTHERS)).code == "containers-other"


def test_another_marker_is_never_taken() -> None:
    error = refused(FolderLook(KNOWN, Marker("gpu17", "b2"), frozenset({"lqchen"})))
    assert error.code == "containers-other"
    assert "others of gpu17's" in error.message
    assert "gpu18's" in refused(FolderLook(KNOWN, ANOTHERS)).message


def test_where_nobody_has_anything_this_servers_marker_is_taken_whatever_is_known() -> None:
    other = Marker("gpu17", "b2")
    assert not FolderLook(KNOWN, other).settled(EMPTY), "the disk was mounted after the first round"
    with pytest.raises(LxcGpuError):
        FolderLook(KNOWN, other, made=frozenset({"ann"})).settled(EMPTY)
    with pytest.raises(LxcGpuError):
        FolderLook(KNOWN, ANOTHERS).settled(EMPTY)


def test_an_empty_folder_is_marked_only_where_nobody_can_have_lost_anything() -> None:
    assert not FolderLook(None, None).settled(EMPTY)
    assert not FolderLook(KNOWN, None).settled(EMPTY)
    for look in (
        FolderLook(None, None),
        FolderLook(KNOWN, None),
        FolderLook(None, None, made=frozenset({"ann"})),
    ):
        assert refused(look).code == "containers-away"
        assert "--new-systems" in refused(look).hint
    with pytest.raises(LxcGpuError):
        FolderLook(KNOWN, None, made=frozenset({"ann"})).settled(EMPTY)  # who left may come back


def test_systems_from_before_there_were_markers_are_adopted() -> None:
    assert not FolderLook(None, None, frozenset({"lqchen"})).settled(VIEW)
    assert refused(FolderLook(KNOWN, None, frozenset({"lqchen"}))).code == "containers-away"


def test_the_message_says_whether_the_disk_is_away_or_the_state_was_changed() -> None:
    assert "its disk isn't mounted" in refused(FolderLook(KNOWN, None)).message
    assert f"findmnt --target {VIEW.containers}" in refused(FolderLook(KNOWN, None)).hint
    moved = refused(FolderLook(FolderRecord("/srv/before", "a1"), None))
    assert "`containers:` was changed" in moved.message
    assert "cp --archive --no-target-directory /srv/before /var/lib" in moved.hint
