"""Finds the lab's web page, and fetches from it how the whole fleet is.

The page runs on another machine, so its answer is checked and limited in time and size. It is asked
directly, ignoring proxies in the environment.
"""

from __future__ import annotations

import os
import ssl
import tomllib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from state.certificates import believing
from state.errors import LxcGpuError, Remedy
from state.model.fields import web_url
from state.model.layout import FLEET
from state.reading.load import load
from state.wire.fleet_status import LARGEST, PATH, BadStatusError, OtherFormatError, decode
from state.wire.server_load import as_text

if TYPE_CHECKING:
    from state.wire.fleet_status import FleetStatus

VARIABLE = "LXC_GPU_PAGE"
WEB_CONFIG = Path("/etc/lxc-gpu/web.toml")
PATIENCE = 20.0
"""Seconds for everything together, including looking names up."""
SILENCE = 8.0
"""Seconds that the page may be silent."""


def where(given: str | None, folder: Path) -> str:
    """The web page's address for a command typed in `folder`. LxcGpuError if it isn't known."""
    for by, said in _places(given, folder):
        if said:
            try:
                return web_url(said)
            except ValueError as error:
                raise LxcGpuError("page-address", f"{by} {error}.") from error
    raise LxcGpuError(
        "no-page",
        "This machine is not a GPU server, and the address of the lab's web page is not "
        "known here.",
        "Type `lxc-gpu status --page https://iam.example.org`, or set it permanently:\n  "
        f"`export {VARIABLE}=https://iam.example.org`; or, for everybody with a clone of "
        "the\n  state, `page: https://iam.example.org` in its fleet.yaml.",
    )


def _places(given: str | None, folder: Path) -> Iterator[tuple[str, str | None]]:
    """The sources of the page's address, each with the address it gives. The first one counts."""
    yield "--page", given
    yield VARIABLE, os.environ.get(VARIABLE)
    yield "`page:` in fleet.yaml", _of_clone(folder)
    yield f"public_url in {WEB_CONFIG}", _of_this_machine()


def _of_clone(folder: Path) -> str | None:
    """The address in fleet.yaml of the clone that contains `folder`."""
    for above in (folder, *folder.parents):
        file = above / FLEET
        if file.is_file():
            fleet = load({FLEET: file.read_bytes()}).fleet
            return fleet.page
    return None


def _of_this_machine() -> str | None:
    try:
        said = tomllib.loads(WEB_CONFIG.read_text("utf-8")).get("public_url")
    except (OSError, ValueError):
        return None
    return said if isinstance(said, str) else None


def fetch(page: str) -> FleetStatus:
    """Fetch what the page says of the fleet now. LxcGpuError if that fails."""
    raw = _in_time(lambda: _asked(f"{page}{PATH}"), page)
    try:
        return decode(raw)
    except OtherFormatError as error:
        raise LxcGpuError(
            "page-newer",
            f"The web page {page} answers in a format that this lxc-gpu doesn't know.",
            "Install the release of lxc-gpu here that the web machine has.",
        ) from error
    except BadStatusError as error:
        raise _no_page(page, str(error)) from error


def _in_time(ask: Callable[[], bytes], page: str) -> bytes:
    """The result of `ask` within PATIENCE. A thread that doesn't end by then is left behind."""
    answers = SimpleQueue[bytes | Exception]()

    def work() -> None:
        try:
            answers.put(ask())
        except Exception as error:
            answers.put(error)

    Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except Empty:
        answer = TimeoutError()
    if isinstance(answer, (OSError, HTTPException, ValueError)):  # URLErrors are OSErrors
        raise _in_words(answer, page) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _asked(url: str) -> bytes:
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "lxc-gpu"})  # noqa: S310
    with _opener().open(request, timeout=SILENCE) as response:
        raw: bytes = response.read(LARGEST + 1)
        return raw


def _opener() -> OpenerDirector:
    secure = HTTPSHandler(context=believing())
    return build_opener(ProxyHandler({}), HTTPHandler(), secure, _Near())


class _Near(HTTPRedirectHandler):
    """Follows redirects to the same host only, and never from https to http."""

    max_redirections = 3

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """The request for a redirect. HTTPError if it may not be followed."""
        before, after = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        same = before.hostname == after.hostname
        kept = after.scheme == "https" or (before.scheme, after.scheme) == ("http", "http")
        if not (same and kept):
            raise HTTPError(req.full_url, code, "leads elsewhere", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _in_words(error: BaseException, page: str) -> LxcGpuError:
    """The error for an answer of the page that can't be used."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(error, HTTPError):
        if error.code >= 500:
            return LxcGpuError(
                "page-failed",
                f"The web page {page} answers with an error ({error.code}).",
                "On its machine, `journalctl -t lxc-gpu-web` says more.",
                Remedy.WAIT,
            )
        return _no_page(page, f"status {error.code}")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return LxcGpuError(
            "page-certificate",
            f"The certificate of {page} can't be verified: {_why(reason.verify_message)}.",
            "If your lab has its own certificate authority, install its certificate here "
            "(update-ca-certificates), or set SSL_CERT_FILE.",
        )
    if isinstance(reason, (HTTPException, UnicodeError)) or type(reason) is ValueError:
        return _no_page(page, repr(reason))
    why = "no answer in time" if isinstance(reason, TimeoutError) else _why(reason)
    return LxcGpuError(
        "page-unreachable",
        f"The web page {page} can't be reached: {why}.",
        "Is the address right, and is this machine in the lab's network?"
        " On a GPU server, `lxc-gpu status` needs no page.",
        Remedy.WAIT,
        repr(error),
    )


def _no_page(page: str, details: str) -> LxcGpuError:
    return LxcGpuError(
        "page-strange",
        f"What answers at {page} is not a web page of lxc-gpu, or it is older than this command.",
        f"Try `curl -i {page}/monitor.json`; the address is the page's first one, where the servers"
        " are listed. If it is old: setup/web-server installs a newer one.",
        details=details,
    )


def _why(reason: object) -> str:
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return as_text(text, 200).rstrip(".")
