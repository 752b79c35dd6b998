"""What the checks of the IAM machine are about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from state.git.repository import Repository
from state.model.documents import State
from webui.config import WebConfig


@dataclass(frozen=True)
class Iam:
    """This machine, as it is configured."""

    config: WebConfig
    login: str = ""
    """Whose login is asked about, if anybody's."""
    mail: str = ""
    """Where a letter is sent to, if one is asked for."""

    @property
    def local(self) -> Path | None:
        """The state repository's folder, if it is on this machine and not at a forge."""
        return Path(self.config.repository) if self.config.repository.startswith("/") else None

    @cached_property
    def state(self) -> State:
        """The newest state. LxcGpuError if there is none that can be read."""
        repository = Repository(self.local or self.config.clone)
        return repository.read(repository.tip())
