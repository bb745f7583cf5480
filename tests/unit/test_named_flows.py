"""Named flows: the table, what it plans, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker.core.batch.flows import FLOWS, Plan, find_flow, parse_branch, wrong_fields
from worker.core.errors import InvalidRequest
from worker.core.providers.aimusic.operations import OPERATIONS

ROOT = Path(__file__).parent.parent.parent
CLIP = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"
GIVEN: dict[str, dict[str, Any]] = {
    "flows.master_pack": {"source": CLIP, "mv": "chirp-v5"},
    "flows.instrumental_pack": {"source": CLIP},
    "flows.song_from_idea": {"description": "a note", "tags": "waltz"},
    "flows.extend_and_concat": {"source": CLIP, "continue_at": 120.5},
    "flows.cover_and_stems": {"source": CLIP, "tags": "brass band"},
}


def plan(name: str, **more: Any) -> Plan:
    given = {**GIVEN.get(name, {}), **more}
    source, branches = given.pop("source", None), given.pop("branches", ())
    return find_flow(name).plan(given, source=source, branches=branches)


@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_runs_with_its_own_parameters(name: str) -> None:
    assert list(wrong_fields(plan(name))) == []


def test_a_flow_plans_its_jobs_in_order() -> None:
    planned = {name: plan(name).operations for name in FLOWS}
    assert planned["flows.master_pack"] == (
        "sonic.remaster", "sonic.stems_full", "sonic.wav", "sonic.midi", "sonic.lyrics_timeline",
    )  # fmt: skip
    assert planned["flows.extend_and_concat"] == ("sonic.extend", "sonic.concat")


def test_each_parameter_goes_to_the_operation_that_takes_it() -> None:
    found = plan("flows.song_from_idea")
    assert found.parameters == {"description": "a note"}
    assert found.then == ("sonic.create_music", {"custom_mode": True, "tags": "waltz"})
    assert list(wrong_fields(plan("flows.song_from_idea", titel="x"))) == [
        ("titel", "sonic.create_music takes no such parameter; did you mean 'title'?")
    ]


def test_what_a_flow_presets_may_be_given() -> None:
    found = plan("flows.cover_and_stems", custom_mode=False, gpt_description_prompt="brass")
    assert found.parameters["custom_mode"] is False
    assert list(wrong_fields(found)) == []


def test_an_operation_is_a_flow_of_one_job() -> None:
    assert plan("sonic.wav", source=CLIP) == Plan("sonic.wav", {}, CLIP)


def test_further_branches_run_beside_a_flow_s_own() -> None:
    found = plan("flows.instrumental_pack", branches=[("sonic.bpm", "sonic.vox")])
    assert found.branches[-1] == ("sonic.bpm", "sonic.vox")
    assert list(wrong_fields(found)) == []


def test_the_price_is_that_of_all_jobs() -> None:
    assert plan("flows.master_pack").credits == 10 + 50 + 1 + 1 + 1
    assert plan("flows.song_from_idea", branches=[("sonic.wav",)]).credits == 2 + 14 + 1


def test_a_plan_does_not_show_what_it_carries() -> None:
    assert "brass" not in repr(plan("flows.cover_and_stems"))
    assert "waltz" not in repr(plan("flows.song_from_idea"))


def test_an_unknown_flow_names_the_nearest_one() -> None:
    for name, meant in {
        "flows.master_pak": "flows.master_pack",
        "remastr": "sonic.remaster",
    }.items():
        with pytest.raises(InvalidRequest, match=f"did you mean '{meant}'"):
            find_flow(name)
    with pytest.raises(InvalidRequest, match=r"there is no operation or flow 'x{40}…'$"):
        find_flow("x" * 200)


def test_a_branch_is_operations_in_sequence() -> None:
    assert parse_branch(" sonic.wav + sonic.midi") == ("sonic.wav", "sonic.midi")
    for text in ("", "sonic.wav+", "flows.master_pack", "sonic.wave"):
        with pytest.raises(InvalidRequest, match="there is no operation"):
            parse_branch(text)


def test_the_archive_may_be_the_last_step_of_a_branch_and_is_no_job() -> None:
    branches = tuple(map(parse_branch, ("sonic.wav+archive.store", "archive.store")))
    found = plan("sonic.wav", clip_id="a clip", branches=branches)
    assert list(wrong_fields(found)) == []
    assert found.operations == ("sonic.wav", "sonic.wav")
    with pytest.raises(InvalidRequest, match=r"archive\.store must be the last step"):
        parse_branch("archive.store+sonic.wav")
    with pytest.raises(InvalidRequest, match=r"did you mean 'archive\.store'"):
        parse_branch("archive.stor")


@pytest.mark.parametrize(
    ("first", "branch", "why"),
    [
        ("lyrics.generate", ("sonic.wav",), "sonic.wav cannot follow lyrics.generate: it makes no"),
        ("sonic.wav", ("sonic.midi", "sonic.extend"), "sonic.extend cannot follow sonic.midi: cus"),
        ("sonic.wav", ("account.credits",), "source: account.credits takes no source"),
        ("sonic.wav", ("sonic.mashup",), "mashup_clip_ids: "),
        ("sonic.wav", ("producer.create_music",), "source: the source brings no lyrics or title"),
        ("sonic.wav", ("riffusion.cover",), "the provider retired riffusion.cover"),
    ],
)
def test_a_follow_up_has_its_source_and_nothing_else(
    first: str, branch: tuple[str, ...], why: str
) -> None:
    found = list(wrong_fields(plan(first, source=None, branches=[branch])))
    (reason,) = [reason for name, reason in found if name == "then"]
    assert why in reason


def test_words_can_be_followed_by_a_song() -> None:
    found = plan("lyrics.generate", description="a note", branches=[("producer.create_music",)])
    assert list(wrong_fields(found)) == []


def test_a_missing_clip_may_be_the_source() -> None:
    assert list(wrong_fields(plan("sonic.wav"))) == [("clip_id", "required, here or as the source")]


def test_a_retired_operation_is_refused_and_the_one_to_use_named() -> None:
    retired = [name for name, row in OPERATIONS.items() if row.retired]
    assert retired
    for name in retired:
        (why, *_) = [why for column, why in wrong_fields(plan(name)) if column == "operation"]
        assert OPERATIONS[name].retired in why


def test_every_flow_of_the_table_is_a_signature_in_tasks() -> None:
    script = (
        "import json, sys\n"
        "from tasks import flows\n"
        "def jobs(step):\n"
        "    inner = getattr(step, 'tasks', None)\n"
        "    return sum(map(jobs, inner), []) if inner else [step.task]\n"
        "given = json.loads(sys.argv[1])\n"
        "print(json.dumps({n: jobs(getattr(flows, n[6:])(**v)) for n, v in given.items()}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, json.dumps(GIVEN)],
        env={"FERMATA_REDIS_URL": "redis://127.0.0.1:1/0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    wanted = {name: [f"fermata.{each}" for each in plan(name).operations] for name in FLOWS}
    assert json.loads(ran.stdout) == wanted
