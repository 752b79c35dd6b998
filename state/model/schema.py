"""JSON Schemas of the state's files, so that editors complete and check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from state.model.layout import MODELS

_NAMES = {
    "fleet": "fleet",
    "server": "servers",
    "user": "users",
    "registration": "registrations",
    "announcement": "announcements",
}
FILES = {
    "fleet": ("fleet.yaml",),
    "server": ("servers/*.yaml",),
    "user": ("users/*.yaml", "former/*.yaml"),
    "registration": ("registrations/*/*.yaml",),
    "announcement": ("announcements/*.yaml",),
}
"""Which files each schema is for."""


def schemas() -> Mapping[str, dict[str, Any]]:
    """The schemas by name, each for one kind of file (JSON Schema 2020-12)."""
    models = {str(kind): model for kind, model in MODELS.items()}
    return {
        name: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **models[kind].model_json_schema(),
        }
        for name, kind in _NAMES.items()
    }
