"""The story that `setup/demo` tells, chapter by chapter, on a lab that was perhaps used before."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from laboratory.demo.browser import browser
from laboratory.demo.narrator import Narrator
from laboratory.demo.story import CHAPTERS, NAME, Chapter, Story

from tests.lab.fleet import Fleet, end_at_once, in_both_directories, running


@pytest.fixture(scope="class")
def story(fleet: Fleet, nudges: None) -> Iterator[Story]:
    """A story whose hero nobody knows any more, told to nobody."""
    _forget_the_hero(fleet)
    with browser() as chromium:
        yield Story(fleet.lab, chromium.new_page(), Narrator(io.StringIO()))


@in_both_directories
class TestStory:
    @pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.title)
    def test_chapter(self, story: Story, chapter: Chapter) -> None:
        before = story.tell.checks
        chapter.play(story)
        assert story.tell.checks > before


def _forget_the_hero(fleet: Fleet) -> None:
    """Take away all that the hero has but the numbers: no key, no container, no account."""
    fleet.commits(f"{NAME} left", f"""
        mkdir -p former
        git mv users/{NAME}.yaml former/
        git rm -q --ignore-unmatch registrations/*/{NAME}.yaml""")  # fmt: skip
    fleet.rounds()
    for host in (fleet.gpu17, fleet.gpu18):
        if running(host, NAME):
            end_at_once(host, NAME)
        host.run(["lxc-gpu", "purge", NAME, "--yes"], timeout=120)
    fleet.commits(f"{NAME} begins again", f"""
        git mv former/{NAME}.yaml users/
        sed -i '/^keys:/,$d' users/{NAME}.yaml""")  # fmt: skip
    fleet.laptop.sh(f"rm -f /home/{NAME}/.ssh/lxc-gpu.* /home/{NAME}/.ssh/config")
