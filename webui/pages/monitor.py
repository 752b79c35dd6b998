"""The monitor and the reservations of all servers, and their live updates."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, current_app, render_template, request
from flask.blueprints import BlueprintSetupState
from jinja2 import Environment
from markupsafe import Markup

from webui.monitor.fortnight.calendars import TEMPLATE as CALENDARS
from webui.monitor.fortnight.calendars import Calendars
from webui.monitor.shown.choice import Choice, SortOrder, choice, chosen
from webui.monitor.shown.display import TEMPLATE, Display
from webui.monitor.shown.drawn import Drawn, DrawnFleet
from webui.monitor.shown.live_updates import PACE, BrowserView, WholeCard, counted, events, is_open
from webui.services import EXTENSION, Services, services, source_address

monitor = Blueprint("monitor", __name__)

MONITORS = 64
"""Live pages at a time. Beyond that, pages reload automatically."""
DISPLAY = "lxc-gpu-display"
"""The key of the application's Display."""
RESERVED = "lxc-gpu-calendars"
"""The key of the application's Calendars."""


@monitor.record_once
def _begin(setup: BlueprintSetupState) -> None:
    parts: Services = setup.app.extensions[EXTENSION]
    setup.app.extensions[DISPLAY] = Display(
        setup.app.jinja_env,
        parts.latest,
        parts.source.current,
        lambda since, step: parts.history.all_points(since, step),
        parts.clock,
    )
    setup.app.extensions[RESERVED] = Calendars(
        setup.app.jinja_env, parts.latest, parts.source.current, parts.clock
    )


@monitor.get("/monitor")
def now() -> str:
    """The monitor: what each server does now, and who holds its GPUs."""
    return _page("monitor.html", display().fleet(), TEMPLATE, orders=ORDERS)


@monitor.get("/monitor/reservations")
def reserved() -> str:
    """The reservations of each server in the next fortnight."""
    return _page("reservations.html", calendars().fleet(), CALENDARS)


def _page(template: str, fleet: DrawnFleet, pieces: str, **more: object) -> str:
    wanted = choice(request.args)
    shown = chosen((each.card for each in fleet.cards.values()), wanted)
    whole = _whole_card(current_app.jinja_env, pieces)
    cards = [Markup(whole(fleet.cards[card.server], is_open(fleet))) for card in shown]  # noqa: S704
    return render_template(
        template,
        wanted=wanted,
        cards=cards,
        servers=len(fleet.cards),
        few=is_open(fleet),
        summary=Markup(fleet.summary.html),  # noqa: S704
        count=counted(len(cards), len(fleet.cards)),
        reading=services().source.current(),
        at=services().clock(),
        query=_query(wanted),
        **more,
    )


@monitor.get("/monitor/events")
def live() -> Response:
    """The monitor as server-sent events, each with what changed since the one before."""
    return _events(display().fleet, TEMPLATE)


@monitor.get("/monitor/reservations/events")
def live_reserved() -> Response:
    """The reservations as server-sent events."""
    return _events(calendars().fleet, CALENDARS)


def _events(fleet: Callable[[float], DrawnFleet], pieces: str) -> Response:
    view = BrowserView(choice(request.args), _whole_card(current_app.jinja_env, pieces))
    news = events(view, services().latest, lambda: fleet(PACE / 2))
    return services().live_monitors.stream(news, source_address())


ORDERS = (
    (SortOrder.NAME, "name"),
    (SortOrder.FREE, "free GPUs"),
    (SortOrder.CPU, "CPU"),
    (SortOrder.GPU, "GPU use"),
)


def display() -> Display:
    """The current application's Display."""
    found: Display = current_app.extensions[DISPLAY]
    return found


def calendars() -> Calendars:
    """The current application's Calendars."""
    found: Calendars = current_app.extensions[RESERVED]
    return found


def server_card(name: str) -> Markup | None:
    """The monitor's card of one server, for other pages; None if there is no such server."""
    return _card_of(display().fleet().cards.get(name), TEMPLATE)


def server_reservations(name: str) -> Markup | None:
    """The reservations' card of one server; None if there is none, or it has no GPUs."""
    return _card_of(calendars().server(name), CALENDARS)


def _card_of(drawn: Drawn | None, pieces: str) -> Markup | None:
    whole = _whole_card(current_app.jinja_env, pieces)
    return None if drawn is None else Markup(whole(drawn, True))  # noqa: S704


def _whole_card(pages: Environment, pieces: str) -> WholeCard:
    macro: Callable[..., str] = getattr(pages.get_template(pieces).module, "card")  # noqa: B009

    def whole(drawn: Drawn, opened: bool) -> str:
        inner = (Markup(part.html) for part in drawn.parts)  # noqa: S704
        return str(macro(drawn.card, *inner, opened)).strip()

    return whole


def _query(wanted: Choice) -> dict[str, str]:
    fields = {"user": wanted.user, "text": wanted.text, "free": "1" if wanted.free else ""}
    fields["sort"] = "" if wanted.order is SortOrder.NAME else wanted.order.value
    return {name: value for name, value in fields.items() if value}
