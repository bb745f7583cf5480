"""Each field of each request: what is inside its limits passes, what is outside is refused."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields, validate

from tests.unit import recorded
from worker.core.errors import InvalidRequest
from worker.core.providers.aimusic import fields as ours
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.providers.aimusic.submission import check_parameters

FIELDS = [
    (row.name, name, field)
    for row in OPERATIONS.values()
    for name, field in row.schema().fields.items()
]
# A request of each operation that passes.
BASES: dict[str, dict[str, Any]] = {}
for _case in sorted(recorded.cases("request.json"), reverse=True):
    _request = recorded.load(_case, "request.json")
    BASES[_request["operation"]] = _request["parameters"]


def refused(operation: str, **changes: Any) -> dict[str, Any]:
    """Return what is wrong with a request that passes but for some changes."""
    try:
        check_parameters(OPERATIONS[operation], BASES[operation] | changes)
    except InvalidRequest as error:
        return error.fields
    return {}


def of(field: Any, kind: type) -> Any:
    return next((v for v in field.validators if isinstance(v, kind)), None)


# -- at the limits ----------------------------------------------------------------------------


def ends(limits: validate.Range, whole: bool) -> tuple[list[float], list[float]]:
    """Return the last numbers inside a range, and the first outside of it."""

    def beyond(number: Any, way: float) -> float:
        return number + math.copysign(1, way) if whole else math.nextafter(number, way)

    inside, outside = [], []
    for end, way, inclusive in (
        (limits.min, -math.inf, limits.min_inclusive),
        (limits.max, math.inf, limits.max_inclusive),
    ):
        if end is not None:
            inside.append(end if inclusive else beyond(end, -way))
            outside.append(beyond(end, way) if inclusive else end)
    return inside, outside


def lengths(limits: validate.Length) -> tuple[list[int], list[int]]:
    """Return the shortest and longest length, and those next to them."""
    least, most = limits.min or limits.equal, limits.max or limits.equal
    inside = [n for n in (least, most) if n]
    outside = [least - 1] if least else []
    return inside, outside + ([most + 1] if most else [])


def limits(field: Any) -> Iterator[tuple[Any, bool]]:
    """Yield values at the limits of a field: each with whether it is to pass."""
    whole = isinstance(field, fields.Integer)
    if found := of(field, validate.Range):
        inside, outside = ends(found, whole)
        yield from [(n, True) for n in inside] + [(int(n) if whole else n, False) for n in outside]
    elif found := of(field, validate.Length):
        fit, unfit = lengths(found)
        for length, passes in [(n, True) for n in fit] + [(n, False) for n in unfit]:
            yield (one(field.inner) * length if is_list(field) else "é" * length), passes
    elif found := of(field, validate.OneOf):
        yield from ((choice, True) for choice in found.choices)
        yield from ((choice + "x", False) for choice in found.choices)


def is_list(field: Any) -> bool:
    return isinstance(field, fields.List)


def one(field: Any) -> list[str]:
    choices = of(field, validate.OneOf)
    return [choices.choices[0] if choices else "x"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_field_may_reach_its_limits_and_no_more(operation: str) -> None:
    for name, field in OPERATIONS[operation].schema().fields.items():
        for value, passes in limits(field):
            if passes:
                field.deserialize(value)
            else:
                assert name in refused(operation, **{name: value}), value


def test_the_limits_are_found_for_the_fields_that_have_some() -> None:
    with_limits = {(operation, name) for operation, name, field in FIELDS if [*limits(field)]}
    assert len(with_limits) > 150
    described = {(o, n) for o, n, field in FIELDS if of(field, validate.Range)}
    assert described <= with_limits


# -- anywhere ---------------------------------------------------------------------------------

URLS = ["https://files.example/a.mp3", "http://files.example:8080/a%20b.wav?x=1", "https://1.2.3.4"]
NO_URLS = ["", "files.example/a.mp3", "ftp://files.example/a.mp3", "file:///a.mp3", "https://"]


def inside(field: Any) -> st.SearchStrategy[Any]:
    """Draw what a field takes."""
    range_, length = of(field, validate.Range), of(field, validate.Length)
    match field:
        case fields.Boolean():
            return st.booleans()
        case fields.Integer():
            return st.integers(range_.min, range_.max)
        case fields.Float():
            return st.floats(
                range_.min, range_.max, exclude_min=not range_.min_inclusive,
                allow_nan=False, allow_infinity=False,
            )  # fmt: skip
        case fields.List():
            least, most = length.equal or length.min, length.equal or length.max or 9
            return st.lists(inside(field.inner), min_size=least, max_size=most)
        case fields.Url():
            return st.sampled_from(URLS)
    if choices := of(field, validate.OneOf):
        return st.sampled_from(choices.choices)
    least, most = (length.min or 0, length.max) if length else (0, None)
    return st.text(min_size=least, max_size=min(most or 40, 40))


def outside(field: Any) -> st.SearchStrategy[Any]:
    """Draw what a field does not take."""
    strange: st.SearchStrategy[Any] = st.sampled_from([{}, {"a": 1}, [[]], [None]])
    range_ = of(field, validate.Range)
    match field:
        case fields.Boolean():
            return strange | st.sampled_from(["true", "false", "1", "on", 2, -1, 0.5])
        case fields.Integer() | fields.Float():
            odd = strange | st.sampled_from([True, False, "1", "", math.nan, math.inf, 10**400])
            below = st.floats(max_value=range_.min, exclude_max=range_.min_inclusive)
            odd |= below if range_.min is not None else st.nothing()
            above = {"min_value": range_.max, "exclude_min": True}
            return odd | (st.floats(**above) if range_.max is not None else st.nothing())
        case fields.List():
            return st.sampled_from([{}, "x", 7, [], [""], [7], [None]])
        case fields.Url():
            return strange | st.sampled_from([*NO_URLS, 7])
    return strange | st.integers() | st.floats() | st.booleans()


@given(st.data(), st.sampled_from(FIELDS))
def test_what_is_inside_passes_as_it_is(data: Any, drawn: Any) -> None:
    _, _, field = drawn
    value = data.draw(inside(field))
    assert field.deserialize(value) == value


@given(st.data(), st.sampled_from(FIELDS))
def test_what_is_outside_is_refused_and_named(data: Any, drawn: Any) -> None:
    operation, name, field = drawn
    assert name in refused(operation, **{name: data.draw(outside(field))})


@given(st.data(), st.sampled_from(sorted(BASES)))
def test_all_that_is_wrong_is_named_at_once(data: Any, operation: str) -> None:
    schema = OPERATIONS[operation].schema().fields
    names = data.draw(st.sets(st.sampled_from(sorted(schema)))) if schema else set()
    changes = {name: data.draw(outside(schema[name])) for name in names}
    assert set(refused(operation, **changes, colour="red")) >= {*names, "colour"}


@pytest.mark.parametrize("operation", sorted(BASES))
def test_the_recorded_request_passes(operation: str) -> None:
    assert refused(operation) == {}


# -- the kinds of fields ----------------------------------------------------------------------


def test_a_number_stays_the_number_it_is() -> None:
    field = ours.number("x", 0, 1)
    assert [field.deserialize(n) for n in (0, 0.1, 1)] == [0, 0.1, 1]
    assert field.deserialize(sys.float_info.min) == sys.float_info.min


def test_a_number_above_its_limit_is_not_at_it() -> None:
    field = ours.number("x", above=0)
    assert field.deserialize(1e-9) == 1e-9
    with pytest.raises(ValidationError):
        field.deserialize(0)


def test_a_list_may_be_of_a_few_values() -> None:
    field = ours.several("x", of=("a", "b"))
    assert field.deserialize(["a", "b"]) == ["a", "b"]
    for wrong in ([], ["c"], ["a", 7], "a"):
        with pytest.raises(ValidationError):
            field.deserialize(wrong)


def test_a_model_may_be_left_out_of_the_choice() -> None:
    taken = of(ours.model(without=("-v3-5",)), validate.OneOf).choices
    assert set(ours.MODELS) - set(taken) == {"sonic-v3-5", "chirp-v3-5"}
    assert "v3-5" not in ours.model(without=("-v3-5",)).metadata["doc"]
