"""From a server's notice to the mail server and back, with real SMTP, kills and restarts."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from state.errors import LxcGpuError
from state.wire.notices import NoticeKind
from tests.full_disk import full_disk
from tests.present import present
from tests.unit.webui.outbox.fleet import NOW, World, config, notice
from tests.unit.webui.outbox.smtp_server import MailServer, mail_server
from tests.unit.webui.outbox.test_alerts import heard, silent
from tests.unit.webui.outbox.test_webhook import Receiver, receiver  # noqa: F401 # a fixture
from webui.config import WebConfig
from webui.outbox import plan, smtp
from webui.outbox.sending import FIRST_PAUSE, FRESH, Sending
from webui.outbox.smtp import MailDownError

ROOT = Path(__file__).parents[4]
SENDS = """
import sys
from pathlib import Path
from tests.unit.webui.outbox.fleet import World, notice
from tests.unit.webui.outbox.test_sending import mailing
sending = World().sending(mailing(Path(sys.argv[1]), int(sys.argv[2])))
sending.heard("gpu17", (notice(1),))
sending.take()
sys.stdin.read()  # until who kills it is ready
sending.mail()
"""


def mailing(folder: Path, port: int, more: str = "") -> WebConfig:
    return config(
        folder,
        f"""
        [mail]
        host = "localhost"
        port = {port}
        tls = "none"
        from = "gpu@mylab.com"
        sysadmins = ["root@mylab.com", "alice@mylab.com"]
        {more}""",
    )


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def world() -> World:
    return World()


def step(sending: Sending) -> None:
    sending.take()
    sending.alert()
    sending.mail()
    sending.hook()
    sending.tell()


def subjects(mails: MailServer) -> list[str]:
    return [str(letter["Subject"]) for letter in mails.letters]


def test_a_notice_is_mailed_once_and_its_server_told(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1), notice(2, "mallory"), notice(3, "cy")))
    for _ in range(3):
        step(sending)
    assert mails.envelopes == [("gpu@mylab.com", "ann@mylab.com")]
    assert mails.letters[0]["Message-ID"] == f"<gpu17.{notice(1).id}@iam.mylab.com>"
    assert ("gpu17", [notice(1).id]) in world.told
    sending.heard("gpu17", ())
    step(world.sending(mailing(tmp_path, mails.port)))
    assert len(mails.letters) == 1


def test_nothing_is_sent_until_the_directory_said_where(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    world.addresses = None
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1),))
    step(sending)
    assert mails.letters == []
    assert world.told == []
    world.addresses = {"ann": "ann@mylab.com"}
    step(sending)
    assert len(mails.letters) == 1


def test_without_a_mail_server_nothing_is_accepted(tmp_path: Path, world: World) -> None:
    sending = world.sending(config(tmp_path))
    sending.heard("gpu17", (notice(1),))
    step(sending)
    assert world.told == []


def test_a_mail_server_that_is_down_loses_nothing(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    down = world.sending(mailing(tmp_path, 1))
    down.heard("gpu17", (notice(1),))
    down.take()
    with pytest.raises(MailDownError):
        down.mail()
    down.mail()  # not before the pause is over
    down.tell()
    assert world.told == []
    again = world.sending(mailing(tmp_path, mails.port))
    again.heard("gpu17", (notice(1),))
    step(again)
    assert len(mails.letters) == 1
    assert world.told == [("gpu17", [notice(1).id])]


def test_a_kill_after_the_mail_was_accepted_sends_the_same_letter(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    words = [sys.executable, "-c", SENDS, str(tmp_path), str(mails.port)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=ROOT) as page:
        mails.meanwhile = page.kill
        page.communicate()
    assert page.returncode == -signal.SIGKILL
    again = world.sending(mailing(tmp_path, mails.port))
    again.heard("gpu17", (notice(1),))
    step(again)
    one, other = mails.letters
    assert one.as_bytes() == other.as_bytes(), "a mail program shows one of them"
    assert world.told == [("gpu17", [notice(1).id])]


def test_a_full_disk_sends_nothing_twice(tmp_path: Path, mails: MailServer, world: World) -> None:
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1),))
    sending.take()
    with full_disk():
        with pytest.raises(LxcGpuError, match="can't be kept"):
            sending.mail()
        for _ in range(3):
            sending.mail()
        sending.tell()
    assert len(mails.letters) == 1
    assert world.told == [], "nothing is acknowledged before it is on disk"
    step(sending)
    assert len(mails.letters) == 1
    assert world.told == [("gpu17", [notice(1).id])]


def test_a_server_that_can_not_be_told_is_told_later(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    def away(server: str, ids: list[str]) -> None:
        raise LxcGpuError("nudge-unreachable", "gpu17 doesn't answer.")

    told, world.tell = world.tell, away
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1),))
    sending.take()
    sending.mail()
    with pytest.raises(LxcGpuError):
        sending.tell()
    world.tell = told
    sending.tell()
    assert world.told == [], "only after a pause"
    world.now += FIRST_PAUSE
    sending.tell()
    assert world.told == [("gpu17", [notice(1).id])]
    assert len(mails.letters) == 1


def test_what_is_over_before_it_was_sent_is_not_sent(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1),))
    sending.take()
    sending.heard("gpu17", ())
    step(sending)
    assert mails.letters == []


def test_a_silent_server_takes_nothing_back(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1),))
    sending.take()
    world.now += 2 * FRESH
    step(sending)
    assert len(mails.letters) == 1
    assert world.told == []


def test_a_refused_letter_is_tried_again_and_given_up(
    tmp_path: Path, mails: MailServer, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    mails.answer_rcpt = "550 no such user"
    sending = world.sending(mailing(tmp_path, mails.port))
    while world.now < NOW + plan.GIVEN_UP + 3600:
        sending.heard("gpu17", (notice(1),))
        step(sending)
        world.now += 1800
    assert 15 < caplog.text.count("event=mail-refused") < 40
    assert caplog.text.count("event=mail-given-up") == 1
    mails.answer_rcpt = ""
    sending.heard("gpu17", (notice(1),))
    step(sending)
    assert mails.letters == []
    assert world.told == []


def test_an_address_that_no_letter_can_be_made_for_keeps_back_nobody_elses(
    tmp_path: Path, mails: MailServer, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.addresses = present(world.addresses) | {"ann": "=?utf-8?q?=0A?=@x.org"}
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1, "ann"), notice(2, "bob")))
    for _ in range(3):
        step(sending)
    assert [to for _, to in mails.envelopes] == ["bob@mylab.com"]
    assert caplog.text.count("event=mail-refused") == 1


def test_a_letter_that_ends_each_conversation_keeps_back_nobody_elses(
    tmp_path: Path, mails: MailServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "LETTER_ANSWER", 0.5)
    mails.slow["ann@mylab.com"] = 3600
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1, "ann"), notice(2, "ann"), notice(3, "bob")))
    sending.take()
    for _ in range(3):
        with suppress(MailDownError):
            sending.mail()
        world.now += FIRST_PAUSE
    assert [to for _, to in mails.envelopes] == ["bob@mylab.com"]
    mails.slow.clear()
    world.now += plan.FIRST_PAUSE
    sending.mail()
    assert len(mails.letters) == 3


def test_a_clock_that_is_wrong_for_a_while_loses_no_letter(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1),))
    sending.take()
    for world.ahead in (6 * plan.DAY, 0):
        sending.take()
    sending.mail()
    assert len(mails.letters) == 1


def test_a_clock_that_is_wrong_for_a_while_sends_nothing_twice(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    def away(server: str, ids: list[str]) -> None:
        raise LxcGpuError("nudge-unreachable", "gpu17 doesn't answer.")

    told, world.tell = world.tell, away
    sending = world.sending(mailing(tmp_path, mails.port))
    world.seen, world.ahead = {"gpu17": silent()}, 30 * plan.DAY
    for _ in range(15):
        sending.alert()
        world.now += 60
    sending.heard("gpu17", (notice(1),))
    with suppress(LxcGpuError):
        step(sending)
    assert len(mails.letters) == 3
    world.tell, world.ahead = told, 0
    sending = world.sending(mailing(tmp_path, mails.port))
    for _ in range(10):
        world.now += 60
        sending.heard("gpu17", (notice(1),))
        step(sending)
    assert len(mails.letters) == 3
    assert ("gpu17", [notice(1).id]) in world.told


def test_who_stops_a_kind_gets_no_more_of_it_and_accepts_nothing(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    sending = world.sending(mailing(tmp_path, mails.port))
    sending.heard("gpu17", (notice(1), notice(2, kind=NoticeKind.WILL_STOP)))
    sending.take()
    sending.preferences.save("ann", list(NoticeKind))
    step(sending)
    assert subjects(mails) == ["Your container on gpu17 will be stopped"]
    assert world.told == [("gpu17", [notice(2).id])]


def test_damaged_wishes_keep_back_what_may_be_unwanted_only(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    sending = world.sending(mailing(tmp_path, mails.port))
    folder = mailing(tmp_path, mails.port).outbox_path
    folder.mkdir()
    (folder / "wishes.json").write_text("{")
    sending.heard("gpu17", (notice(1), notice(2, kind=NoticeKind.WILL_STOP)))
    with pytest.raises(LxcGpuError, match="can't be read"):
        sending.take()
    sending.mail()
    assert subjects(mails) == ["Your container on gpu17 will be stopped"]


def test_sysadmins_and_the_webhook_are_told_once(
    tmp_path: Path,
    mails: MailServer,
    world: World,
    receiver: Receiver,  # noqa: F811
) -> None:
    setup = mailing(tmp_path, mails.port, f'[webhook]\nurl = "{receiver.url}/hook"')
    sending = world.sending(setup)

    def pass_by(minutes: int) -> None:
        for _ in range(minutes):
            world.now += 60
            step(sending)

    world.seen = {"gpu17": silent()}
    pass_by(30)
    assert [to for _, to in mails.envelopes] == ["root@mylab.com", "alice@mylab.com"]
    assert subjects(mails) == ["[lxc-gpu] gpu17 is silent"] * 2
    sending = world.sending(setup)
    pass_by(30)
    world.seen = {"gpu17": heard()}
    pass_by(30)
    assert len(mails.letters) == 4
    assert [text["text"].split("\n")[0] for _, text in receiver.got] == [
        "[lxc-gpu] gpu17 is silent",
        "[lxc-gpu] gpu17 is heard again",
    ]


def test_what_was_said_gets_its_letters_if_they_could_not_be_kept_then(
    tmp_path: Path, mails: MailServer, world: World
) -> None:
    """A kill between the two leaves the same on disk."""
    setup = mailing(tmp_path, mails.port)
    sending = world.sending(setup)
    world.seen = {"gpu17": silent()}
    sending.alert()
    world.now += 700
    setup.outbox_path.mkdir()
    in_the_way = setup.outbox_path / "letters"
    in_the_way.touch()
    with pytest.raises(LxcGpuError, match="can't be kept"):
        sending.alert()
    in_the_way.unlink()
    assert mails.letters == []
    step(world.sending(setup))
    assert len(mails.letters) == 2
