"""What sysadmins tell everybody, as a file of the state: announcements/NAME.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from state.model.fields import Model, Moment, seconds_of


def _words(text: str) -> str:
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise ValueError("must be one line of words, without blanks around it")
    return text


class Announcement(Model):
    """Words for everybody, from when they are in the state until they are over."""

    text: Annotated[str, Field(max_length=500), AfterValidator(_words)]
    servers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The servers that it concerns; None: all."""
    begins: Moment | None = Field(default=None, alias="from")
    """From when what it speaks of holds; it is told before, too."""
    until: Moment
    stop: bool = Field(default=False, strict=True)
    """Whether containers are shut down from its beginning to its end."""

    @model_validator(mode="after")
    def _in_order(self) -> Announcement:
        if self.stop and self.begins is None:
            raise ValueError("`stop: true` needs `from`: when containers are to be shut down")
        if self.begins is not None and seconds_of(self.begins) >= seconds_of(self.until):
            raise ValueError(f"`from` ({self.begins}) must be before `until` ({self.until})")
        return self

    def concerns(self, server: str) -> bool:
        """Whether it is about this server."""
        return self.servers is None or server in self.servers
