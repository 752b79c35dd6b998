"""Which letters are made of notices, and which go when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from state.wire.notices import Notice, NoticeKind
from tests.unit.webui.outbox.fleet import MAILS, NOW, STATE, notice
from webui.config import MailConfig
from webui.outbox import plan
from webui.outbox.letter_store import LetterStatus, Message, Way
from webui.outbox.plan import Recipients

PEOPLE = Recipients(STATE, MAILS, lambda user: ())
URL = "https://iam.mylab.com"
CONFIG = MailConfig.model_validate(
    {"host": "mail.mylab.com", "from": "gpu@mylab.com", "most_per_hour": 20, "most_per_person": 5}
)


def message(number: int, to: str = "ann", **more: object) -> Message:
    fields = {"server": "gpu17", "notice": f"{number:012x}", "kind": NoticeKind.IDLE, **more}
    return Message(f"gpu17.{number:012x}", Way.MAIL, to, "s", "t", NOW + number, **fields)  # type: ignore[arg-type]


def made(
    notices: list[Notice],
    people: Recipients = PEOPLE,
    kept: Sequence[Message] = (),
    server: str = "gpu17",
) -> list[Message]:
    return plan.made(server, notices, people, kept, URL, NOW)


def test_only_residents_of_the_very_server_are_believed_to_have_mail() -> None:
    invented = [notice(1, "mallory"), notice(2, "root"), notice(3, "ann")]
    assert [m.to for m in made(invented)] == ["ann"]
    assert made(invented, server="gpu18") == made(invented, server="gpu99") == []


def test_who_has_no_address_or_does_not_want_it_is_sent_nothing() -> None:
    assert made([notice(1, "cy")]) == []
    unwilling = Recipients(STATE, MAILS, lambda user: list(NoticeKind))
    assert made([notice(1)], unwilling) == []
    (told,) = made([notice(1, kind=NoticeKind.WILL_STOP)], unwilling)
    assert told.kind is NoticeKind.WILL_STOP, "or nobody's container could ever be stopped"


def test_what_a_newer_server_says_is_passed_over() -> None:
    assert made([notice(1, kind=NoticeKind.OTHER)]) == []


def test_a_notice_becomes_one_letter() -> None:
    (first,) = made([notice(1), notice(1)])
    assert made([notice(1)], kept=[replace(first, standing=LetterStatus.DONE)]) == []


def test_ten_thousand_notices_are_a_few_letters() -> None:
    flood = [notice(n, ("ann", "bob")[n % 2]) for n in range(10_000)]
    assert len(made(flood)) == 2 * plan.MOST_OF_USER
    full = [message(n, f"u{n}") for n in range(plan.MOST_OF_SERVER)]
    assert made(flood, kept=full) == []
    assert made([notice(1, "bob")], kept=full, server="gpu18"), "others are not kept waiting"


def test_an_hour_sees_so_many_in_all_and_so_many_for_each() -> None:
    waiting = [message(n) for n in range(30)]
    assert len(plan.due(waiting, CONFIG, NOW + 100)) == 5
    crowd = [message(n, f"u{n}") for n in range(30)]
    assert len(plan.due(crowd, CONFIG, NOW + 100)) == 20
    sent = [plan.accepted(m, NOW + 100) for m in crowd[:18]]
    assert len(plan.due([*sent, *crowd[18:]], CONFIG, NOW + 200)) == 2
    assert len(plan.due([*sent, *crowd[18:]], CONFIG, NOW + 100 + plan.HOUR)) == 12


def test_alerts_come_before_all_else() -> None:
    alert = Message("alert.1.0", Way.MAIL, "admin@mylab.com", "s", "t", NOW + 99)
    crowd = [message(n, f"u{n}") for n in range(30)]
    assert plan.due([*crowd, alert], CONFIG, NOW + 100)[0] == alert
    sent = [plan.accepted(m, NOW + 100) for m in crowd[:20]]
    assert plan.due([*sent, *crowd[20:], alert], CONFIG, NOW + 200) == [alert]


def test_a_server_that_floods_keeps_back_no_other_servers_mail() -> None:
    flood = [message(n, f"u{n}") for n in range(1000)]
    others = [message(n, f"u{n}", server="gpu18") for n in range(5000, 5003)]
    going = plan.due([*flood, *others], CONFIG, NOW + 9000)
    assert going[:6] == [flood[0], others[0], flood[1], others[1], flood[2], others[2]]
    assert len(going) == 3 + 10
    sent = [plan.accepted(m, NOW + 100) for m in flood[:20]]
    assert plan.due([*sent, *flood[20:], *others], CONFIG, NOW + 200 + plan.HOUR)[1] == others[0]
    half = [plan.accepted(m, NOW + 9000) for m in flood[:10]]
    assert plan.due([*half, *flood[10:], *others], CONFIG, NOW + 9001) == others
    to_bob = [message(n, "bob") for n in range(plan.MOST_OF_USER)]
    assert made([notice(1, "bob")], kept=to_bob, server="gpu18")
    assert made([notice(1000, "bob")], kept=to_bob) == []


def test_pauses_grow_and_end() -> None:
    failing, dues = message(1), []
    for _ in range(30):
        failing = plan.failed(failing, NOW)
        dues.append(failing.due - NOW)
    assert dues[:3] == [60, 120, 240]
    assert dues == sorted(dues)
    assert dues[-1] == plan.LONGEST_PAUSE
    assert plan.failed(message(1), NOW, for_good=True).due - NOW == plan.FOR_GOOD_PAUSE
    assert plan.is_given_up(failing, 0), "restarts don't have it tried forever"
    assert plan.is_given_up(message(1), plan.GIVEN_UP)
    assert not plan.is_given_up(plan.accepted(failing, NOW), plan.GIVEN_UP)


def test_a_clock_that_was_set_back_keeps_no_letter_waiting() -> None:
    failed = plan.failed(message(1), NOW + plan.DAY)
    assert plan.due([failed], CONFIG, NOW) == [failed]
    assert plan.due([failed], CONFIG, NOW + plan.DAY) == []


def test_what_is_over_is_not_sent() -> None:
    said = {"gpu17": (notice(1),), "gpu18": ()}
    assert not plan.over(message(1), said, 200)
    assert plan.over(message(2), said, 200)
    assert not plan.over(message(2), said, 1), "it may say more than one load carries"
    assert not plan.over(message(2), {}, 200), "who isn't heard says nothing"
    assert not plan.over(plan.accepted(message(2), NOW), said, 200)


def test_servers_are_told_until_they_know() -> None:
    taken = plan.accepted(message(1), NOW)
    assert plan.to_tell([taken, message(2)], {}) == {"gpu17": [taken]}
    done = replace(taken, standing=LetterStatus.DONE)
    assert plan.to_tell([done], {"gpu17": ()}) == {}
    assert plan.to_tell([done], {"gpu17": (notice(1),)}) == {"gpu17": [done]}
