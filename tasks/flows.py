"""Flows over operations, in native canvas."""

import copy
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
    raise self.replace(group(_over(clip, follow_up) for clip in clips))


def _over(clip: JSONObject, follow_up: JSONObject) -> Signature[Any]:
    """Build a follow-up anew for one clip: first steps take the clip, and no id is shared."""
    signature = Signature.from_dict(copy.deepcopy(follow_up), app=app)
    for step in _first_steps(signature):
        step.args = (clip, *step.args)
    for step in _steps(signature):
        step.options.pop("task_id", None)
    return signature


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
