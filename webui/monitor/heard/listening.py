"""Listens to the loads of all servers, each in a lane of its own, so that none holds up others."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event, Thread

from state.errors import LxcGpuError, Remedy
from state.wire.server_load import ServerLoad
from webui import background, events
from webui.events import Code
from webui.monitor.heard.latest import Latest
from webui.servers.contact import Target

log = logging.getLogger(__name__)

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
"""Seconds until a silent server is asked again: doubled each time, and varied by a quarter."""
STEADY = 60.0
"""Seconds after which the end of a stream is normal: servers end each one after an hour."""
SPREAD = 0.05
"""Seconds for each server over which the first connections are spread."""

Contact = Callable[[Target], Generator[ServerLoad, None, None]]
Heard = Callable[[str, ServerLoad], None]


class Listeners:
    """Listens to the state's servers, also to those that are added later."""

    def __init__(
        self,
        targets: Callable[[], Mapping[str, Target]],
        contact: Contact,
        latest: Latest,
        heard: Heard,
    ) -> None:
        """`heard` is called with each load, in its server's own thread."""
        self._targets = targets
        self._contact = contact
        self._latest = latest
        self._heard = heard
        self._lanes: dict[str, _Lane] = {}
        self._stop = Event()

    def watch(self, look_every: float) -> None:
        """Listen in the background until `stop`.

        The state is looked at for new servers every `look_every` seconds.
        """
        background.every(look_every, "listeners", self.look, self._stop)

    def stop(self) -> None:
        """End `watch`. Open streams end with their next load."""
        self._stop.set()
        for lane in list(self._lanes.values()):
            lane.stop.set()

    def look(self) -> None:
        """Begin to listen to servers that are new or have moved; end it for removed ones.

        LxcGpuError if a thread can't be started; then the rest of them follow at the next call.
        """
        targets = self._targets()
        for name, lane in list(self._lanes.items()):
            died = lane.is_over()
            if died:
                lane.tell_silence(_mistake())
            if died or targets.get(name) != lane.target:
                lane.stop.set()
                del self._lanes[name]
        self._latest.keep_only(targets.keys())
        spread = SPREAD * len(targets)
        for name in targets.keys() - self._lanes.keys():
            lane = _Lane(targets[name], self._contact, self._latest, self._heard)
            lane.begin(random.uniform(0, spread))  # noqa: S311 # no secret
            self._lanes[name] = lane


@dataclass
class _Lane:
    """One server, at one address with one host key."""

    target: Target
    contact: Contact
    latest: Latest
    heard: Heard
    stop: Event = field(default_factory=Event)
    _silent: str = ""
    """The error code that was logged last; empty while the server is heard."""
    _thread: Thread | None = None

    def begin(self, first: float) -> None:
        """Listen in the background until `stop`, beginning in `first` seconds.

        LxcGpuError if the thread can't be started.
        """
        self._thread = background.start(f"load {self.target.name}", lambda: self._run(first))

    def is_over(self) -> bool:
        """Whether the thread has ended."""
        return self._thread is None or not self._thread.is_alive()

    def _run(self, first: float) -> None:
        pause = FIRST_PAUSE
        self.stop.wait(first)
        while not self.stop.is_set():
            began = time.monotonic()
            error = self._listen()
            steady = time.monotonic() - began >= STEADY
            if steady:
                pause = FIRST_PAUSE
            if steady and error is None:
                continue
            if self.stop.is_set():
                return
            error = error or _ended(self.target)
            self.tell_silence(error)
            if error.code == "load-flood":
                pause = LONGEST_PAUSE
            self.stop.wait(pause * random.uniform(0.75, 1.25))  # noqa: S311 # no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    def _listen(self) -> LxcGpuError | None:
        """Receive one stream until it ends; the error, if there was one."""
        try:
            with closing(self.contact(self.target)) as loads:
                for load in loads:
                    if self.stop.is_set():
                        return None
                    self.heard(self.target.name, load)
                    self._tell_voice()
        except LxcGpuError as error:
            return error
        except Exception:
            events.crashed(log, f"load of {self.target.name}")
            return _mistake()
        return None

    def tell_silence(self, error: LxcGpuError) -> None:
        """Note that the server is silent, and why. The journal gets each code once."""
        self.latest.silent(self.target.name, error)
        if error.code != self._silent:
            said = {"server": self.target.name, "code": error.code}
            events.warning(log, Code.LOAD_SILENT, **said, details=error.details or error.message)
        self._silent = error.code

    def _tell_voice(self) -> None:
        if self._silent:
            events.info(log, Code.LOAD_HEARD, server=self.target.name)
        self._silent = ""


def _ended(target: Target) -> LxcGpuError:
    return LxcGpuError(
        "load-ended",
        f"{target.name} ended the stream of its load right after it began.",
        f"On {target.name}, `journalctl -t lxc-gpu` may tell why.",
        Remedy.WAIT,
    )


def _mistake() -> LxcGpuError:
    return LxcGpuError(
        "load-mistake",
        "An error in the web page ended the listening to this server.",
        "The page's journal tells more: `journalctl -u lxc-gpu-web`.",
    )
