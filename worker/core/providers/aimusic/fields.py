"""Request fields: the values that each takes, with unit and limit, for people and programs.

The limits are the provider's (provider-api.md §3, provider-api-2.md §3). Where its pages
contradict each other and neither is newer, the wider limit stands.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

_MODEL_IDS = ("v3-5", "v4", "v4-5", "v4-5-plus", "v5", "v5-5", "v6", "v6-wild", "v6-mini")
MODELS: Final = tuple(f"{family}-{id_}" for family in ("sonic", "chirp") for id_ in _MODEL_IDS)
"""Both spellings are accepted (provider-api.md §1, §3.1)."""

SHORT_TEXT_MODELS: Final = tuple(m for m in MODELS if m.endswith(("-v3-5", "-v4")))


Wrong = tuple[str, str]
"""A field, and what is wrong with it."""


class RequestSchema(Schema):
    """Base of every request: an unknown field is an error that names it."""

    class Meta:
        unknown = RAISE

    def rules(self, data: Mapping[str, Any]) -> Iterator[Wrong]:
        """Yield the conflicts between fields that are each right in themselves."""
        yield from ()

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def _apply_rules(self, data: Mapping[str, Any], given: Mapping[str, Any], **_: Any) -> None:
        wrong: dict[str, list[str]] = {}
        # A text that failed its own check is not in ``data``, but it was given. A stand-in keeps
        # the rules from reporting it as missing too.
        texts = {name for name, each in self.fields.items() if isinstance(each, fields.String)}
        stand_ins = dict.fromkeys(texts & given.keys() - data.keys(), "…")
        for name, why in self.rules({**data, **stand_ins}):
            wrong.setdefault(name, []).append(why)
        if wrong:
            raise ValidationError(wrong)


class Nothing(RequestSchema):
    """A request without parameters."""


def text(doc: str, *, limit: int | None = None, least: int = 0, **options: Any) -> fields.String:
    """Take a text of up to ``limit`` characters."""
    length = validate.Length(min=least or None, max=limit) if limit or least else None
    return fields.String(validate=length, metadata={"doc": doc}, **options)


def choice(doc: str, *values: str, **options: Any) -> fields.String:
    """Take one of a few values."""
    return fields.String(validate=validate.OneOf(values), metadata={"doc": doc}, **options)


def flag(doc: str, **options: Any) -> fields.Boolean:
    """Take true and false alone: the provider answers 400 to any other spelling."""
    return fields.Boolean(
        truthy={True},
        falsy={False},
        error_messages={"invalid": "Must be true or false."},
        metadata={"doc": doc},
        **options,
    )


class _Number(fields.Float):
    """A JSON number, not a text that looks like one, nor a boolean."""

    def _validated(self, value: Any) -> float:
        if isinstance(value, bool | str):
            raise self.make_error("invalid", input=value)
        return float(super()._validated(value))


def number(
    doc: str,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    unit: str = "",
    **options: Any,
) -> fields.Float:
    """Take a number from ``low`` to ``high``, or greater than ``above``."""
    lowest = low if above is None else above
    limits = validate.Range(lowest, high, min_inclusive=above is None)
    return _Number(validate=limits, metadata={"doc": doc, "unit": unit}, **options)


def whole(doc: str, low: int, high: int, *, unit: str = "") -> fields.Integer:
    """Take a whole number from ``low`` to ``high``."""
    limits = validate.Range(low, high)
    return fields.Integer(strict=True, validate=limits, metadata={"doc": doc, "unit": unit})


def ratio(doc: str) -> fields.Float:
    """Take a number from 0 to 1."""
    return number(doc, 0, 1)


def several(
    doc: str,
    *,
    exactly: int | None = None,
    limit: int | None = None,
    of: tuple[str, ...] = (),
    **options: Any,
) -> "fields.List[str]":
    """Take a list of texts: of exactly so many, up to so many, or out of a few values."""
    each = fields.String(validate=validate.OneOf(of) if of else validate.Length(min=1))
    length = validate.Length(equal=exactly) if exactly else validate.Length(1, limit)
    return fields.List(each, validate=length, metadata={"doc": doc}, **options)


def clip(doc: str = "the clip, where it is not the source", **options: Any) -> fields.String:
    """Take the id of a clip."""
    return text(doc, least=1, **({"required": True} | options))


def public_url(doc: str, **options: Any) -> fields.Url:
    """Take a public address of a file: the provider downloads it itself."""
    options = {"required": True} | options
    return fields.Url(schemes={"http", "https"}, metadata={"doc": doc}, **options)


def model(*, without: tuple[str, ...] = ()) -> fields.String:
    """Take a model of the sonic family, in either spelling."""
    values = [name for name in MODELS if not name.endswith(without)] if without else MODELS
    ids = ", ".join(id_ for id_ in _MODEL_IDS if f"sonic-{id_}" in values)
    return choice(f"the model: `sonic-` or `chirp-` and {ids}", *values, load_default="sonic-v5")


# -- rules over several fields: each yields what is wrong, as (field, message)


def require(data: Mapping[str, Any], name: str, when: str) -> Iterator[Wrong]:
    """Want a field to be given, and not empty."""
    if not data.get(name):
        yield name, f"Required {when}."


def at_most(data: Mapping[str, Any], name: str, limit: int, when: str) -> Iterator[Wrong]:
    """Want a text to keep to a limit that depends on other fields."""
    if len(data.get(name) or "") > limit:
        yield name, f"Longer than {limit}, the limit {when}."


def in_order(data: Mapping[str, Any], start: str, end: str) -> Iterator[Wrong]:
    """Want one time in the song to come after another."""
    if start in data and end in data and data[end] <= data[start]:
        yield end, f"Must be greater than {start}."


def within(data: Mapping[str, Any], start: str, end: str, limit: float) -> Iterator[Wrong]:
    """Want two times in the song to be no further apart than a limit."""
    if start in data and end in data and data[end] - data[start] > limit:
        yield end, f"Must be at most {limit:g} s after {start}."


def one_of(data: Mapping[str, Any], *names: str, exactly: bool = False) -> Iterator[Wrong]:
    """Want at least (or exactly) one of some fields."""
    given = [name for name in names if data.get(name)]
    if not given:
        yield names[0], f"One of {', '.join(names)} is required."
    if exactly and len(given) > 1:
        yield given[1], f"Give only one of {', '.join(names)}."
