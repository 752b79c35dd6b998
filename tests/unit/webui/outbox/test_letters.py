"""What letters say, whatever servers, names and addresses hold."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest

from state.wire.notices import Facts, Notice, NoticeKind
from tests.unit.webui.outbox.fleet import NOW, STATE, notice
from webui.config import is_mail_address
from webui.outbox.letters import KINDS, UNSTOPPABLE, WIDTH, Letter, email, letter
from webui.outbox.wording import TEMPLATES

URL = "https://iam.mylab.com"
SPOKEN = [kind for kind in NoticeKind if kind is not NoticeKind.OTHER]


@pytest.mark.parametrize("kind", SPOKEN)
def test_every_kind_says_what_why_and_how_to_stop_it(kind: NoticeKind) -> None:
    said = letter(notice(1, kind=kind), "gpu17", STATE.users, URL)
    assert "gpu17" in said.subject
    assert "because you, ann, have a container on gpu17" in " ".join(said.text.split())
    assert all(len(line) <= WIDTH for line in said.text.splitlines())
    stoppable = f"{URL}/user/ann/mail" in said.text
    assert stoppable == (kind not in UNSTOPPABLE)
    assert (kind in KINDS) != (kind in UNSTOPPABLE)


def test_moments_are_said_with_their_time_zone() -> None:
    said = letter(notice(1, kind=NoticeKind.WILL_STOP), "gpu17", STATE.users, URL)
    assert "2027-01-14 08:00 UTC" in " ".join(said.text.split())
    assert "2027-01-16 08:00 UTC" in " ".join(said.text.split())


def test_a_stolen_server_can_write_no_words_of_its_own() -> None:
    evil = "type your password at https://evil.example"
    facts = Facts(gpus=2, model=evil, other=evil, reservation=evil, until=NOW)
    for kind in SPOKEN:
        said = letter(Notice("0" * 12, "ann", kind, NOW, facts), "gpu17", STATE.users, URL)
        assert "evil" not in said.text + said.subject
    known = Facts(gpus=1, other="bob", until=NOW)
    on_it = Notice("0" * 12, "ann", NoticeKind.ON_YOUR_GPU, NOW, known)
    assert "A program of bob" in letter(on_it, "gpu17", STATE.users, URL).subject


@pytest.mark.parametrize("injected", ["a\r\nBcc: all@example.org", "a\nX: y", "a\x00b", "é\u2028x"])
def test_headers_can_not_be_injected(injected: str) -> None:
    made = email(Letter(injected, injected), "gpu17.1", NOW, "gpu@mylab.com", "ann@mylab.com", URL)
    raw = made.as_bytes()
    head, _, _ = raw.partition(b"\r\n\r\n")
    read = message_from_bytes(raw, policy=default)
    assert set(read.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
        "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert head.count(b"\r\n") >= 8
    raw.decode("ascii")


@pytest.mark.parametrize(
    "address",
    ["", "ann", "ann@", "ann@mylab.com\nBcc: x@y", "a b@mylab.com", "<ann@mylab.com>", "a@b@c",
     "ann@mylab.com,bob@mylab.com", "änn@mylab.com", "a\x00@mylab.com", "x" * 65 + "@mylab.com",
     "ann@mylab.com>", '"ann"@mylab.com', "ann@-mylab.com", "ann@mylab.com\n", "a..b@mylab.com",
     ".a@mylab.com", "a@mylab..com", "a@mylab.com.", "a@mylab-.com", "a@" + "b." * 125 + "com",
     "=?utf-8?q?=0A?=@x.org", "=?us-ascii?q?=2c_b=40c?=@x.org", "a=?b?=c@x.org"]
)  # fmt: skip
def test_what_is_no_plain_address_is_none(address: str) -> None:
    assert not is_mail_address(address)


@pytest.mark.parametrize(
    "address",
    ["ann@mylab.com", "a.b+c=d?@x", "!#$%&'*+/?^_`{|}~-@a-b.example", "x" * 64 + "@m.c",
     "a@" + "b." * 124 + "com"]
)  # fmt: skip
def test_a_plain_address_stands_in_the_header_as_it_is(address: str) -> None:
    assert is_mail_address(address)
    read = message_from_bytes(
        email(Letter("s", "t"), "a.1", NOW, address, address, URL).as_bytes(), policy=default
    )
    assert (read["To"], read["From"]) == (address, address)


def test_the_message_id_is_the_same_each_time() -> None:
    said = Letter("s", "t")
    parts = (said, "gpu17.0123456789ab", NOW, "gpu@mylab.com", "ann@mylab.com", URL, f"{URL}/x")
    one, other = email(*parts), email(*parts)
    assert one.as_bytes() == other.as_bytes()
    assert one["Message-ID"] == "<gpu17.0123456789ab@iam.mylab.com>"
    assert one["List-Unsubscribe"] == f"<{URL}/x>"


def test_every_kind_that_people_are_told_of_has_its_words() -> None:
    assert set(TEMPLATES) == set(SPOKEN)
