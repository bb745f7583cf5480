"""Flows over operations, in native canvas."""

import copy
import uuid
from collections.abc import Iterator
from typing import Any

from celery import Task, group
from celery.canvas import Signature

from worker.app import app
from worker.core.contract import task_name
from worker.core.models import JSONObject


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
