"""Flows over operations, in native canvas."""

from typing import Any

from celery import Task, group
from celery.canvas import Signature

from worker.app import app
from worker.core.contract import task_name
from worker.core.models import JSONObject


@app.task(name=task_name("flows.for_each_clip"), bind=True, shared=False)
def _for_each_clip(self: Task[..., Any], result: JSONObject, follow_up: JSONObject) -> None:
    clips = [clip for clip in result["clips"] if clip["state"] == "succeeded"]
    each = Signature.from_dict(follow_up, app=app)
    raise self.replace(group(each.clone(args=(clip,)) for clip in clips))


def for_each_clip(follow_up: Signature[Any]) -> Signature[Any]:
    """Run a follow-up over every clip that succeeded, not only over the first; a list of results.

    ``create_music.s(…) | for_each_clip(stems_full.s())``
    """
    return _for_each_clip.s(follow_up)
