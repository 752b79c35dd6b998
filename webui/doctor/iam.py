"""What the checks of the web machine look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from state.git.repository import Repository
from state.model.documents import State
from webui.config import WebConfig


@dataclass(frozen=True)
class Iam:
    """This machine, its configuration, and what the command line asked for."""

    config: WebConfig
    login: str = ""
    """The login that was asked about, if any."""
    mail: str = ""
    """The address for a test letter, if one was asked for."""

    @property
    def local(self) -> Path | None:
        """The state repository's folder; None if it is on another machine."""
        return Path(self.config.repository) if self.config.repository.startswith("/") else None

    @cached_property
    def state(self) -> State:
        """The newest state. LxcGpuError if it can't be read."""
        repository = Repository(self.local or self.config.clone)
        return repository.read(repository.tip())
