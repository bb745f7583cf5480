"""The state PARKED: stored with the announcement, it is what Celery's own backend would store."""

from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.states import FAILURE, STARTED, SUCCESS

from worker.app.parked_state import show
from worker.core import redis_url
from worker.core.contract import PARKED
from worker.core.job.models import JobId
from worker.core.job.states import Turn
from worker.settings import Role, load
from worker.store.records import Records

JOB = JobId("job-1")
META = {"operation": "sonic.remaster"}
NOW = 1_000_000.0

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's


def _run() -> None:
    """Stands for a job."""


class Backend:
    """An application whose results are where the records are, and a job that is submitted."""

    def __init__(self, redis: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FERMATA_REDIS_URL", url)
        self.settings = load(Role.CLIENT)
        self.redis, self.records = redis, Records(redis)
        self.app: Any = Celery(set_as_current=False, backend=redis_url.celery_url(url))
        self.task = self.app.task(name="fermata.sonic.remaster", shared=False)(_run)
        self.key = f"celery-task-meta-{JOB}"

    def runs(self, **said: Any) -> None:
        self.task.request_stack.push(Context({"id": JOB, "delivery_info": {}, **said}))

    def announce(self, leg: str = "leg-1") -> Any:
        fields = {"operation": "sonic.remaster", "parked": "a message"}
        self.records.turn(JOB, Turn.SUBMIT, now=NOW, due_at=NOW, fields=fields, leg="leg-1")
        return self.records.announce(JOB, leg, show(self.task, META, self.settings))

    def stored(self) -> tuple[Any, int]:
        return self.redis.get(self.key), self.redis.ttl(self.key)

    def state(self) -> str:
        return str(self.app.AsyncResult(JOB).state)


@pytest.fixture
def backend(redis: Any, valkey: Any, monkeypatch: pytest.MonkeyPatch) -> Backend:
    return Backend(redis, valkey.url, monkeypatch)


@pytest.mark.parametrize(
    "said", [{}, {"group": "group-1"}, {"parent_id": "before"}, {"args": [1], "task": "extended"}]
)
def test_it_is_stored_and_told_as_celery_would(backend: Backend, said: dict[str, Any]) -> None:
    backend.app.conf.result_extended = said.get("task") == "extended"
    backend.runs(**said)
    with backend.redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(backend.key)
        heard.get_message(timeout=5)
        backend.task.update_state(state=PARKED, meta=META)
        theirs, told = backend.stored(), heard.get_message(timeout=5)
        backend.redis.delete(backend.key)

        assert backend.announce()
        assert backend.stored() == theirs
        assert told
        assert heard.get_message(timeout=5) == told


@pytest.mark.parametrize(
    ("before", "after"), [(STARTED, PARKED), (SUCCESS, SUCCESS), (FAILURE, PARKED)]
)
def test_only_a_success_stays(backend: Backend, before: str, after: str) -> None:
    backend.runs()
    failed = before == FAILURE
    backend.app.backend.store_result(JOB, ValueError("no") if failed else {}, before)
    assert backend.announce()
    assert backend.state() == after


def test_a_leg_that_is_not_the_last_stores_nothing(backend: Backend) -> None:
    backend.runs()
    assert backend.announce(leg="leg-2") is None
    assert backend.stored()[0] is None


OTHERS: dict[str, dict[str, Any]] = {
    "another database": {"result_backend": "/1"},
    "another serializer": {"result_serializer": "pickle"},
    "no end": {"result_expires": 0},
}


@pytest.mark.parametrize("conf", OTHERS.values(), ids=OTHERS.keys())
def test_celery_stores_it_where_the_backend_is_another(
    backend: Backend, conf: dict[str, Any]
) -> None:
    url = backend.settings.redis_url
    if "result_backend" in conf:
        conf = {"result_backend": redis_url.celery_url(url).removesuffix("0") + "1"}
    backend.app.conf.update(accept_content=["json", "pickle"], **conf)
    backend.runs()
    assert show(backend.task, META, backend.settings) is None
    assert backend.state() == PARKED
    assert backend.app.backend.client.delete(backend.key)


def test_celery_stores_it_where_the_settings_name_another_server(backend: Backend) -> None:
    backend.runs()
    settings = replace(backend.settings, result_backend="redis://elsewhere/0")
    assert show(backend.task, META, settings) is None
    assert backend.state() == PARKED
