"""From a source to the one clip it means."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import InvalidRequest
from worker.core.sources import choose


def clip(clip_id: str, state: str = "succeeded") -> dict[str, Any]:
    return {"clip_id": clip_id, "state": state, "title": "t"}


def result(*clips: Any) -> dict[str, Any]:
    return {"job_id": "job-1", "clips": list(clips), "data": {}}


@pytest.mark.parametrize("pick", [None, 3, "a"])
def test_no_source_is_no_clip(pick: Any) -> None:
    with pytest.raises(InvalidRequest, match="NoneType"):
        choose(None, pick)


@pytest.mark.parametrize(
    "source",
    ["a", clip("a"), {"clip_id": "a"}, result(clip("a"), clip("b")), [clip("a"), clip("b")],
     ["a", "b"], [result(clip("a")), result(clip("b"))], [[["a"]]], result(["a"])],
    ids=repr,
)  # fmt: skip
def test_a_source_means_its_first_clip_whatever_its_form(source: Any) -> None:
    assert choose(source) == "a"


def test_the_first_clip_that_succeeded_is_chosen() -> None:
    source = result(clip("a", "failed"), clip("b", "running"), clip("c"), clip("d"))
    assert choose(source) == "c"


@pytest.mark.parametrize(("pick", "chosen"), [(0, "a"), (1, "b"), (-1, "b"), (-2, "a")])
def test_pick_counts_from_either_end(pick: int, chosen: str) -> None:
    assert choose(result(clip("a"), clip("b")), pick) == chosen


def test_pick_may_name_the_clip() -> None:
    assert choose([result(clip("a")), result(clip("b"))], "b") == "b"


def test_a_clip_that_is_picked_need_not_have_succeeded() -> None:
    assert choose(result(clip("a", "failed"), clip("b")), 0) == "a"
    assert choose(result(clip("a", "failed"), clip("b")), "a") == "a"


@pytest.mark.parametrize("pick", [2, -3, "c", ""])
def test_a_pick_that_fits_no_clip_is_an_error_that_counts_them(pick: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"2 clips in all") as raised:
        choose(result(clip("a"), clip("b")), pick)
    assert repr(pick) in raised.value.message


@pytest.mark.parametrize("source", [[], result(), result(clip("a", "failed"))])
def test_a_source_without_a_clip_that_succeeded_is_an_error(source: Any) -> None:
    with pytest.raises(InvalidRequest, match="no clip that succeeded"):
        choose(source)


@pytest.mark.parametrize(
    "source", ["", 7, True, {}, {"clip_id": 7}, {"clips": "a"}, [None], [clip("a"), 7], [""]]
)
def test_a_source_of_another_form_is_an_error_that_names_the_type(source: Any) -> None:
    with pytest.raises(InvalidRequest, match="source must be"):
        choose(source)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["clips", "clip_id", "state"]), inner)
    ),
    max_leaves=12,
)


@given(anything, st.none() | st.integers(-5, 5) | st.text(max_size=5))
def test_whatever_the_source_a_clip_id_is_chosen_or_one_error_is_raised(
    source: Any, pick: Any
) -> None:
    try:
        chosen = choose(source, pick)
    except InvalidRequest:
        return
    assert isinstance(chosen, str)
    assert chosen
