"""From a source to the parameters it stands for: a clip, two clips, lyrics, a persona."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import InvalidRequest
from worker.core.providers.aimusic.operations import OPERATIONS, Operation
from worker.core.providers.aimusic.signatures import parameters
from worker.core.providers.aimusic.sources import choose, read
from worker.core.providers.aimusic.submission import check_parameters


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


KEYS = ["clips", "clip_id", "state", "data", "persona_id", "results"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["clips", "clip_id", "state", "data", "persona_id", "results"]), inner
        )
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


# -- what an operation takes from it ----------------------------------------------------------

LYRICS = {
    "clips": [],
    "data": {"results": [{"title": "A", "lyrics": "one"}, {"title": "B", "lyrics": "two"}]},
}
VOX = result(clip("a")) | {"data": {"vox_audio_id": "v-1", "status": "ready"}}
PERSONA = result(clip("a")) | {"data": {"persona_id": "p-1"}}
VOICE = {"clips": [], "data": {"persona_id": "p-2", "name": "Ada"}}


def taken(name: str, source: Any, pick: Any = None) -> dict[str, Any]:
    return read(OPERATIONS[name], source, pick)


@pytest.mark.parametrize(
    "operation",
    [row for row in OPERATIONS.values() if row.clip_field and row.clips == 1],
    ids=lambda row: row.name,
)
def test_every_operation_on_a_clip_takes_it_from_its_source(operation: Operation) -> None:
    source = result(clip("a", "failed"), clip("b"))
    assert read(operation, source) == {operation.clip_field: "b"}
    assert read(operation, source, 0) == {operation.clip_field: "a"}


@pytest.mark.parametrize(("pick", "title", "words"), [(None, "A", "one"), (0, "A", "one"),
                                                      (1, "B", "two")])  # fmt: skip
def test_lyrics_become_a_song(pick: Any, title: str, words: str) -> None:
    assert taken("sonic.create_music", LYRICS, pick) == {"prompt": words, "title": title}
    assert taken("producer.create_music", LYRICS, pick) == {"lyrics": words, "title": title}


def test_lyrics_without_a_title_are_still_lyrics() -> None:
    source = {"data": {"results": [{"lyrics": "one"}]}}
    assert taken("sonic.create_music", source) == {"prompt": "one"}


@pytest.mark.parametrize("pick", [-1, 2, -3, "B", ""])
def test_a_pick_that_fits_no_lyrics_is_an_error(pick: Any) -> None:
    with pytest.raises(InvalidRequest):
        taken("sonic.create_music", LYRICS, pick)


def test_voices_become_a_persona_of_the_same_clip() -> None:
    wanted = {"clip_id": "a", "vox_audio_id": "v-1"}
    assert taken("sonic.create_persona", VOX) == wanted
    assert taken("sonic.create_persona", "a") == {"clip_id": "a"}


@pytest.mark.parametrize(("source", "persona"), [(PERSONA, "p-1"), (VOICE, "p-2")])
def test_a_persona_sings(source: Any, persona: str) -> None:
    assert taken("sonic.persona_music", source) == {"persona_id": persona}


def test_a_mashup_takes_a_clip_of_each_of_two_results() -> None:
    source = [result(clip("a"), clip("b")), result(clip("c", "failed"), clip("d"))]
    assert taken("sonic.mashup", source) == {"mashup_clip_ids": ["a", "d"]}
    assert taken("sonic.mashup", source, 1) == {"mashup_clip_ids": ["b", "d"]}
    assert taken("sonic.mashup", ["a", clip("b")]) == {"mashup_clip_ids": ["a", "b"]}


@pytest.mark.parametrize("source", ["a", result(clip("a")), ["a"], ["a", "b", "c"]])
def test_a_mashup_of_another_number_of_clips_is_an_error(source: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_parameters(
            OPERATIONS["sonic.mashup"],
            {"custom_mode": True, "mv": "sonic-v5", "prompt": "x"},
            source=source,
        )
    assert set(raised.value.fields) == {"mashup_clip_ids"}


def test_the_joined_song_is_what_a_chain_goes_on_with() -> None:
    joined = clip("joined") | {"part": "full"}
    assert taken("sonic.wav", result(joined, clip("section") | {"part": "replaced"})) == {
        "clip_id": "joined"
    }


def test_clips_without_an_id_are_passed_over() -> None:
    # A producer download is an address alone.
    source = result({"clip_id": None, "state": "succeeded"}, clip("a"))
    assert choose(source) == "a"


NOTHING: list[Any] = [
    "a", clip("a"), result(clip("a")), LYRICS["clips"], {"data": None}, {"data": {"results": []}},
    {"data": {"results": [None]}}, {"data": {"results": "one"}}, {"data": [{"persona_id": "p"}]},
    [PERSONA], 7, {},
]  # fmt: skip


@pytest.mark.parametrize("source", NOTHING, ids=repr)
@pytest.mark.parametrize("name", ["sonic.create_music", "sonic.persona_music"])
def test_a_source_that_brings_nothing_is_an_error_that_says_what_is_missing(
    name: str, source: Any
) -> None:
    with pytest.raises(InvalidRequest, match=r"brings no \w+.* for .*\.si\(") as raised:
        taken(name, source)
    assert all(wanted in raised.value.message for wanted in OPERATIONS[name].carries)


@pytest.mark.parametrize(
    "operation",
    [row for row in OPERATIONS.values() if not row.clip_field and not row.carries],
    ids=lambda row: row.name,
)
def test_an_operation_that_takes_no_source_says_so(operation: Operation) -> None:
    with pytest.raises(InvalidRequest, match=r"takes no source; in a chain, use \.si\("):
        read(operation, result(clip("a")))


def test_what_is_given_by_name_wins_over_what_is_carried() -> None:
    row, song = OPERATIONS["sonic.create_music"], {"custom_mode": True, "title": "Mine"}
    body = check_parameters(row, song, source=LYRICS)
    assert (body["title"], body["prompt"]) == ("Mine", "one")


@pytest.mark.parametrize(
    ("name", "given"),
    [("sonic.persona_music", {"custom_mode": True, "prompt": "x"}),
     ("sonic.create_persona", {"name": "Ada"}), ("sonic.mashup", {"custom_mode": True})],
)  # fmt: skip
def test_a_source_that_is_wrong_is_the_only_error_it_causes(
    name: str, given: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_parameters(OPERATIONS[name], given, source={"clips": []})
    assert set(raised.value.fields) == {"source"}


@given(st.sampled_from(list(OPERATIONS.values())), anything, st.none() | st.integers(-5, 5))
def test_whatever_the_source_its_parameters_are_read_or_one_error_is_raised(
    operation: Operation, source: Any, pick: Any
) -> None:
    try:
        found = read(operation, source, pick)
    except InvalidRequest:
        return
    assert found
    assert set(found) <= {each.name for each in parameters(operation)}


def test_an_empty_clip_id_is_no_clip() -> None:
    with pytest.raises(InvalidRequest):
        choose({"clip_id": ""})
