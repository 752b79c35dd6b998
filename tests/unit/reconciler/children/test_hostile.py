"""Attacks from below a folder that somebody else controls; needs root, to become that somebody."""

import os
import resource
import signal
import socket
import time
from pathlib import Path, PurePosixPath

import pytest

from reconciler.children import hostile
from reconciler.children.answering import AnsweringChild
from reconciler.children.hostile import (
    HostileError,
    Json,
    as_owner,
    as_owner_at_length,
    opened_as_owner,
    opened_folder,
    read_below,
    still_at_it,
    write_below,
)
from reconciler.host import locks
from reconciler.plan import Tell
from state.errors import LxcGpuError, Remedy
from state.wire.messages import Progress
from tests.open_files import none_left_open, open_files
from tests.patience import HANGS, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes users")
OWNER = 18_127_464
KEYS = PurePosixPath("home/ann/.ssh/authorized_keys")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A container's file system whose owner may do what they like below it."""
    for folder in (*tmp_path.parents[:-2], tmp_path):  # not / and /tmp
        folder.chmod(0o755)
    root = tmp_path / "rootfs"
    (root / "home/ann/.ssh").mkdir(parents=True)
    for path in (root, *root.rglob("*")):
        os.chown(path, OWNER, OWNER)
    return root


def _write(root: Path, text: str = "ours\n") -> None:
    as_owner(root, OWNER, lambda fd: write_below(fd, KEYS, text, 0o600, folder_mode=0o700))


def _read(root: Path) -> object:
    return as_owner(root, OWNER, lambda fd: read_below(fd, KEYS))


def test_a_file_is_written_as_its_owner_and_read_back(root: Path) -> None:
    _write(root)
    assert _read(root) == "ours\n"
    status = (root / KEYS).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (OWNER, OWNER, 0o600)


def test_a_file_that_is_the_same_already_stays(root: Path) -> None:
    _write(root)
    before = (root / KEYS).stat()
    _write(root)
    assert (root / KEYS).stat().st_ino == before.st_ino
    _write(root, "others\n")
    assert (root / KEYS).read_text() == "others\n"


@pytest.mark.parametrize("how", ["mode", "owner", "name", "pipe"])
def test_one_of_the_same_content_that_is_something_else_is_replaced(root: Path, how: str) -> None:
    _write(root)
    file = root / KEYS
    if how == "mode":
        file.chmod(0o644)
    elif how == "owner":
        os.chown(file, OWNER + 1, OWNER)
        file.chmod(0o644)
    elif how == "name":
        (file.parent / "another").hardlink_to(file)
    else:
        file.unlink()
        os.mkfifo(file)
    _write(root)
    there = file.lstat()
    assert (there.st_mode, there.st_nlink, there.st_uid) == (0o100600, 1, OWNER)
    assert file.read_text() == "ours\n"


def test_what_is_not_there_is_none(root: Path) -> None:
    assert _read(root) is None


def test_a_link_in_place_of_the_file_is_replaced_and_its_target_untouched(root: Path) -> None:
    target = root.parent / "hosts"
    target.write_text("of the host\n")
    target.chmod(0o666)
    (root / KEYS).symlink_to(target)
    with pytest.raises(HostileError):
        _read(root)
    _write(root)
    assert target.read_text() == "of the host\n"
    assert not (root / KEYS).is_symlink()


@pytest.mark.parametrize("part", ["home", "home/ann", "home/ann/.ssh"])
def test_a_link_on_the_way_is_not_followed(root: Path, part: str) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    elsewhere.chmod(0o777)
    folder = root / part
    folder.rename(root.parent / "moved")
    folder.symlink_to(elsewhere)
    with pytest.raises(HostileError):
        _write(root)
    assert list(elsewhere.rglob("*")) == []


def test_a_pipe_does_not_hang_us(root: Path) -> None:
    os.mkfifo(root / KEYS)
    os.chown(root / KEYS, OWNER, OWNER)
    with pytest.raises(HostileError, match="not a regular file"):
        _read(root)


def test_a_folder_in_place_of_the_file_is_an_error_and_stays(root: Path) -> None:
    (root / KEYS).mkdir()
    with pytest.raises(HostileError):
        _write(root)
    assert (root / KEYS).is_dir()


def test_a_huge_file_is_not_read(root: Path) -> None:
    with (root / KEYS).open("wb") as stream:
        stream.truncate(1 << 40)
    os.chown(root / KEYS, OWNER, OWNER)
    with pytest.raises(HostileError, match="larger than"):
        _read(root)


def test_files_of_others_are_out_of_reach(root: Path) -> None:
    secret = root / KEYS
    secret.write_text("root's\n")
    secret.chmod(0o600)  # a hard link to a file of the host, say
    with pytest.raises(HostileError, match="Permission denied"):
        _read(root)


def test_the_child_really_is_the_owner_for_good(root: Path) -> None:
    def work(_: int) -> object:
        with pytest.raises(PermissionError):
            os.setuid(0)
        return [os.getresuid(), os.getresgid(), os.getgroups()]

    assert as_owner(root, OWNER, work) == [[OWNER] * 3, [OWNER] * 3, []]


def test_missing_folders_are_made_with_the_mode_that_was_asked_for(root: Path) -> None:
    def work(fd: int) -> None:
        with opened_folder(fd, PurePosixPath("home/ann/a/b"), make=0o711):
            pass

    as_owner(root, OWNER, work)
    assert (root / "home/ann/a/b").stat().st_mode & 0o777 == 0o711


def test_a_bug_in_the_work_is_an_error_here_not_a_second_program(root: Path) -> None:
    with pytest.raises(HostileError, match="ZeroDivisionError"):
        as_owner(root, OWNER, lambda _: 1 // 0)


def test_long_work_tells_its_progress_on_the_way(root: Path) -> None:
    def work(_: int, tell: Tell) -> int:
        tell(Progress("a\nb", 0.5))
        tell(Progress('{"result": 1}'))
        return 2

    told: list[Progress] = []
    assert as_owner_at_length(root, OWNER, work, told.append) == 2
    assert told == [Progress("a\nb", 0.5), Progress('{"result": 1}')]


def test_a_descriptor_comes_back_with_what_was_opened(root: Path) -> None:
    _write(root)

    def work(fd: int) -> tuple[int, Json]:
        return os.open("home/ann/.ssh/authorized_keys", os.O_RDONLY, dir_fd=fd), ["authorized"]

    descriptor, said = opened_as_owner(root, OWNER, work)
    with os.fdopen(descriptor) as stream:
        assert (stream.read(), said) == ("ours\n", ["authorized"])


def test_what_cannot_be_opened_leaves_no_descriptor_behind(root: Path) -> None:
    def work(fd: int) -> tuple[int, Json]:
        return os.open("nothing", os.O_RDONLY, dir_fd=fd), None

    with none_left_open(), pytest.raises(HostileError, match="nothing: No such file"):
        opened_as_owner(root, OWNER, work)


class Crowds:
    """A folder that leaves its opener room for two descriptors more."""

    room = 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def opened_for(self, owner: int) -> int:
        """In the child, as root."""
        opener = os.getppid()
        self.room = max(int(each.name) for each in Path(f"/proc/{opener}/fd").iterdir()) + 3
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(opener, resource.RLIMIT_NOFILE, (self.room, most))
        return os.open(self.folder, os.O_PATH | os.O_DIRECTORY)


def test_a_descriptor_without_room_is_an_error_and_none_is_left(root: Path) -> None:
    crowds, limits = Crowds(root), resource.getrlimit(resource.RLIMIT_NOFILE)

    def sends(folder: int, channel: socket.socket) -> None:
        for _ in range(crowds.room):
            socket.send_fds(channel, [b"{}\n"], [folder])

    with none_left_open():
        try:
            with pytest.raises(LxcGpuError, match="no room for a descriptor"):
                hostile._in_child(crowds, OWNER, sends)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_work_that_stands_still_is_given_up(root: Path) -> None:
    def work(_: int) -> None:
        still_at_it(1)
        signal.pause()

    with pytest.raises(HostileError, match="nothing moved"):
        as_owner(root, OWNER, work)


@pytest.mark.parametrize("ending", [False, True])
def test_work_that_no_alarm_ends_is_killed(
    root: Path, monkeypatch: pytest.MonkeyPatch, ending: bool
) -> None:
    """As on a disk that doesn't answer: before it said anything, and when it had said all."""

    def work(_: int) -> tuple[int, Json]:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        still_at_it(1)
        if ending:
            os.closerange(3, 99)
        time.sleep(2 * HANGS)
        return 0, None

    monkeypatch.setattr("reconciler.children.hostile.GRACE", 0.5)
    begun = time.monotonic()
    with none_left_open(), pytest.raises(HostileError, match="nothing moved"):
        opened_as_owner(root, OWNER, work)
    assert 0.4 < time.monotonic() - begun < HANGS
    eventually(_no_child_is_left)  # killed, and not waited for: it may sleep in a disk


def _no_child_is_left() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_work_ends_when_nobody_waits_for_it(root: Path) -> None:
    begun = []

    def work(_: int, tell: Tell) -> None:
        tell(Progress(str(os.getpid())))
        still_at_it(30)
        time.sleep(2 * HANGS)

    def leave(progress: Progress) -> None:
        begun.append(int(progress.text))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_owner_at_length(root, OWNER, work, leave)
    with pytest.raises(ChildProcessError):
        os.waitpid(begun[0], os.WNOHANG)


def test_work_may_take_as_long_as_it_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.children.hostile.PATIENCE", 1)
    monkeypatch.setattr("reconciler.children.hostile.GRACE", 0.2)

    def work(_: int) -> str:
        still_at_it(30)
        time.sleep(2)
        return "done"

    assert as_owner(root, OWNER, work) == "done"


def test_a_lock_of_ours_is_not_the_childs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can't be killed would hold it until the next boot."""
    monkeypatch.setattr("reconciler.host.places.LOCKS", root.parent / "locks")
    with locks.lock("user-ann"):
        status = (root.parent / "locks/user-ann").stat()
        held = [status.st_dev, status.st_ino]
        assert held in _listed()
        of_the_child = as_owner(root, OWNER, lambda _: _listed())
        assert isinstance(of_the_child, list)
        assert held not in of_the_child
        of_the_loaded = _aside()
        assert isinstance(of_the_loaded, list)
        assert held not in of_the_loaded


def test_what_is_lent_is_the_childs(root: Path) -> None:
    reader, writer = os.pipe()

    def work(_: int, __: Tell) -> int:
        return os.write(writer, b"whole")

    assert as_owner_at_length(root, OWNER, work, lambda _: None, [writer]) == 5
    assert os.read(reader, 9) == b"whole"
    with pytest.raises(HostileError, match="Bad file descriptor"):
        as_owner_at_length(root, OWNER, work, lambda _: None)
    for descriptor in (reader, writer):
        os.close(descriptor)


def _aside() -> object:
    asked = AnsweringChild("open-files", lambda _: _listed(), 5)
    asked.ask(None)
    try:
        return asked.answer(5)
    finally:
        asked.close()


def _listed() -> list[Json]:
    return [list(each) for each in open_files()]


def test_an_error_keeps_its_hint_and_remedy(root: Path) -> None:
    def work(_: int) -> None:
        raise LxcGpuError("a", "b", "c", Remedy.WAIT, "d")

    with pytest.raises(HostileError) as caught:
        as_owner(root, OWNER, work)
    error = caught.value
    fields = (error.code, error.message, error.hint, error.remedy, error.details)
    assert fields == ("a", "b", "c", Remedy.WAIT, "d")


def test_a_missing_folder_has_a_code_of_its_own(root: Path) -> None:
    with pytest.raises(HostileError) as caught:
        as_owner(root / "nothing", OWNER, lambda _: None)
    assert caught.value.code == "no-folder"
