"""Our schema and the simulator's validator, written apart from the same documents, agree.

The simulator is the provider here: it never saw our schemas. What we send it must take; what it
takes we must not refuse, but for ranges that make no sense, which we refuse on purpose.
"""

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError, fields, missing, validate

from simulator.replies import Refused
from simulator.settings import Settings
from simulator.validation import check, find_operation
from worker.core.providers.aimusic.operations import OPERATIONS, Operation

PROVIDER = Settings(riffusion="working", require_use_suno_cdn=True)
# Nuro is gone for good: its genres and moods, some 150 words, are the provider's to check.
CHECKED = [row for row in OPERATIONS.values() if row.method == "POST" and row.family != "nuro"]
TEXT_LENGTHS = (1, 79, 80, 81, 119, 120, 200, 201, 400, 401, 1000, 1001, 2001, 3000, 3001, 5000)
# Pairs that the provider takes in any order, and negative; part B asks for ranges that make sense.
SENSE = (
    ("overpainting_start_s", "overpainting_end_s"),
    ("vocal_start_s", "vocal_end_s"),
    ("replace_start_time", "replace_end_time"),
)


def values(field: Any) -> st.SearchStrategy[Any]:
    """Values of a field at, inside and outside of its limits."""
    return st.one_of(st.sampled_from(sorted(set(_edges(field)), key=repr)), _plain(field))


def _edges(field: Any) -> Iterator[Any]:
    for limits in field.validators:
        if isinstance(limits, validate.OneOf):
            yield from (*limits.choices, "nonsense")
        if isinstance(limits, validate.Range):
            for edge in (limits.min, limits.max):
                if edge is not None:
                    yield from (edge, edge - 1, edge + 1)
        if isinstance(limits, validate.Length) and isinstance(field, fields.String):
            yield from ("x" * n for n in (limits.min, limits.max) if n)
            yield from ("x" * (limits.max + 1) for _ in range(1) if limits.max)
    yield from _wrong(field)


def _wrong(field: Any) -> Iterator[Any]:
    yield "true" if isinstance(field, fields.Boolean) else True
    if isinstance(field, fields.Url):
        yield from ("https://example.com/a.mp3", "no address", "ftp://example.com/a.mp3")


def _plain(field: Any) -> st.SearchStrategy[Any]:
    if isinstance(field, fields.Boolean):
        return st.booleans()
    if isinstance(field, fields.Integer):
        return st.integers(-5, 400)
    if isinstance(field, fields.Float):
        return st.integers(-5, 400) | st.floats(-2, 2, width=32)
    if isinstance(field, fields.List):
        return st.lists(st.sampled_from([str(uuid.UUID(int=n)) for n in range(3)]), max_size=6)
    if isinstance(field, fields.Url):
        return st.just("https://example.com/song.mp3")
    return st.sampled_from(["x" * n for n in TEXT_LENGTHS])


@st.composite
def requests(draw: Any, row: Operation) -> dict[str, Any]:
    """Bodies in which most fields are right, so that the wrong ones are met one by one."""
    body: dict[str, Any] = {}
    for name, field in row.schema().fields.items():
        chance = 9 if field.required else 3
        if draw(st.integers(0, 9)) < chance:
            body[name] = draw(values(field))
    for name in {"bpm", *itertools.chain(*SENSE)} & set(body):
        if isinstance(body[name], int | float) and body[name] <= 0:
            del body[name]
    for start, end in SENSE:
        moments: list[Any] = [body.get(start), body.get(end)]
        if all(isinstance(moment, int | float) for moment in moments):
            body[start], body[end] = min(moments), max(moments) + 1
    return body


def ours(row: Operation, body: dict[str, Any]) -> dict[str, Any] | None:
    """What we would send; None where we refuse."""
    try:
        return dict(row.schema().load(body))
    except ValidationError:
        return None


def theirs(row: Operation, body: dict[str, Any]) -> str | None:
    """Why the provider refuses; None where it does not."""
    try:
        check(find_operation(row.path, body, PROVIDER), body, PROVIDER)
    except Refused as refused:
        return str(refused.message)
    return None


@pytest.mark.parametrize("row", CHECKED, ids=[row.name for row in CHECKED])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_we_send_is_taken_and_what_is_taken_we_send(row: Operation, data: Any) -> None:
    body = data.draw(requests(row))
    sent = ours(row, body)
    if sent is not None:
        assert theirs(row, sent | dict(row.fixed)) is None
        return
    defaults = {
        name: field.load_default
        for name, field in row.schema().fields.items()
        if field.load_default is not missing
    }
    assert theirs(row, defaults | body | dict(row.fixed)) is not None
