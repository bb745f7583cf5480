"""Rows: checked before they cost anything, with ids that follow from what they are."""

from typing import Any

import pytest

from worker.core.batch import (
    Entry,
    Row,
    RowError,
    cells,
    check,
    check_columns,
    check_request,
    row_id,
)
from worker.core.job.lanes import Priority
from worker.core.providers.aimusic.operations import OPERATIONS

WAV = {"operation": "sonic.wav", "source": "abc"}
SONG = {"operation": "sonic.create_music", "custom_mode": True, "prompt": "la"}


def checked(*rows: dict[str, Any], **columns: Any) -> list[Row | RowError]:
    entries = [Entry(line, row | columns) for line, row in enumerate(rows, start=1)]
    return list(check(entries))


def row(values: dict[str, Any], **columns: Any) -> Row:
    (found,) = checked(values, **columns)
    assert isinstance(found, Row), found
    return found


def wrong(values: dict[str, Any], **columns: Any) -> dict[str | None, str]:
    found = checked(values, **columns)
    return {each.column: each.reason for each in found if isinstance(each, RowError)}


def ids(*rows: dict[str, Any], batch_id: str = "b") -> list[str]:
    """Return the id of each row's first job."""
    found = checked(*rows)
    return [row_id(batch_id, each) for each in found if isinstance(each, Row)]


# -- the columns of a row's own ---------------------------------------------------------------


def test_a_row_says_what_to_run_for_whom_and_how_soon() -> None:
    found = row(
        WAV, key=" song-1 ", then="sonic.midi , sonic.bpm+sonic.vox", priority="interactive",
        tenant="acme",
    )  # fmt: skip
    assert (found.line, found.name, found.key, found.tenant) == (1, "sonic.wav", "song-1", "acme")
    assert found.priority is Priority.INTERACTIVE
    assert found.plan.source == "abc"
    assert found.plan.branches == (("sonic.midi",), ("sonic.bpm", "sonic.vox"))


def test_what_a_row_does_not_say_is_left_out() -> None:
    found = row(WAV | dict.fromkeys(["key", "then", "priority", "tenant", "clip_id"]))
    assert (found.key, found.tenant, found.priority) == (None, "default", Priority.BATCH)
    assert (found.plan.parameters, found.plan.branches) == ({}, ())


@pytest.mark.parametrize("key", ["", " ", "a\nb", "k" * 129, True, 1.5, ["a"]])
def test_a_key_is_a_short_printable_text(key: Any) -> None:
    assert set(wrong(WAV, key=key)) == {"key"}


def test_a_key_may_be_a_number() -> None:
    assert row(WAV, key=7).key == "7"
    assert row(WAV, key="k" * 128).key == "k" * 128


@pytest.mark.parametrize("tenant", ["", "a b", "-a", "t" * 65, 7])
def test_a_tenant_is_a_short_name(tenant: Any) -> None:
    assert set(wrong(WAV, tenant=tenant)) == {"tenant"}


def test_a_clip_is_picked_by_its_index_or_its_id() -> None:
    clips = {"clips": [{"clip_id": "a", "state": "succeeded"}, {"clip_id": "b"}]}
    for pick in (1, -1, "b", " b "):
        assert row(WAV | {"source": clips}, pick=pick).plan.own_pick in {1, -1, "b"}
    for odd in (True, 1.0, "", [1]):
        assert wrong(WAV | {"source": clips}, pick=odd) == {
            "pick": "must be a clip's index, from 0, or its id"
        }
    for none in (2, "c"):
        assert "no clip for pick=" in wrong(WAV | {"source": clips}, pick=none)["source"]


def test_without_a_source_the_follow_ups_pick_from_the_result() -> None:
    found = row(SONG, then="sonic.wav", pick=1).plan
    assert (found.own_pick, found.next_pick) == (None, 1)
    assert "by its index" in wrong(SONG, then="sonic.wav", pick="c")["pick"]
    assert "nothing to pick from" in wrong(SONG, pick=0)["pick"]


def test_an_index_in_a_table_is_a_number() -> None:
    for text, pick in (("1", 1), ("-1", -1)):
        values = {**SONG, "custom_mode": "true", "then": "sonic.wav", "pick": text}
        (found,) = check([Entry(1, values, untyped=True)])
        assert isinstance(found, Row)
        assert found.plan.pick == pick


@pytest.mark.parametrize("priority", ["", "high", 1])
def test_a_priority_is_one_of_two(priority: Any) -> None:
    assert set(wrong(WAV, priority=priority)) == {"priority"}


def test_every_wrong_step_is_named_whichever_branch_it_stands_in() -> None:
    for then in (["sonic.wave+sonic.mdi", "sonic.bmp"], "sonic.wave+sonic.mdi,sonic.bmp"):
        told = wrong(WAV, then=then)["then"]
        assert [name for name in ("sonic.wave", "sonic.mdi", "sonic.bmp") if name in told] == [
            "sonic.wave", "sonic.mdi", "sonic.bmp",
        ]  # fmt: skip


def test_a_request_is_checked_as_a_row_and_every_mistake_names_its_field() -> None:
    found = check_request("sonic.wav", {"tenant": "x", "stile": 1}, source=["a"], then=["sonic.x"])
    assert isinstance(found, list)
    assert [field for field, _ in found] == ["parameters.tenant", "then", "parameters.stile"]
    assert isinstance(check_request("sonic.wav", {}, source="a", then=[]), Row)
    unknown = check_request("sonic.wave", {}, source="a")
    assert isinstance(unknown, list)
    assert [field for field, _ in unknown] == ["operation"]


def test_every_mistake_of_a_row_is_named_with_its_key() -> None:
    found = checked({"operation": "sonic.extend", "key": "k", "tenant": "-", "priority": 1})
    assert [(e.column, e.key) for e in found if isinstance(e, RowError)] == [
        ("priority", "k"), ("tenant", "k"), ("custom_mode", "k"), ("continue_clip_id", "k"),
        ("continue_at", "k"),
    ]  # fmt: skip


def test_what_the_reader_found_wrong_is_named_and_not_checked_again() -> None:
    entry = Entry(3, {**WAV, "source": 7}, lines={"source": 4}, wrong=(("source", "twice"),))
    assert list(check([entry])) == [RowError(4, "source", "twice")]


def test_what_could_not_be_read_passes_through_and_an_empty_manifest_is_wrong() -> None:
    error = RowError(1, "byte 7", "is not UTF-8")
    assert list(check([error])) == [error]
    assert [each.line for each in check([])] == [1]
    assert error.to_json() == {
        "line": 1, "column": "byte 7", "reason": "is not UTF-8", "key": None,
    }  # fmt: skip


def test_a_key_that_is_given_twice_names_both_lines_even_in_a_row_that_is_wrong() -> None:
    found = checked(WAV, {"operation": "sonic.wav"}, WAV, key="k")
    seconds = [e for e in found if isinstance(e, RowError) and e.column == "key"]
    assert [(e.line, e.reason) for e in seconds] == [
        (2, "the same as on line 1"), (3, "the same as on line 1"),
    ]  # fmt: skip


def test_a_row_needs_an_operation() -> None:
    assert set(wrong({"source": "abc"})) == {"operation"}
    assert set(wrong({"operation": ["sonic.wav"]})) == {"operation"}


def test_a_wrong_value_in_a_list_is_named_by_its_place() -> None:
    found = wrong({"operation": "sonic.download", "source": "abc", "formats": ["mp3", "ogg"]})
    assert set(found) == {"formats.1"}


# -- values -----------------------------------------------------------------------------------

DEEP: list[Any] = []
for _ in range(20):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("a\0b", "NUL"), ("\ud800", "surrogate"), (float("nan"), "NaN"), (float("inf"), "NaN"),
        (2**63, "too large"), (DEEP, "deep"), ({"a": {"b": "\0"}}, "NUL"), ({"\0": 1}, "NUL"),
        ([1, "\ud800"], "surrogate"),
    ],
)  # fmt: skip
def test_what_is_no_json_and_no_text_is_refused_wherever_it_stands(value: Any, why: str) -> None:
    for column in ("key", "operation", "source", "prompt", "then"):
        assert why in wrong({**SONG, column: value})[column]


def test_a_field_that_we_set_is_named_as_ours() -> None:
    for name in ("webhook_url", "webhook_secret", "task_type"):
        assert "Fermata sets" in wrong(SONG, **{name: "x"})[name]


def test_an_unknown_parameter_names_the_nearest_one() -> None:
    assert "did you mean 'title'" in wrong(SONG, titel="Held")["titel"]
    assert "did you mean" not in wrong(SONG, zzz="Held")["zzz"]
    assert list(wrong(SONG, **{"a\nb": 1})) == [r"'a\nb'"]
    assert list(wrong(SONG, **{"": 1})) == [None]


def test_a_header_is_checked_once() -> None:
    names = ["operation", "operaton", "prompt", "prompt", "", "webhook_url", "zzz"]
    assert list(check_columns(names)) == [
        ("operaton", "no operation takes it; did you mean 'operation'?"),
        ("prompt", "named twice: columns 3 and 4"),
        ("column 5", "has no name"),
        ("webhook_url", "Fermata sets this field itself"),
        ("zzz", "no operation takes it"),
    ]


@pytest.mark.parametrize(
    ("operation", "name", "text", "value"),
    [
        ("sonic.create_music", "custom_mode", " TRUE ", True),
        ("sonic.create_music", "custom_mode", "false", False),
        ("sonic.create_music", "custom_mode", "yes", "yes"),
        ("sonic.create_music", "duration", " 120 ", 120),
        ("sonic.create_music", "duration", "2 min", "2 min"),
        ("sonic.create_music", "duration", "9" * 5000, "9" * 5000),
        ("sonic.extend", "continue_at", "120.5", 120.5),
        ("sonic.extend", "continue_at", "1,5", "1,5"),
        ("sonic.extend", "continue_at", "nan", "nan"),
        ("sonic.download", "formats", "mp3, wav", ["mp3", "wav"]),
        ("sonic.download", "formats", '["mp3", "wav"]', ["mp3", "wav"]),
        ("sonic.download", "formats", '["mp3"', '["mp3"'),
        ("sonic.create_music", "prompt", " 120 ", " 120 "),
        ("sonic.create_music", "unheard_of", "120", "120"),
    ],
)
def test_a_cell_is_read_as_its_field_wants_it(
    operation: str, name: str, text: str, value: Any
) -> None:
    assert cells.read(OPERATIONS[operation].schema().fields.get(name), text) == value


def test_the_cells_of_a_table_are_typed_by_the_row_s_operation() -> None:
    cells_ = {"operation": "flows.song_from_idea", "description": "a note", "duration": "60"}
    (found,) = check([Entry(2, cells_, untyped=True)])
    assert isinstance(found, Row)
    assert found.plan.then == ("sonic.create_music", {"custom_mode": True, "duration": 60})


# -- ids --------------------------------------------------------------------------------------


def test_ids_are_the_same_at_every_run_and_others_in_another_batch() -> None:
    assert ids(WAV, SONG) == ids(WAV, SONG)
    assert not set(ids(WAV, SONG)) & set(ids(WAV, SONG, batch_id="c"))


def test_a_row_without_a_key_keeps_its_ids_wherever_it_moves() -> None:
    assert set(ids(WAV, SONG)) == set(ids(SONG, WAV)) < set(ids(SONG, {**SONG, "tags": "a"}, WAV))


def test_equal_rows_are_numbered() -> None:
    assert len(set(ids(WAV, WAV, WAV))) == 3
    assert ids(WAV, SONG, WAV) == [ids(WAV)[0], ids(SONG)[0], ids(WAV, WAV)[1]]


def test_a_row_with_a_key_keeps_its_ids_whatever_it_says() -> None:
    assert ids({**WAV, "key": "k"}) == ids({**SONG, "key": "k"}) != ids({**WAV, "key": "l"})
    assert ids({**WAV, "key": 7}) == ids({**WAV, "key": "7"})


@pytest.mark.parametrize(
    "change",
    [
        {"source": "d"},
        {"then": "sonic.midi"},
        {"tenant": "t"},
        {"operation": "sonic.bpm"},
        {"pick": 0},
    ],
)
def test_another_content_is_another_row(change: dict[str, Any]) -> None:
    assert ids(WAV) != ids(WAV | change)


@pytest.mark.parametrize(
    "same",
    [
        {"priority": "interactive"},
        {"tenant": "default"},
        {"then": None},
        {"source": "abc", "clip_id": None},
    ],
)
def test_how_soon_and_what_is_not_given_make_no_other_row(same: dict[str, Any]) -> None:
    assert ids(WAV) == ids(WAV | same)


def test_a_number_is_the_same_number_however_it_is_written() -> None:
    extend = {"operation": "sonic.extend", "source": {"clips": [{"clip_id": "a"}]}}
    assert ids(extend | {"custom_mode": True, "continue_at": 5}) == ids(
        extend | {"custom_mode": True, "continue_at": 5.0}
    )
    assert ids({**SONG, "style_weight": 0.5}) != ids({**SONG, "style_weight": 0.25})


def test_ids_are_a_contract() -> None:
    # A batch that was begun by one version is taken up by the next: these never change.
    assert ids(WAV, {**WAV, "key": "k"}) == [
        "754474c2-a9ca-5772-928c-e4298c82578d",
        "3577a46b-7d09-5131-a957-959fe7e81564",
    ]
