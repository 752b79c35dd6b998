"""The web page: people save their ssh keys here, and see when each server has them.

Of our packages, it imports only `state`. It talks to servers over ssh, as a person would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from webui.config import WebConfig
    from webui.services import Services


def create_app(config: WebConfig, parts: Services | None = None) -> Flask:
    """The application for `config`. Tests replace the services behind the pages by `parts`."""
    from webui.application import build

    return build(config, parts)
