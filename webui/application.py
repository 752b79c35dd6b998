"""The Flask application: blueprints, filters, headers, limits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

from flask import Flask, Response, render_template_string
from markupsafe import Markup

from state.errors import LxcGpuError
from state.wire.messages import Message
from state.wire.server_load import ServerLoad
from webui import events, words
from webui.clone.source import StateReading, StateSource
from webui.config import WebConfig
from webui.directory.key_proof import KeyProofs
from webui.directory.ldap import Directory
from webui.directory.refresh import Refresher
from webui.directory.throttle import Throttle
from webui.directory.vanished import VanishedRule
from webui.events import Code
from webui.live import LiveStreams
from webui.monitor.fortnight.days import Window
from webui.monitor.heard.latest import Latest
from webui.monitor.heard.listening import Listeners
from webui.monitor.heard.stream import loads
from webui.monitor.past.history import History
from webui.monitor.past.memberships import Memberships
from webui.outbox.sending import FleetAccess, Sending
from webui.pages import error_pages
from webui.pages.howto import howto
from webui.pages.iam import iam
from webui.pages.metrics import metrics
from webui.pages.monitor import MONITORS, monitor
from webui.pages.monitor_history import past
from webui.pages.monitor_json import monitor_plain
from webui.pages.plain_text import plain
from webui.pages.results import STREAMS, results
from webui.pages.servers import fleet
from webui.servers.board import Board, ServerStanding
from webui.servers.contact import Ssh, Target
from webui.servers.nudge import Nudger
from webui.services import EXTENSION, Services

log = logging.getLogger(__name__)

LARGEST_REQUEST = 256 * 1024
"""Bytes. Fifty keys take 40,000."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def build(config: WebConfig, parts: Services | None = None) -> Flask:
    """The application. Nothing is started, nothing is contacted."""
    app = Flask("webui", static_folder="static", template_folder="templates")
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_REQUEST
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 3600
    app.extensions[EXTENSION] = parts or assemble(config)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        organisation=config.organisation,
        stale_notice=stale_notice,
        announced=announced,
        zone_notice=zone_notice,
    )
    app.jinja_env.filters.update(
        iso=words.iso,
        moment=words.moment,
        summary=words.summary,
        ticks=words.ticks,
        lasting=lambda since: words.lasting(since, time.time()),
        ago=lambda then: words.ago(then, time.time()),
    )
    for blueprint in (fleet, howto, iam, metrics, monitor, past, monitor_plain, plain, results):
        app.register_blueprint(blueprint)
    app.jinja_env.globals["path"] = _paths(app)
    error_pages.install(app)
    app.after_request(_add_headers)
    return app


def assemble(config: WebConfig) -> Services:
    """The real services behind the pages. Nothing is started, nothing is contacted."""
    source = StateSource(config.repository, config.clone, config.signing_key, config.fetch_seconds)
    board, ssh, latest = Board(), Ssh(config.nudge_key), Latest()
    targets = partial(_targets, source)
    directory = Directory(config.directory)
    rule = VanishedRule(config.disable_vanished, config.disable_after, config.disable_most)
    refresher = Refresher(source, directory.look_up_all, rule)
    kept, groups = config.history, config.usage.groups
    history = History(config.history_path, kept.keep_plots_days, kept.keep_use_days, groups)
    fleet = FleetAccess(
        state=lambda: source.current().state,
        addresses=refresher.addresses,
        seen=latest.all,
        standings=board.standings,
        tell=lambda server, notices: ssh.tell_accepted(targets()[server], notices),
    )
    sending = Sending(config, fleet)

    def heard(server: str, load: ServerLoad) -> None:
        sending.heard(server, load.notices)
        latest.post(server, replace(load, notices=()))  # notices are for their users only
        history.note(server, load, time.time())

    def nudge(target: Target) -> Iterator[Message]:
        known = board.standings().get(target.name)
        return ssh.nudge(target, news_for(target.name, known, source))

    return Services(
        config=config,
        source=source,
        directory=directory,
        throttle=Throttle(),
        board=board,
        nudger=Nudger(targets, nudge, board, source.includes),
        refresher=refresher,
        latest=latest,
        history=history,
        memberships=Memberships(source, lambda users: directory.groups_of(users, groups), history),
        listeners=Listeners(targets, partial(loads, ssh), latest, heard),
        sending=sending,
        proofs=KeyProofs(),
        live_monitors=LiveStreams(MONITORS),
        live_saves=LiveStreams(STREAMS),
        clock=time.time,
    )


def news_for(server: str, known: ServerStanding | None, source: StateSource) -> bytes | None:
    """What `server` lacks of the state, for its nudge. None if it had better fetch.

    One that refuses the repository's revision would refuse it again, and then fetch.
    """
    if known is None or known.report is None or known.report.refused:
        return None
    try:
        return source.news(known.report.revision)
    except (LxcGpuError, OSError) as error:
        events.warning(log, Code.NEWS_FAILED, server=server, why=error)
        return None


def _targets(source: StateSource) -> Mapping[str, Target]:
    return {
        name: Target(name, str(server.address), server.ssh_port, server.host_key)
        for name, server in source.current().state.servers.items()
    }


def _paths(app: Flask) -> Callable[..., str]:
    """A function like `url_for` that works without a request: a stream outlives its request."""
    addresses = app.url_map.bind("localhost")
    return lambda endpoint, **values: addresses.build(endpoint, values)


def announced(
    reading: StateReading, servers: Collection[str] | None = None
) -> tuple[words.Announced, ...]:
    """The present announcements for these servers; None: for any server."""
    return words.announced(reading.state, time.time(), servers)


def stale_notice(reading: StateReading) -> Markup:
    """A notice that the page may be out of date; empty if it isn't."""
    if not reading.problem:
        return Markup("")
    return Markup(  # noqa: S704
        render_template_string(
            "{% import '_parts.html' as parts %}"
            "{{ parts.notice('warn', 'This may be out of date.', text, hint) }}",
            text=f"{reading.problem.splitlines()[0]} This page shows what was known"
            f" {words.ago(reading.at, time.time())}.",
            hint="The servers go on working. Saving may have to wait.",
        )
    )


def zone_notice() -> Markup:
    """The time zone of the page's times: this machine's. A script adds the browser's offset."""
    now = time.time()
    minutes = time.localtime(now).tm_gmtoff // 60
    words_ = Window(now).zone_words()
    return Markup(
        '<span class="zone" data-minutes="{}">Times are in the web machine\'s zone: {}.</span>'
    ).format(minutes, words_)


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if response.mimetype == "text/html":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
