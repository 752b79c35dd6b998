"""The web page: people put their ssh keys into the state here, and see how the servers take them.

It imports `state` only. It talks to servers over ssh, as a person would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from webui.config import WebConfig
    from webui.services import Services


def create_app(config: WebConfig, parts: Services | None = None) -> Flask:
    """The application for `config`; `parts` replaces what stands behind the pages, in tests."""
    from webui.application import build

    return build(config, parts)
