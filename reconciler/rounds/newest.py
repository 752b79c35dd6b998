"""From the state repository to this server's view: fetch, judge, publish.

A revision is refused if it is invalid, was made by somebody who may not make it, rewinds history,
would disable too many users, or doesn't name this server. Then the server stays on the view that it
has, and says why.

What a nudge brings along (`state.git.news`) is judged in the same way, from the same revision on,
and is trusted as what is fetched. A repository that lags behind it is refused: it rewinds history.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler.host import locks, places
from reconciler.host.config import ServerConfig, ssh_command
from reconciler.host.journal import event
from reconciler.host.published import published_view
from reconciler.rounds.trusted import (
    older_than_view,
    revision_in,
    trust,
    trusted_revision,
    verify,
)
from state import files
from state.errors import LxcGpuError
from state.view import View, to_json, view_of

if TYPE_CHECKING:
    from state.git.repository import Repository


@dataclass(frozen=True)
class Newest:
    """The view to go by, and why a newer one was refused (empty: none was)."""

    view: View
    refused: str = ""
    fetched: bool = True
    """Whether the repository was asked."""


def newest_view(config: ServerConfig, before: View | None) -> Newest:
    """Fetch the newest revision and judge it; only the clone of the repository is written.

    `before` is the published view, which is returned if nothing newer can be used. LxcGpuError if
    there is neither.
    """
    try:
        return Newest(_fetch(config, before))
    except LxcGpuError as error:
        if before is None or before.server != config.name:
            raise
        return Newest(before, str(error))


def publish_newest(config: ServerConfig, news: bytes = b"") -> Newest:
    """Fetch and judge the newest revision, and publish it as the server's view.

    It isn't fetched if `news`, which came with a nudge, bring it.
    """
    with locks.lock(locks.PUBLISH):
        published = published_view()
        before = published or _rendered_again(config)
        newest = _brought(config, before, news) or newest_view(config, before)
        if newest.view is not published:
            files.write_file(places.VIEW, to_json(newest.view))
        if newest.view is not before:
            trust(newest.view.revision)
        elif not newest.refused and older_than_view():
            trust(newest.view.revision)  # a kill between the two lines above, or a loss
        return newest


def _brought(config: ServerConfig, before: View | None, news: bytes) -> Newest | None:
    """What `news` bring. None if they bring nothing that goes on from what was verified.

    So it is if they name the present revision: a repository that is refused stays so.
    """
    if not news:
        return None
    from state.git.news import tip_of, unpacked
    from state.git.repository import Repository

    try:
        tip = tip_of(news)
        if before is not None and tip == before.revision and before.server == config.name:
            return None
        with unpacked(Repository(places.STATE_CLONE, ssh_command()), news) as repository:
            allow_disable = verify(repository, tip, before)
            return Newest(_view_at(repository, tip, config, allow_disable), fetched=False)
    except (LxcGpuError, OSError, ValueError) as error:
        event("news-unused", why=error)
        return None


def render_again(config: ServerConfig) -> bool:
    """Publish the view of the same revision anew if this release would write it differently.

    So it is if an earlier release wrote it, which knew fewer fields, or if it is damaged. No other
    machine is asked. Returns whether the view was written.
    """
    with locks.lock(locks.PUBLISH):
        there = published_view()
        if there is not None and files.read_text(places.VIEW) == to_json(there):
            return False
        if (view := _rendered_again(config)) is None:
            return False
        if there is not None:  # it stands in the commits, which aren't read here
            view = replace(view, allow_disable=there.allow_disable)
        files.write_file(places.VIEW, to_json(view))
        return True


def _rendered_again(config: ServerConfig) -> View | None:
    """The view of the revision that this server is on, from its clone; None if that fails."""
    from state.git.repository import Repository

    text = files.read_text(places.VIEW)
    if text is None or not places.STATE_CLONE.exists():
        return None
    revision = revision_in(text) or trusted_revision(None)
    if revision is None:
        return None
    try:
        state = Repository(places.STATE_CLONE, ssh_command()).read(revision)
        return view_of(state, config.name, revision)
    except (LxcGpuError, OSError, KeyError):
        return None  # a round makes it from the repository


def _fetch(config: ServerConfig, before: View | None) -> View:
    """The view of the newest revision. A damaged clone is made anew: it is only a copy."""
    from state.git.healing import healing  # loads Git: only where it is needed

    return healing(
        config.state_url,
        places.STATE_CLONE,
        lambda: _fetch_to_clone(config, before),
        ssh_command(),
    )


def _fetch_to_clone(config: ServerConfig, before: View | None) -> View:
    from state.git.repository import Repository

    repository = Repository.clone(config.state_url, places.STATE_CLONE, ssh_command())
    tip = repository.tip()
    if before is not None and before.revision == tip and before.server == config.name:
        return before
    allow_disable = verify(repository, tip, before)
    return _view_at(repository, tip, config, allow_disable)


def _view_at(repository: Repository, tip: str, config: ServerConfig, allow_disable: int) -> View:
    """The view of a revision that was verified. LxcGpuError if this server doesn't go by it."""
    from reconciler.rounds.brake import check_brake, leaving

    state = repository.read(tip)
    if config.name not in state.servers:
        raise LxcGpuError(
            "server-unknown",
            f"The state repository has no servers/{config.name}.yaml.",
            "Commit the file that `setup/gpu-server` printed on this server.",
        )
    view = view_of(state, config.name, tip, allow_disable)
    check_brake(view, leaving(view))
    return view
