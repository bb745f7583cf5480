"""Only a JSON object that every process can read is read at all."""

import json

import pytest

from worker.core.errors import InvalidPayload
from worker.core.wire import parse


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ('{"a":[', "]}")])
def test_what_is_nested_deeper_than_100_levels_is_not_read(opening: str, closing: str) -> None:
    levels = opening.count("{") + opening.count("[")
    fits = opening * (100 // levels) + "1" + closing * (100 // levels)
    assert "a" in parse(fits)
    with pytest.raises(InvalidPayload, match="deeper than 100"):
        parse(opening + fits + closing)


def test_brackets_in_a_text_are_no_levels() -> None:
    assert parse(json.dumps({"lyrics": "[Verse] {hold} " * 100}))["lyrics"]
