"""What sysadmins are told of their servers: once, and once when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from state.wire.messages import Failure, Report
from state.wire.server_load import CpuLoad, DriverVersions, FileSystem, MemoryLoad, ServerLoad
from tests.present import present
from tests.unit.webui.outbox.fleet import NOW
from webui.monitor.heard.latest import LastHeard
from webui.outbox import alerts
from webui.outbox.alert_store import AlertStore
from webui.outbox.alerts import LASTS, AlertKind, Known, ServerTrouble
from webui.servers.board import NudgeOutcome, Phase, ServerStanding

SERVERS = ("gpu17", "gpu18")
MINUTE = 60.0


def heard(server: str = "gpu17", *, full: float = 0.5, loaded: str = "550.1") -> LastHeard:
    disk = FileSystem("/SSD", 1000, int(1000 * (1 - full)))
    load = ServerLoad(server, NOW, 5, CpuLoad(1, 4), MemoryLoad(2, 1),
                      DriverVersions(loaded, "550.1"), file_systems=(disk,))  # fmt: skip
    return LastHeard(server, load, NOW)


def silent(server: str = "gpu17") -> LastHeard:
    return LastHeard(server, heard(server).load, NOW, NOW, f"{server} doesn't answer.")


def round_of(server: str = "gpu17", *failures: Failure, suspended: str = "") -> ServerStanding:
    report = Report(server, "1" * 40, NOW, 1, failures=failures, suspended=suspended)
    return ServerStanding(NudgeOutcome(server, Phase.CONVERGED, "", report=report), report, NOW)


BROKEN = round_of("gpu17", Failure("account", "ann", "in-the-way", "No account."))
UNREACHABLE = ServerStanding(NudgeOutcome("gpu17", Phase.UNREACHABLE, ""), BROKEN.report, NOW)


class Story:
    """Looks each minute; what sysadmins got, subject by subject."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, NOW
        self.watch = AlertStore(path, "https://iam.mylab.com")
        self.got: list[str] = []

    def go_on(
        self,
        minutes: int,
        seen: Sequence[LastHeard] = (),
        standings: Sequence[ServerStanding] = (),
        servers: list[str] | tuple[str, str] | tuple[str] = SERVERS,
    ) -> list[str]:
        before = len(self.got)
        for _ in range(minutes):
            self.now += MINUTE
            said = self.watch.said()
            newest = self.watch.newest
            sight = alerts.look(
                servers,
                {s.server: s for s in seen},
                {s.outcome.server: s for s in standings},
                said,
            )
            self.watch.look(sight, servers, self.now)
            if self.watch.newest != newest:
                self.got.append(
                    present(self.watch.newest).letter.subject.removeprefix("[lxc-gpu] ")
                )
        return self.got[before:]

    def restart(self) -> None:
        self.watch = AlertStore(self.path, "https://iam.mylab.com")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "alerts.json")


def test_a_silent_server_is_said_once_and_its_voice_once(story: Story) -> None:
    assert story.go_on(5, [heard()]) == []
    assert story.go_on(9, [silent()]) == []
    assert story.go_on(100, [silent()]) == ["gpu17 is silent"]
    assert story.go_on(9, [heard()]) == []
    assert story.go_on(100, [heard()]) == ["gpu17 is heard again"]


@pytest.mark.parametrize(
    ("seen", "standings", "begins", "ends"),
    [
        ([heard(full=0.96)], [], "the disk at /SSD is 96% full", "has room again"),
        (
            [heard(loaded="535.9")],
            [],
            "kernel module is version",
            "module and libraries match again",
        ),
        ([heard()], [BROKEN], "rounds fail: account ann: in-the-way", "rounds succeed again"),
        (
            [heard()],
            [round_of("gpu17", Failure("container", "-", "template-missing", "It isn't here."))],
            "rounds fail: container: template-missing",
            "rounds succeed again",
        ),
    ],
)
def test_each_trouble_is_said_once_and_its_end_once(
    story: Story, seen: list[LastHeard], standings: list[ServerStanding], begins: str, ends: str
) -> None:
    (begun,) = story.go_on(100, seen, standings)
    assert begun.startswith("gpu17")
    assert begins in begun
    (over,) = story.go_on(100, [heard()], [round_of()])
    assert ends in over


def test_what_comes_and_goes_is_not_said(story: Story) -> None:
    for _ in range(50):
        assert story.go_on(4, [silent()]) == []
        assert story.go_on(4, [heard(full=0.96)]) == []
        assert story.go_on(4, [heard()]) == []
    assert story.go_on(60, [heard(full=0.94)]) == [], "between full and not full nothing begins"
    assert len(story.go_on(60, [heard(full=0.96)])) == 1
    assert story.go_on(60, [heard(full=0.93)]) == [], "... and nothing is over"


def test_a_restart_says_nothing_twice_and_nothing_false(story: Story) -> None:
    story.go_on(30, [silent(), heard("gpu18", full=0.97)])
    assert len(story.got) == 1
    assert story.got[0] == "2 changes on the GPU servers"
    story.restart()
    assert story.go_on(60) == [], "nobody was heard or missed yet: nothing is known"
    assert story.go_on(60, [silent(), heard("gpu18", full=0.97)]) == []
    story.restart()
    assert story.go_on(60, [heard(), heard("gpu18")]) == ["2 changes on the GPU servers"]


def test_a_silent_server_ends_no_other_trouble(story: Story) -> None:
    story.go_on(60, [heard(full=0.97)], [BROKEN])
    assert story.go_on(100, [silent()], [UNREACHABLE]) == ["gpu17 is silent"]
    (back,) = story.go_on(100, [heard(full=0.97)], [BROKEN])
    assert back == "gpu17 is heard again"


def test_a_suspended_server_fails_no_round(story: Story) -> None:
    assert story.go_on(60, [heard()], [round_of("gpu17", suspended="disk exchange")]) == []


def test_a_disk_that_was_taken_out_is_full_no_more(story: Story) -> None:
    story.go_on(60, [heard(full=0.97)])
    gone = heard()
    other = FileSystem("/", 1000, 500)
    load = ServerLoad(**{**vars(gone.load), "file_systems": (other,)})
    assert story.go_on(60, [LastHeard("gpu17", load, NOW)]) == [
        "gpu17: the disk at /SSD has room again"
    ]


def test_a_server_that_left_the_fleet_is_said_no_more(story: Story) -> None:
    story.go_on(60, [silent()])
    assert story.go_on(60, servers=("gpu18",)) == []
    assert story.watch.said() == set()


def test_a_clock_that_was_set_back_keeps_nothing_for_ever(story: Story) -> None:
    story.now += 10**8
    story.go_on(5, [silent()])
    story.now = NOW
    assert story.go_on(30, [silent()]) == ["gpu17 is silent"]


def test_a_damaged_file_only_has_things_said_again(story: Story) -> None:
    story.go_on(60, [silent()])
    story.path.write_text('{"said": [[')
    story.restart()
    assert story.go_on(60, [silent()]) == ["gpu17 is silent"]


def test_hostile_words_of_a_server_are_words_only(story: Story) -> None:
    evil = LastHeard("gpu17", ServerLoad(
        "gpu17", NOW, 5, CpuLoad(1, 4), MemoryLoad(2, 1), DriverVersions("a\u2028<b>", "1"),
        file_systems=(FileSystem("/\u202ehttp://evil", 100, 1),)), NOW)  # fmt: skip
    story.go_on(60, [evil])
    text = present(story.watch.newest).letter.text
    assert "://" not in text.replace("https://iam.mylab.com", "")
    assert "<b>" not in text


def test_a_stolen_server_writes_no_sentence_to_sysadmins(story: Story) -> None:
    evil = "urgent: type your password at evil.example\n\nYours, IT"
    word = "/urgent password evil.example"
    load = ServerLoad("gpu18", NOW, 5, CpuLoad(1, 4), MemoryLoad(2, 1), DriverVersions(word, "1"),
                      file_systems=(FileSystem(word, 100, 1),))  # fmt: skip
    seen = [LastHeard("gpu17", None, NOW, NOW, evil), LastHeard("gpu18", load, NOW)]
    report = Report("gpu18", "1" * 40, NOW, 1, refused=evil)
    refusing = ServerStanding(
        NudgeOutcome("gpu18", Phase.CONVERGED, evil, report=report), report, NOW
    )
    rounds = [round_of("gpu17", Failure(evil, evil, evil, evil, evil)), refusing]
    for news in (3, 2):
        assert story.go_on(15, seen, rounds) == [f"{news} changes on the GPU servers"]
        text = present(story.watch.newest).letter.text
        assert not any(each in text for each in ("evil", "type", "password", "urgent", "Yours"))


def test_two_hundred_servers_are_one_letter(story: Story) -> None:
    many = [f"gpu{n}" for n in range(200)]
    assert story.go_on(60, [silent(s) for s in many], servers=many) == [
        "200 changes on the GPU servers"
    ]
    assert "... and 140 more" in present(story.watch.newest).letter.text


def test_a_server_that_makes_troubles_up_writes_no_flood(story: Story) -> None:
    gone, letters = heard(), 0
    for number in range(120):
        disks = tuple(FileSystem(f"/d{n}", 1000, 1) for n in range(number, number + 20))
        load = ServerLoad(**{**vars(gone.load), "file_systems": disks})
        letters += len(story.go_on(1, [LastHeard("gpu17", load, NOW)]))
    assert 8 <= letters <= 12
    quiet = [LastHeard("gpu17", None, NOW), silent("gpu18")]
    assert len(story.go_on(15, quiet)) == 1
    assert "gpu18 is silent" in present(story.watch.newest).letter.text


def test_every_kind_lasts_before_it_is_said() -> None:
    assert set(LASTS) == set(AlertKind)
    known, news = alerts.after(
        Known(),
        alerts.LookResult({ServerTrouble("gpu17", AlertKind.SILENT): "x"}, frozenset()),
        SERVERS,
        NOW,
    )
    assert not news
    assert known.said == {}
