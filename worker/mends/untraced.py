"""A leg that parks builds no traceback.

A submit leg that parks ends with ``Ignore``, which is no error. Celery still builds two copies of
its traceback, for a log line that is dropped, and pickles one to the worker's main process.
billiard lists every code position of every frame in it, including the frames of Celery's tracer:
that takes a fifth of a submit leg's CPU and allocates some 420 KB each time. ``install`` gives
Celery's tracer a class that leaves the traceback out, for ``Ignore`` alone.
"""

import sys
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.app import trace
from celery.exceptions import Ignore


class LegInfo(ExceptionInfo):
    """Celery's report of an exception, without the traceback if it is an ``Ignore``."""

    def __init__(self, exc_info: Any = None, internal: bool = False) -> None:
        kind, error, _ = exc_info or sys.exc_info()
        if isinstance(error, Ignore):
            vars(self).update(type=kind, exception=error, tb=None, traceback="", internal=internal)
        else:
            super().__init__(exc_info, internal)


def install() -> None:
    """Make Celery's tracer use ``LegInfo`` in this process."""
    vars(trace)["ExceptionInfo"] = LegInfo
