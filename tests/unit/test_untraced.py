"""A leg that parks leaves no traceback; an error keeps its own."""

import pickle
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject

from worker.mends import untraced


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a task that raises an exception as a worker would, and return what the tracer tells."""
    monkeypatch.setattr("celery.app.trace.ExceptionInfo", untraced.LegInfo)

    def run(error: Exception) -> Any:
        app = Celery(set_as_current=False, backend="cache+memory://")

        @app.task(name="raising")
        def raising() -> None:
            raise error

        request = {"id": "1", "delivery_info": {}}
        trace: Any = build_tracer("raising", raising, app=app)
        return trace("1", (), {}, request).retval

    return run


def test_a_leg_that_parks_has_no_traceback_and_is_still_an_ignore(traced: Any) -> None:
    told = traced(Ignore())
    assert (told.tb, told.traceback) == (None, "")
    assert isinstance(pickle.loads(pickle.dumps(told)).exception, Ignore)


@pytest.mark.parametrize("error", [ValueError("wrong"), Reject("later", requeue=True)])
def test_anything_else_keeps_its_traceback(traced: Any, error: Exception) -> None:
    told = traced(error)
    assert told.tb is not None
    assert "raise error" in told.traceback
