"""What we say to the provider: parameters checked before they cost anything."""

import uuid
from datetime import date
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import recorded
from worker.core.errors import InvalidRequest
from worker.core.job.models import ProviderTaskId
from worker.core.providers.aimusic import fields as known
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.providers.aimusic.submission import build_poll, build_request, check_parameters
from worker.core.wire import Request, Webhook

CLIP = "11111111-1111-4111-8111-111111111111"
CREATE = OPERATIONS["sonic.create_music"]
REMASTER = OPERATIONS["sonic.remaster"]
WAV = OPERATIONS["sonic.wav"]
CREDITS = OPERATIONS["account.credits"]
WEBHOOK = Webhook("https://fermata.example/webhooks/aimusic/job-1", "0" * 64)
SONG = {"custom_mode": True, "mv": "sonic-v5", "prompt": "[Verse]\nHello"}
SHORT = sorted(m for m in known.MODELS if m.endswith(("-v3-5", "-v4")))
LONG = sorted(set(known.MODELS) - set(SHORT))


def wrong(operation: Any, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the wrong fields of a request, which must have some."""
    with pytest.raises(InvalidRequest) as raised:
        check_parameters(operation, parameters, **more)
    assert all(name in raised.value.message for name in raised.value.fields)
    return raised.value.fields


# -- on the wire ------------------------------------------------------------------------------

REMASTERED = {"continue_clip_id": CLIP, "mv": "chirp-v5", "variation_category": "subtle"}


@pytest.mark.parametrize("case", sorted(recorded.cases("request.json")))
def test_a_request_is_the_documented_one(case: str) -> None:
    wanted = recorded.load(case, "request.json")
    operation = OPERATIONS[wanted["operation"]]
    body = check_parameters(operation, wanted["parameters"])
    built = build_request(operation, body, WEBHOOK if operation.called_back else None)
    assert (built.method, built.path) == (wanted["method"], wanted["path"])
    assert built.body == wanted["body"]
    assert built.timeout_seconds == operation.submit_seconds


def test_every_operation_has_a_documented_request() -> None:
    recordings = [recorded.load(c, "request.json") for c in recorded.cases("request.json")]
    assert {each["operation"] for each in recordings} == set(OPERATIONS)


def test_the_recorded_requests_use_every_field_of_these() -> None:
    used: dict[str, set[str]] = {}
    for case in recorded.cases("request.json"):
        wanted = recorded.load(case, "request.json")
        used.setdefault(wanted["operation"], set()).update(wanted["parameters"])
    assert used["sonic.create_persona"] == set(OPERATIONS["sonic.create_persona"].schema().fields)
    assert used["sonic.vox"] == set(OPERATIONS["sonic.vox"].schema().fields)
    assert used["sonic.download"] == set(OPERATIONS["sonic.download"].schema().fields)
    create = set(CREATE.schema().fields)
    assert create - used["sonic.create_music"] == {"use_suno_cdn"}


def test_the_documented_remaster_is_sent_as_its_page_has_it() -> None:
    sent = check_parameters(REMASTER, REMASTERED)
    assert sent["mv"] == "chirp-v5"
    assert sent["task_type"] == "remaster"
    assert sent["variation_category"] == "subtle"
    assert sent["continue_clip_id"] == CLIP


def test_a_request_does_not_show_its_webhook_secret() -> None:
    built = build_request(REMASTER, check_parameters(REMASTER, REMASTERED), WEBHOOK)
    assert WEBHOOK.secret not in repr(built) + repr(WEBHOOK)


def test_an_operation_without_a_webhook_sends_none() -> None:
    body = build_request(WAV, {"clip_id": CLIP}, None).body
    assert body == {"clip_id": CLIP}


def test_a_poll_asks_for_the_provider_task() -> None:
    poll = build_poll(CREATE, ProviderTaskId("22222222-2222-4222-8222-222222222222"))
    assert poll == Request("GET", "/sonic/task/22222222-2222-4222-8222-222222222222")


def test_a_synchronous_operation_cannot_be_polled() -> None:
    with pytest.raises(ValueError, match="synchronous"):
        build_poll(WAV, ProviderTaskId("22222222"))


# -- wrong fields -----------------------------------------------------------------------------


def test_every_wrong_field_is_named_at_once() -> None:
    fields = wrong(
        CREATE,
        {"mv": "opus", "title": "x" * 81, "style_weight": 2, "duration": "long", "colour": "red"},
        source=CLIP,
    )
    named = {"mv", "title", "style_weight", "duration", "colour", "custom_mode", "source"}
    assert set(fields) == named


@pytest.mark.parametrize("mv", ["sonic-v4", "sonic-v5"])
def test_two_texts_that_are_too_long_are_both_named(mv: str) -> None:
    fields = wrong(CREATE, SONG | {"mv": mv, "prompt": "x" * 5001, "tags": "x" * 1001})
    assert set(fields) == {"prompt", "tags"}


def test_a_missing_text_does_not_hide_another_error_of_the_mode() -> None:
    fields = wrong(CREATE, {"custom_mode": False, "mv": "sonic-v5", "auto_lyrics": True})
    assert set(fields) == {"gpt_description_prompt", "auto_lyrics"}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_unknown_field_is_an_error_that_names_it(operation: Any) -> None:
    assert "promt" in wrong(operation, {"promt": "x"})


def test_a_parameter_that_is_none_was_not_given() -> None:
    sent = check_parameters(CREATE, SONG | {"title": None, "tags": None})
    assert {"title", "tags"}.isdisjoint(sent)


@pytest.mark.parametrize(("operation", "field"), [(REMASTER, "continue_clip_id"), (WAV, "clip_id")])
def test_a_required_field_is_required(operation: Any, field: str) -> None:
    assert set(wrong(operation, {})) == {field}


def test_a_model_is_chosen_where_none_is_given() -> None:
    assert check_parameters(REMASTER, {"continue_clip_id": CLIP})["mv"] == "sonic-v5"


@pytest.mark.parametrize(("mode", "text"), [(True, "prompt"), (False, "gpt_description_prompt")])
@pytest.mark.parametrize("value", [None, ""])
def test_the_mode_decides_which_text_is_required(mode: bool, text: str, value: Any) -> None:
    texts = {"prompt": "x", "gpt_description_prompt": "x"} | {text: value}
    fields = wrong(CREATE, {"custom_mode": mode, "mv": "sonic-v5", **texts})
    assert set(fields) == {text}


def test_auto_lyrics_needs_custom_mode() -> None:
    check_parameters(CREATE, SONG | {"auto_lyrics": True})
    described = {"custom_mode": False, "mv": "sonic-v5", "gpt_description_prompt": "x"}
    check_parameters(CREATE, described | {"auto_lyrics": False})
    assert set(wrong(CREATE, described | {"auto_lyrics": True})) == {"auto_lyrics"}


@pytest.mark.parametrize(
    "field", ["custom_mode", "make_instrumental", "auto_lyrics", "use_suno_cdn"]
)
@pytest.mark.parametrize("value", ["true", "false", "yes", 2, [], {}, "1"])
def test_a_flag_is_true_or_false(field: str, value: Any) -> None:
    assert field in wrong(CREATE, SONG | {field: value})


# -- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "limit"), [("gpt_description_prompt", 400), ("title", 80), ("negative_tags", 200)]
)
def test_a_text_may_reach_its_limit_and_no_more(field: str, limit: int) -> None:
    assert check_parameters(CREATE, SONG | {field: "é" * limit})[field] == "é" * limit
    assert set(wrong(CREATE, SONG | {field: "é" * (limit + 1)})) == {field}


@pytest.mark.parametrize("field", ["prompt", "tags"])
@pytest.mark.parametrize("mv", known.MODELS)
def test_the_model_decides_how_long_lyrics_and_tags_may_be(field: str, mv: str) -> None:
    limits = {"prompt": 3000, "tags": 200} if mv in SHORT else {"prompt": 5000, "tags": 1000}
    song = SONG | {"mv": mv}
    check_parameters(CREATE, song | {field: "x" * limits[field]})
    assert set(wrong(CREATE, song | {field: "x" * (limits[field] + 1)})) == {field}


def test_both_spellings_of_every_model_are_known() -> None:
    assert {m.partition("-")[2] for m in SHORT} == {"v3-5", "v4"}
    ids = {m.removeprefix("sonic-") for m in known.MODELS if m.startswith("sonic-")}
    assert set(known.MODELS) == {f"{family}-{i}" for family in ("sonic", "chirp") for i in ids}
    assert {"v3-5", "v4", "v4-5", "v4-5-plus", "v5", "v5-5"} <= ids


@pytest.mark.parametrize("mv", ["sonic-v4-5-all", "v5", "", "SONIC-V5"])
def test_a_model_that_create_does_not_take_is_refused(mv: str) -> None:
    assert set(wrong(CREATE, SONG | {"mv": mv})) == {"mv"}


@pytest.mark.parametrize("field", ["style_weight", "weirdness_constraint"])
@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_a_weight_lies_between_0_and_1(field: str, value: float) -> None:
    assert check_parameters(CREATE, SONG | {field: value})[field] == value


@pytest.mark.parametrize("field", ["style_weight", "weirdness_constraint"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf"), True, "much"])
def test_a_weight_beyond_its_range_is_refused(field: str, value: Any) -> None:
    assert set(wrong(CREATE, SONG | {field: value})) == {field}


@pytest.mark.parametrize("seconds", [10, 360])
def test_a_duration_may_reach_its_limits(seconds: int) -> None:
    assert check_parameters(CREATE, SONG | {"duration": seconds})["duration"] == seconds


@pytest.mark.parametrize("seconds", [9, 361, 20.5, "20", True])
def test_a_duration_beyond_its_limits_is_refused(seconds: Any) -> None:
    assert set(wrong(CREATE, SONG | {"duration": seconds})) == {"duration"}


@pytest.mark.parametrize("gender", ["f", "m"])
def test_a_gender_is_f_or_m(gender: str) -> None:
    assert check_parameters(CREATE, SONG | {"vocal_gender": gender})["vocal_gender"] == gender
    assert set(wrong(CREATE, SONG | {"vocal_gender": gender.upper()})) == {"vocal_gender"}


@pytest.mark.parametrize("category", ["subtle", "normal", "high"])
def test_a_variation_is_one_of_three(category: str) -> None:
    given = REMASTERED | {"variation_category": category}
    assert check_parameters(REMASTER, given)["variation_category"] == category
    given["variation_category"] += "er"
    assert set(wrong(REMASTER, given)) == {"variation_category"}


@pytest.mark.parametrize("length", [1, 1000])
def test_a_clip_id_has_any_length(length: int) -> None:
    assert check_parameters(WAV, {"clip_id": "c" * length})["clip_id"] == "c" * length


@pytest.mark.parametrize("clip_id", ["", 7, ["c"]])
def test_a_clip_id_that_is_none_is_refused(clip_id: Any) -> None:
    assert set(wrong(WAV, {"clip_id": clip_id})) == {"clip_id"}


# -- source and pick --------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "field"), [(REMASTER, "continue_clip_id"), (WAV, "clip_id")])
def test_the_source_takes_the_place_of_the_clip(operation: Any, field: str) -> None:
    given = {"mv": "chirp-v5"} if operation is REMASTER else {}
    assert check_parameters(operation, given, source=CLIP)[field] == CLIP


def test_pick_chooses_among_the_clips_of_the_source() -> None:
    source = {"clips": [{"clip_id": "a", "state": "succeeded"}, {"clip_id": "b"}]}
    assert check_parameters(WAV, {}, source=source, pick=1)["clip_id"] == "b"


def test_a_clip_given_twice_is_an_error() -> None:
    fields = wrong(WAV, {"clip_id": CLIP}, source=CLIP)
    assert fields == {"clip_id": ["Given twice: by name and as the source."]}


def test_a_source_that_no_clip_can_be_found_in_is_an_error() -> None:
    assert "source" in wrong(WAV, {}, source={"clips": []})


def test_a_source_without_a_clip_is_the_only_error_it_causes() -> None:
    assert set(wrong(WAV, {}, source={"clips": []})) == {"source"}


def test_an_operation_that_takes_no_clip_says_how_to_chain_it() -> None:
    fields = wrong(CREATE, SONG, source=CLIP)
    assert set(fields) == {"source"}
    assert ".si(" in fields["source"][0]


# -- extra ------------------------------------------------------------------------------------


def test_extra_fields_pass_through_unchecked_and_win() -> None:
    extra = {"new_knob": {"level": 11}, "mv": "sonic-v7"}
    sent = check_parameters(CREATE, SONG, extra=extra)
    assert sent["new_knob"] == {"level": 11}
    assert sent["mv"] == "sonic-v7"


@pytest.mark.parametrize("field", ["webhook_url", "webhook_secret", "task_type"])
def test_what_fermata_sets_itself_cannot_be_given(field: str) -> None:
    assert set(wrong(CREATE, SONG, extra={field: "x"})) == {field}
    assert field in wrong(CREATE, SONG | {field: "x"})


def test_an_extra_field_does_not_hide_other_errors() -> None:
    assert set(wrong(CREATE, SONG | {"title": "x" * 81}, extra={"task_type": "x"})) == {
        "title",
        "task_type",
    }


@pytest.mark.parametrize("extra", [["a"], "abc", 5, [["a", "b", "c"]]])
def test_an_extra_that_is_no_object_is_an_invalid_request(extra: Any) -> None:
    with pytest.raises(InvalidRequest, match="extra"):
        check_parameters(CREATE, SONG, extra=extra)


# -- what a message can hold beside JSON: kombu keeps it as it is ------------------------------

ID = uuid.UUID(CLIP)


@pytest.mark.parametrize(
    "source",
    [ID, [ID], (ID,), {"clip_id": ID}, {"clips": [{"clip_id": ID, "state": "succeeded"}]}],
    ids=str,
)
def test_a_uuid_is_the_id_that_it_stands_for(source: Any) -> None:
    assert check_parameters(WAV, {}, source=source) == {"clip_id": CLIP}


def test_a_uuid_may_be_any_id_of_a_request() -> None:
    two, pick = [{"clip_id": "a"}, {"clip_id": ID}], cast(Any, ID)
    assert check_parameters(WAV, {}, source={"clips": two}, pick=pick) == {"clip_id": CLIP}
    assert check_parameters(WAV, {"clip_id": ID}) == {"clip_id": CLIP}
    mashup = {"mashup_clip_ids": [ID, "b"], "custom_mode": True, "prompt": "la"}
    body = check_parameters(OPERATIONS["sonic.mashup"], mashup, extra={"of": {"user": [ID]}})
    assert body["mashup_clip_ids"] == [CLIP, "b"]
    assert body["of"] == {"user": [CLIP]}


def test_a_decimal_is_a_number() -> None:
    given = {"continue_clip_id": ID, "custom_mode": True, "continue_at": Decimal("5.5")}
    body = check_parameters(OPERATIONS["sonic.extend"], given)
    assert (type(body["continue_at"]), body["continue_at"]) == (float, 5.5)


@pytest.mark.parametrize("value", [date(2026, 11, 28), b"\xff", Decimal("NaN"), 1.5], ids=repr)
def test_what_stands_for_no_text_is_refused_before_it_costs_anything(value: Any) -> None:
    assert set(wrong(WAV, {}, source=value)) == {"source"}
    assert set(wrong(REMASTER, {"continue_clip_id": value, "mv": value})) == {
        "continue_clip_id",
        "mv",
    }


def test_what_is_nested_without_end_is_refused() -> None:
    deep: Any = "a"
    for _ in range(5_000):
        deep = [deep]
    for options in ({"source": deep}, {"extra": {"x": deep}}):
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            check_parameters(WAV, {}, **options)


# -- whatever else ----------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
names = st.sampled_from([*CREATE.schema().fields, *REMASTER.schema().fields, "clip_id", "other"])


@given(st.sampled_from(list(OPERATIONS.values())), st.dictionaries(names, anything), anything)
def test_parameters_are_taken_or_are_one_error_whatever_they_are(
    operation: Any, parameters: dict[str, Any], source: Any
) -> None:
    fields: dict[str, Any] = {}
    try:
        sent = check_parameters(operation, parameters, source=source)
    except InvalidRequest as error:
        fields = error.fields
    assert fields or dict(operation.fixed).items() <= sent.items()


@given(st.text(min_size=20, max_size=60))
def test_no_error_repeats_the_lyrics(lyrics: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_parameters(CREATE, SONG | {"title": lyrics * 5, "mv": lyrics, "tags": lyrics * 60})
    assert lyrics not in str(raised.value.to_json())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_extra_fields_that_are_not_json_are_an_error_before_anything_is_sent(value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_parameters(OPERATIONS["account.credits"], {}, extra={"x": value})
    assert raised.value.fields == {"extra": ["Not JSON."]}
