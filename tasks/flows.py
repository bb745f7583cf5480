"""Flows: the follow-ups people want, as native canvas over public signatures.

A flow is a signature like any other: ``.delay()`` it, chain it, put it into a group.
"""

import copy
import uuid
from collections.abc import Iterator
from typing import Any

from celery import Task, chain, group
from celery.canvas import Signature

# The tasks of a flow must be there before a signature of it is made.
from tasks import lyrics, sonic  # noqa: F401
from worker.app import app
from worker.core.batch.flows import FLOWS
from worker.core.contract import task_name
from worker.core.job.models import JSONObject
from worker.core.providers.aimusic.sources import Source


@app.task(name=task_name("flows.for_each_clip"), bind=True, shared=False)
def _for_each_clip(self: Task[..., Any], result: JSONObject, follow_up: JSONObject) -> None:
    clips = [clip for clip in result["clips"] if clip["state"] == "succeeded"]
    # Ids follow from ours and the clip's: where the broker delivers this message twice, the jobs
    # of the second run are those of the first, and nothing is paid twice.
    branches = [_over(clip, follow_up, f"{self.request.id}/{clip['clip_id']}") for clip in clips]
    raise self.replace(group(branches, task_id=_id_from(f"{self.request.id}/group")))


def _over(clip: JSONObject, follow_up: JSONObject, name: str) -> Signature[Any]:
    """Build a follow-up anew for one clip: its first steps take the clip."""
    signature = Signature.from_dict(copy.deepcopy(follow_up), app=app)
    for step in _first_steps(signature):
        step.args = (clip, *step.args)
    for position, step in enumerate(_steps(signature)):
        step.options["task_id"] = _id_from(f"{name}/{position}")
    return signature


def _id_from(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def _first_steps(signature: Any) -> Iterator[Any]:
    steps = getattr(signature, "tasks", None)
    if steps is None:
        yield signature
        return
    for step in steps[:1] if signature.subtask_type == "chain" else steps:
        yield from _first_steps(step)


def _steps(signature: Any) -> Iterator[Any]:
    yield signature
    body = getattr(signature, "body", None)
    for step in (*getattr(signature, "tasks", ()), *([body] if body else ())):
        yield from _steps(step)


def for_each_clip(follow_up: Signature[Any]) -> Signature[Any]:
    """Run a follow-up over every clip that succeeded, not only over the first; a list of results.

    ``create_music.s(…) | for_each_clip(stems_full.s())``
    """
    return _for_each_clip.s(follow_up)


def master_pack(source: Source, **remaster: Any) -> Signature[Any]:
    """Remaster a clip, then stems, WAV, MIDI and lyrics timeline of the result, in parallel.

    Results: ``[stems, wav, midi, lyrics_timeline]``. An instrumental has no lyrics timeline, and
    would fail the group: leave it to :func:`instrumental_pack`.

    ``master_pack("26c9c592-…", mv="chirp-v5", variation_category="subtle").delay()``
    """
    return _flow("flows.master_pack", source, remaster)


def instrumental_pack(source: Source, *more: Signature[Any], **remaster: Any) -> Signature[Any]:
    """Remaster a clip, then stems, WAV and MIDI (and more) of the result, in parallel.

    ``instrumental_pack("26c9c592-…").delay()``
    """
    return _flow("flows.instrumental_pack", source, remaster, *more)


def song_from_idea(description: str, **create: Any) -> Signature[Any]:
    """Write lyrics about an idea, then create the song with them.

    ``(song_from_idea("a note that is held", tags="waltz") | sonic.stems_full.s()).delay()``
    """
    return _flow("flows.song_from_idea", None, {"description": description, **create})


def extend_and_concat(source: Source, continue_at: float, **extend: Any) -> Signature[Any]:
    """Extend a clip from a moment (seconds) on, then join both into the whole song.

    ``extend_and_concat("26c9c592-…", 120.5, prompt="[Outro] …").delay()``
    """
    return _flow("flows.extend_and_concat", source, {"continue_at": continue_at, **extend})


def cover_and_stems(source: Source, **cover: Any) -> Signature[Any]:
    """Cover a clip in another style, then split the cover into its instruments.

    ``cover_and_stems("26c9c592-…", tags="brass band").delay()``
    """
    return _flow("flows.cover_and_stems", source, cover)


def _flow(
    name: str, source: Source, parameters: JSONObject, *more: Signature[Any]
) -> Signature[Any]:
    """Build a flow of the table as canvas; more follow-ups run beside its branches."""
    plan = FLOWS[name].plan(parameters, source=source)
    first = (source,) if source is not None else ()
    steps = [_task(plan.operation).s(*first, **plan.parameters)]
    if plan.then:
        steps.append(_task(plan.then[0]).s(**plan.then[1]))
    branches = [chain(*(_task(step).s() for step in branch)) for branch in plan.branches]
    return chain(*steps, *([group(*branches, *more)] if branches else []))


def _task(operation: str) -> Task[..., Any]:
    return app.tasks[task_name(operation)]
