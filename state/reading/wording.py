"""What pydantic finds wrong, in words for people who have never heard of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from state.reading.problems import BrokenRule, Place

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


def broken_rules(
    path: str, model: type[BaseModel], error: ValidationError
) -> tuple[BrokenRule, ...]:
    """Every single thing in `error`, which came up when the file at `path` was read as `model`."""
    return tuple(
        BrokenRule(path, tuple(each["loc"]), _sentence(model, each))
        for each in error.errors(include_url=False, include_input=False)
    )


def _sentence(model: type[BaseModel], each: Mapping[str, Any]) -> str:
    place: Place = tuple(each["loc"])
    kind, context = each["type"], each.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(model, place)
    if kind == "missing":
        return f"`{_named(place)}` is missing"
    words = _WORDS.get(kind)
    if kind == "value_error":
        said = str(context.get("error", "")) or "is not valid"
    elif words is not None:
        said = words(context)
    else:
        said = str(each["msg"])[:1].lower() + str(each["msg"])[1:]
    return f"{_named(place)}: {said}" if place else said


def _unknown(model: type[BaseModel], place: Place) -> str:
    name = str(place[-1])
    known = list(_fields_at(model, place[:-1]))
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean `{close[0]}`?)" if close else f" (known are: {', '.join(known)})"
    return f"unknown field `{_named(place)}`{hint if known else ''}"


def _fields_at(model: type[BaseModel], place: Place) -> tuple[str, ...]:
    """The names of the fields that `model` knows at `place`."""
    from pydantic import BaseModel

    def models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return (annotation,)
        inner = getattr(annotation, "__args__", ())
        return tuple(found for each in inner for found in models_in(each))

    at: tuple[type[BaseModel], ...] = (model,)
    for step in place:
        if isinstance(step, str):
            fields = (
                field
                for each in at
                for name, field in each.model_fields.items()
                if step == (field.alias or name)
            )
            at = tuple(m for f in fields for m in models_in(f.annotation))
    return tuple(f.alias or name for each in at for name, f in each.model_fields.items())


def _named(place: Place) -> str:
    """`uids.first`, or `keys, entry 2`: entries count from 1 for people."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f", entry {step + 1}"
        else:
            text += f".{step}" if text and not text[-1].isdigit() else f" {step}" if text else step
    return text


def _at_least(context: Mapping[str, Any]) -> str:
    return f"must be at least {context['ge']}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "int_type": lambda c: "must be a whole number",
    "int_from_float": lambda c: "must be a whole number",
    "float_type": lambda c: "must be a number",
    "bool_type": lambda c: "must be true or false",
    "string_type": lambda c: "must be text; put it in quotes if it looks like a number",
    "too_short": lambda c: "must not be empty",
    "tuple_type": lambda c: "must be a list; an empty one is written []",
    "list_type": lambda c: "must be a list; an empty one is written []",
    "dict_type": lambda c: "must have fields of its own, not one value",
    "model_type": lambda c: "must have fields of its own, not one value",
    "model_attributes_type": lambda c: "must have fields of its own, not one value",
    "literal_error": lambda c: f"must be {c['expected']}",
    "greater_than_equal": _at_least,
    "greater_than": lambda c: f"must be above {c['gt']}",
    "less_than_equal": lambda c: f"must be at most {c['le']}",
    "less_than": lambda c: f"must be below {c['lt']}",
    "string_too_short": lambda c: "must not be empty",
    "string_too_long": lambda c: f"must be at most {c['max_length']} characters long",
    "too_long": lambda c: f"must have at most {c['max_length']} entries",
    "string_pattern_mismatch": lambda c: f"must look like {c['pattern'].strip('^$')}",
    "ip_v4_address": lambda c: "must be an IPv4 address, such as 172.16.2.17",
    "ip_v4_network": lambda c: "must be an IPv4 network, such as 10.77.0.0/16, its host bits zero",
}
