"""What the desk draws: the bars of a job, the canvas of a flow, the charts of the last hour."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from desk.pages.drawing import bars, canvas, charts
from desk.pages.drawing.bars import WIDTH
from desk.pages.drawing.canvas import Node, Picture
from worker.core.amounts import about
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, JobRecord
from worker.core.job.states import JobState
from worker.core.overview import Counts, added
from worker.messages.watch import Sight

NOW = 1_763_800_000.0


def record(*turns: tuple[float, str], state: str = "", created_at: float = NOW) -> JobRecord:
    timeline = tuple({"at": NOW + after, "what": "turn", "state": s} for after, s in turns)
    last = state or (turns[-1][1] if turns else "queued")
    return JobRecord(JobId("job"), "sonic.wav", JobState(last), created_at, NOW, timeline=timeline)


def test_each_phase_is_a_track_with_its_time() -> None:
    job = record((0, "queued"), (2, "held"), (4, "admitted"), (5, "submitting"), (6, "waiting"),
                 (9, "resuming"), (10, "succeeded"))  # fmt: skip
    drawn = {track.phase: track for track in bars.tracks(job, now=NOW + 99)}
    assert list(drawn) == list(bars.PHASES)
    assert drawn["queued"].spans == [(0, 200), (400, 100)]
    assert drawn["queued"].seconds == 3
    assert drawn["at the provider"].spans == [(600, 300)]
    assert not any(track.goes_on for track in drawn.values())


def test_a_job_that_goes_on_has_a_bar_that_ends_now() -> None:
    [submit, provider] = bars.tracks(record((0, "submitting"), (1, "waiting")), now=NOW + 10)
    assert (submit.seconds, submit.goes_on) == (1, False)
    assert (provider.seconds, provider.goes_on) == (9, True)


def test_a_line_without_a_state_begins_no_span() -> None:
    job = record((0, "waiting"), (10, "succeeded"))
    note = {"at": NOW + 5, "what": "song.progress"}
    noted = JobRecord(job.job_id, job.operation, job.state, NOW, NOW,
                      timeline=(job.timeline[0], note, job.timeline[1]))  # fmt: skip
    assert bars.tracks(noted, now=NOW + 99) == bars.tracks(job, now=NOW + 99)


def test_a_short_span_can_be_seen_and_stays_inside() -> None:
    job = record((0, "waiting"), (1000, "resuming"), (1000.001, "succeeded"))
    resume = bars.tracks(job, now=NOW + 2000)[-1]
    [(x, width)] = resume.spans
    assert width > 1
    assert x + width <= WIDTH


@pytest.mark.parametrize("turns", [(), ((0, "failed"),)], ids=["no timeline", "ended at once"])
def test_a_job_without_spans_is_drawn_without_error(turns: tuple[tuple[float, str], ...]) -> None:
    for track in bars.tracks(record(*turns), now=NOW):
        assert all(0 <= x <= WIDTH and width > 0 for x, width in track.spans)


# The canvas.


def step(name: str, after: str | None = None, *, joins: bool = False) -> Step:
    return Step(JobId(name), f"op.{name}", JobId(after) if after else None, joins)


def draw(steps: Iterable[Step], **states: str) -> Picture:
    """Draw steps whose states are given; those of the others are ``succeeded``."""
    return canvas.draw(
        [
            Sight(
                each,
                replace(record(state=states.get(each.job_id, "succeeded")), job_id=each.job_id),
            )
            if states.get(each.job_id) != "to come"
            else Sight(each, None)
            for each in steps
        ]
    )


def placed(picture: Picture) -> dict[str, Node]:
    return {node.operation.removeprefix("op."): node for node in picture.nodes}


def column(node: Node) -> int:
    return (node.x - canvas.MARGIN) // canvas.COLUMN


def test_a_chain_stands_in_a_row() -> None:
    picture = draw([step("a"), step("b", "a"), step("c", "b")])
    nodes = placed(picture)
    assert [column(nodes[name]) for name in "abc"] == [0, 1, 2]
    assert len({node.y for node in picture.nodes}) == 1
    assert len(picture.lines) == 2


def test_a_group_stands_below_one_another_with_its_fork_in_the_middle() -> None:
    picture = draw([step("a"), step("b", "a"), step("c", "a"), step("d", "a")])
    nodes = placed(picture)
    assert [column(nodes[name]) for name in "bcd"] == [1, 1, 1]
    assert nodes["b"].y < nodes["c"].y < nodes["d"].y
    assert nodes["a"].y == nodes["c"].y
    assert nodes["d"].y - nodes["c"].y >= canvas.NODE_HEIGHT


@pytest.mark.parametrize("last", ["b", "e", "d"], ids=["first branch", "longest", "last branch"])
def test_what_joins_a_group_stands_behind_its_longest_branch(last: str) -> None:
    steps = [step("a"), step("b", "a"), step("c", "a"), step("e", "c"), step("d", "a"),
             step("join", last, joins=True), step("end", "join")]  # fmt: skip
    picture = draw(steps)
    nodes = placed(picture)
    assert column(nodes["join"]) == 3
    assert column(nodes["end"]) == 4
    assert nodes["join"].y == nodes["a"].y
    ends = [
        line
        for line in picture.lines
        if line.endswith(f" {nodes['join'].x} {nodes['join'].y + 22}")
    ]
    assert len(ends) == 3
    assert len(picture.lines) == 4 + 3 + 1


def test_no_two_nodes_overlap_in_a_group_of_groups() -> None:
    steps = [step("a")]
    for outer in "bcd":
        steps.append(step(outer, "a"))
        steps += [step(f"{outer}{n}", outer) for n in range(3)]
        steps.append(step(f"{outer}j", f"{outer}2", joins=True))
    steps.append(step("join", "dj", joins=True))
    picture = draw(steps)
    places = [(node.x, node.y) for node in picture.nodes]
    assert len(set(places)) == len(places) == 17
    for x, y in places:
        below = [other for at, other in places if at == x and y < other]
        assert not below or min(below) - y >= canvas.NODE_HEIGHT
    assert column(placed(picture)["join"]) == 4


def test_many_alike_branches_are_one_node_with_what_follows_them() -> None:
    steps = [step("a")]
    states: dict[str, str] = {}
    for number in range(200):
        steps += [Step(JobId(f"w{number}"), "op.wav", JobId("a")),
                  Step(JobId(f"m{number}"), "op.midi", JobId(f"w{number}"))]  # fmt: skip
        states[f"w{number}"] = "succeeded" if number < 180 else "waiting"
    nodes = placed(draw(steps, **states))
    assert set(nodes) == {"a", "wav", "midi"}
    assert (nodes["wav"].said, nodes["wav"].state) == ("180 of 200", "waiting")
    assert nodes["wav"].job_id is None
    few = draw([step("a"), *(Step(JobId(f"w{n}"), "op.wav", JobId("a")) for n in range(20))])
    assert len(few.nodes) == 21


def test_a_failure_among_many_is_what_their_node_shows() -> None:
    steps = [step("a"), *(Step(JobId(f"w{n}"), "op.wav", JobId("a")) for n in range(30))]
    assert placed(draw(steps, w7="failed", w8="waiting"))["wav"].state == "failed"


def test_what_is_still_to_come_is_hollow_and_no_link() -> None:
    steps = [step("a"), Step(JobId("b"), "sonic.wav", JobId("a")),
             Step(JobId("c"), "archive.store", JobId("b"))]  # fmt: skip
    nodes = placed(draw(steps, a="waiting", b="to come", c="to come"))
    assert (nodes["a"].to_come, nodes["a"].job_id) == (False, "a")
    assert (nodes["sonic.wav"].to_come, nodes["sonic.wav"].job_id) == (True, None)
    # It is no job, so it never gets a record.
    assert (nodes["archive.store"].to_come, nodes["archive.store"].job_id) == (False, None)


def test_a_retried_job_leads_to_the_one_that_runs_in_its_place() -> None:
    again = replace(record(state="waiting"), job_id=JobId("again"))
    [node] = canvas.draw([Sight(step("a"), again)]).nodes
    assert (node.job_ids, node.job_id, node.state) == (["a"], "again", "waiting")


def test_steps_in_a_circle_and_strangers_are_drawn_once_each() -> None:
    steps = [step("a", "b"), step("b", "a"), step("c", "unknown"), step("d", "b", joins=True)]
    assert len(draw(steps).nodes) == 4
    assert draw([]).nodes == []


def test_a_chain_may_be_longer_than_the_stack_is_deep() -> None:
    names = [f"s{n}" for n in range(3000)]
    steps = [step("s0"), *(step(b, a) for a, b in pairwise(names))]
    assert column(placed(draw(steps))["s2999"]) == 2999


# The charts.


def test_settled_jobs_are_stacked_by_source() -> None:
    minutes: list[Counts] = [{}] * 58
    minutes += [
        {("settled", "webhook", "succeeded"): 3, ("settled", "poll", "failed"): 1},
        {("settled", "webhook", "failed"): 1},
    ]
    chart = charts.settled(minutes, now=NOW)
    assert chart.top == 4
    assert chart.sums == [("webhook", 4), ("poll", 1)]
    webhook, poll = chart.columns[58].boxes
    assert (webhook.kind, webhook.y, webhook.height) == ("webhook", 25, 75)
    assert (poll.kind, poll.y, poll.height) == ("poll", 0, 25)
    assert chart.columns[58].said.endswith("3 by webhook, 1 by poll")
    assert chart.columns[0].boxes == []


def test_waits_reach_from_the_median_to_the_95th_percentile() -> None:
    minutes: list[Counts] = [{}] * 55
    minutes += [{("wait", "30"): 10, ("wait", "60"): 2}] * 5
    chart = charts.waits(minutes, now=NOW)
    assert len(chart.columns) == 12
    p95, median = chart.columns[11].boxes
    assert 30 < chart.top <= 60
    assert (p95.y, p95.kind) == (0, "p95")
    assert p95.y + p95.height == pytest.approx(median.y, abs=0.2)
    assert chart.columns[0].boxes == []


def test_no_quantile_of_the_hour_is_above_the_highest_column() -> None:
    minutes: list[Counts] = [{("wait", "5"): 10}] * 60
    [p95] = {quantiles[1] for quantiles in [charts.quantiles(added(minutes))] if quantiles}
    assert p95 == pytest.approx(charts.waits(minutes, now=NOW).top)
    assert charts.waits(minutes, now=NOW).columns[0].said.endswith(f"95 % within {about(p95)}")


@pytest.mark.parametrize("draw_it", [charts.settled, charts.waits])
def test_an_hour_without_jobs_is_an_empty_chart(draw_it: object) -> None:
    assert callable(draw_it)
    chart = draw_it([{}] * 60, now=NOW)
    assert chart.top == 0
    assert not any(each.boxes for each in chart.columns)
