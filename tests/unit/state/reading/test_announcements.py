"""Announcements, `idle` and `keep`: what the files may say, and what of it reaches a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from reconciler.reservations.closed import closed
from state.edits.changes import describe
from state.edits.render import render
from state.model.documents import Idle, Signer, State
from state.reading.load import load
from state.reading.problems import StateInvalidError
from state.trust.policy import judge
from state.view import from_json, to_json, view_of
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, server_yaml

RAM = """\
# ticket 4711
text: New memory for gpu17
servers: [gpu17]
from: 2026-12-01 08:00 +01:00
until: 2026-12-01 12:30 +01:00
stop: true
"""
BEGINS = datetime.fromisoformat("2026-12-01T07:00+00:00").timestamp()
HOST_KEY = f"host_key: {ed25519('ann@gpu17')}\n"
SERVER = server_yaml("gpu17", "172.16.2.17")


def said(**changed: str) -> str:
    with pytest.raises(StateInvalidError) as caught:
        load(files(**changed))
    return "\n".join(map(str, caught.value.problems))


def with_ram(text: str = RAM) -> State:
    return load(files(announcements__ram=text))


class TestAnnouncements:
    def test_reach_the_servers_that_they_name(self) -> None:
        state = with_ram()
        (there,) = view_of(state, "gpu17", "r").announcements
        assert (there.name, there.text) == ("ram", "New memory for gpu17")
        assert (there.begins, there.ends) == (BEGINS, BEGINS + 4.5 * 3600)
        assert view_of(state, "gpu18", "r").announcements == ()

    def test_without_servers_all_of_them_in_order(self) -> None:
        later = "text: NAS\nfrom: 2026-12-24 00:00 UTC\nuntil: 2027-01-02 00:00 UTC\n"
        now = "text: Now\nuntil: 2027-01-02 00:00 UTC\n"
        state = load(files(announcements__a=later, announcements__ram=RAM, announcements__z=now))
        for server, names in (("gpu17", ["z", "ram", "a"]), ("gpu18", ["z", "a"])):
            assert [each.name for each in view_of(state, server, "r").announcements] == names

    def test_from_when_to_when_it_stops(self) -> None:
        (there,) = view_of(with_ram(), "gpu17", "r").announcements
        assert closed(view_of(with_ram(), "gpu17", "r")) == ((BEGINS, there.ends, there.text),)
        assert closed(view_of(with_ram(), "gpu18", "r")) == ()
        assert not there.stops(BEGINS - 1)
        assert there.stops(BEGINS)
        assert there.stops(there.ends - 1)
        assert not there.stops(there.ends)
        assert there.over(there.ends)
        assert not replace(there, stop=False).stops(BEGINS)

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("until: 2026-12-01 12:30 +01:00", "", "announcements/ram.yaml:1: `until` is missing"),
            ("08:00 +01:00", "08:00", "ram.yaml:4: from: must be a moment with its offset"),
            ("12-01 08", "02-30 08", "ram.yaml:4: from: must be a moment"),
            ("2026-12-01 12", "9999-12-31 12", "ram.yaml:5: until: must be a moment"),
            ("12:30 +01:00", "12:30 +99:00", "ram.yaml:5: until: must be a moment"),
            ("12:30 +01:00", "08:30 +02:00", "must be before `until` (2026-12-01 08:30 +02:00)"),
            ("from: 2026-12-01 08:00 +01:00\n", "", "`stop: true` needs `from`"),
            ("stop: true", "stop: yes", "ram.yaml:6: stop: must be true or false"),
            ("[gpu17]", "[gpu99]", "ram.yaml:3: there is no servers/gpu99.yaml"),
            ("[gpu17]", "[]", "ram.yaml:3: servers"),
            ("[gpu17]", "[gpu17, gpu17]", "ram.yaml:3: gpu17 is there twice"),
            ("New memory", "New \u200b memory", "text: must be one line of words"),
            ("New memory for gpu17", '"  "', "text: must be one line of words"),
            ("New memory", "x" * 501, "text: must be at most 500 characters"),
            ("stop:", "stops:", "unknown field `stops` (did you mean `stop`?)"),
            ("from:", "form:", "unknown field `form` (did you mean `from`?)"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, old: str, new: str, words: str) -> None:
        assert old in RAM
        assert words in said(announcements__ram=RAM.replace(old, new))

    def test_names_and_folders(self) -> None:
        assert "the announcement's name `A b`" in said(**{"announcements__A b": RAM})
        assert "expected announcements/NAME.yaml" in said(announcements__gpu17__ram=RAM)

    def test_what_differs_in_words(self) -> None:
        before, after = load(files()), with_ram()
        assert [str(change) for change in describe(before, after)] == [
            "new announcement ram: from 2026-12-01 08:00 +01:00 until 2026-12-01 12:30 +01:00,"
            " gpu17, containers are stopped: New memory for gpu17"
        ]
        assert [str(change) for change in describe(after, before)] == [
            "announcement ram is removed"
        ]
        later = with_ram(RAM.replace("08:00", "09:00"))
        assert [str(change) for change in describe(after, later)] == [
            "announcement ram: from 2026-12-01 08:00 +01:00 -> 2026-12-01 09:00 +01:00"
        ]

    def test_an_edit_keeps_what_else_stands_in_the_file(self) -> None:
        before, after = with_ram(), with_ram(RAM.replace("08:00", "09:00"))
        written = render(before, after, files(announcements__ram=RAM))
        assert written == {"announcements/ram.yaml": RAM.replace("08:00", "09:00").encode()}
        (afresh,) = render(load(files()), after, {}).values()
        assert afresh is not None
        assert with_ram(afresh.decode()).announcements == after.announcements


class TestWhoMay:
    @pytest.mark.parametrize(
        ("change", "path", "words"),
        [
            ({"announcements__ram": RAM}, "announcements/ram.yaml", "may not announce anything"),
            ({"servers__gpu17": f"{SERVER}idle: {{warn: 1d, stop: 3d}}\n"}, "servers/gpu17.yaml",
             "may not change servers (gpu17: idle none -> warn 1 stop 3)"),
            ({"registrations__gpu17__ann": f"{HOST_KEY}keep: mine\n"},
             "registrations/gpu17/ann.yaml", "may not change `keep` of a registration"),
        ],
    )  # fmt: skip
    def test_admins_alone(self, change: dict[str, str], path: str, words: str) -> None:
        old, new = load(files()), load(files(**change))
        iam = Signer(name="IAM", role="iam", key=ed25519("iam"))
        for before, after in ((old, new), (new, old)):
            reasons = judge(before, after, iam, [path])
            assert len(reasons) == 1
            assert reasons[0].startswith(words.split(" (gpu17", maxsplit=1)[0])
            assert judge(before, after, old.fleet.signers[0], [path]) == ()

    def test_iam_may_write_no_file_there_at_all(self) -> None:
        iam = Signer(name="IAM", role="iam", key=ed25519("iam"))
        same = load(files())
        assert judge(same, same, iam, ["announcements/.gitkeep"])


class TestIdle:
    def test_both_ways_to_write_it(self) -> None:
        for text, idle in (
            ("idle: {warn: 14d, stop: 3w}", {"warn": "14d", "stop": "21d"}),
            ("idle: {warn: 2w}", {"warn": "14d"}),
            ("idle_days: 14", {"warn": "14d"}),
        ):
            state = load(files(servers__gpu17=f"{SERVER}{text}\n"))
            assert state.servers["gpu17"].idleness == Idle.model_validate(idle)
            view = view_of(state, "gpu17", "r")
            assert (view.idle_days, view.idle_stop_days) == (14, 21 if "stop" in idle else None)
        assert load(files()).servers["gpu17"].idleness is None

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("idle_days: 14\nidle: {warn: 14d}", "means `idle: {warn: 14d}`: keep one of"),
            ("idle: {warn: 14d, stop: 15d}", "`stop` must be at least 2 days after `warn`"),
            ("idle: {stop: 21d}", "`idle.warn` is missing"),
            ("idle: {warn: 36h}", "idle.warn: must be a number of days or weeks"),
            ("idle: {warn: 14}", "idle.warn: must be a number of days or weeks"),
        ],
    )
    def test_what_is_refused(self, text: str, words: str) -> None:
        assert words in said(servers__gpu17=f"{SERVER}{text}\n")

    def test_a_registration_says_why_it_is_kept(self) -> None:
        state = load(files(registrations__gpu17__ann=f"{HOST_KEY}keep: the demo\n"))
        assert view_of(state, "gpu17", "r").residents["ann"].keep == "the demo"
        for text in ("keep: true", "keep: false"):
            words = said(registrations__gpu17__ann=f"{HOST_KEY}{text}\n")
            assert 'keep: must say why, e.g. keep: "serves the demo until June"' in words


def test_a_view_says_all_of_it_again_and_an_older_one_can_be_read() -> None:
    text = to_json(view_of(with_ram(), "gpu17", "r"))
    assert to_json(from_json(text)) == text
    older = view_of(load(files()), "gpu17", "r")
    kept = to_json(older).replace(' "announcements": [],\n', "").replace(
        ' "idle_stop_days": null,\n', "").replace('   "keep": "",\n', "")  # fmt: skip
    assert "keep" not in kept
    assert from_json(kept) == older
