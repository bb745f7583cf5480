"""A worker of threads, as it ships: what it holds at once, and what becomes of it at its end."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from signal import SIGTERM
from typing import Any

import pytest

from tests import launcher
from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, who
from tests.launcher import Started
from tests.system import System, stop, wait_until
from worker.core.contract import QUEUE
from worker.core.health.checks import THREADS

SLOW: dict[str, Any] = {"submit": "slow", "submit_delay_seconds": 4, "latency_seconds": 5}
"""A scenario: the provider has accepted the job, and takes its time to say so."""

Start = Callable[..., Started]


@pytest.fixture(scope="module", params=["Redis", "RabbitMQ"])
def threaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A system without workers: each test starts its own."""
    folder = tmp_path_factory.mktemp("threaded")
    settings: dict[str, Any] = {"FERMATA_VISIBILITY_SECONDS": "60"}
    with System(folder, rabbitmq=request.param == "RabbitMQ", **settings) as system:
        yield system


@pytest.fixture
def flow(threaded: System) -> Iterator[Flow]:
    flows = Flows(threaded)
    yield flows.open()
    flows.close()


@pytest.fixture
def start(threaded: System) -> Iterator[Start]:
    """Starts workers; what is left of them at the end is stopped."""
    workers = []

    def start(name: str, **options: Any) -> Started:
        (threaded.folder / f"{name}.log").write_bytes(b"")
        workers.append(threaded.worker(name, app="tests.canvas_app", **options))
        return workers[-1]

    yield start
    for worker in workers:
        stop(worker)


class Hall:
    """A provider that answers nobody until all are told to."""

    def __init__(self) -> None:
        self.waiting = 0
        self._told = threading.Event()
        hall, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with lock:
                    hall.waiting += 1
                hall._told.wait(GET_SECONDS)
                body = json.dumps({"message": "success", "task_id": clip()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def tell(self) -> None:
        self._told.set()

    def close(self) -> None:
        self.tell()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 2 * THREADS
    daemon_threads = True


@pytest.fixture
def hall() -> Iterator[Hall]:
    hall = Hall()
    yield hall
    hall.close()


def test_a_worker_has_as_many_submits_at_the_provider_as_it_has_threads(
    flow: Flow, start: Start, hall: Hall
) -> None:
    jobs = [flow.job(clip()) for _ in range(THREADS + 5)]
    for job in jobs:
        job.apply_async()

    worker = start("many", FERMATA_PROVIDER_URL=hall.url)

    wait_until(lambda: hall.waiting == THREADS, what="every thread submits")
    hall.tell()
    for job in jobs:
        flow.waits(job.id)
    assert hall.waiting == len(jobs)
    stop(worker)
    assert "Traceback" not in flow.system.log("many")
    assert "pool is full" not in flow.system.log("many")


def in_hand(flow: Flow, start: Start, name: str) -> tuple[Started, list[Any]]:
    """Let a worker submit a chain, a chord and a job that fails, and the provider say nothing yet.

    What follows them goes to a queue that the worker does not read.
    """
    note: dict[str, Any] = {"queue": "heirs"}
    failing = flow.job(clip(), rule=SLOW | {"outcome": "fail"})
    canvases = [
        flow.job(clip(), rule=SLOW) | flow.note(**note),
        flow.chord([flow.job(clip(), rule=SLOW) for _ in range(3)], flow.note(**note)),
        failing.on_error(flow.errback().set(**note)),
    ]
    results = [canvas.apply_async() for canvas in canvases]
    worker = start(name)
    for job_id in flow.jobs:
        wait_until(lambda j=job_id: flow.accepted(j), what=f"{job_id} is at the provider")
    return worker, results


def all_go_on(flow: Flow, start: Start, results: list[Any]) -> None:
    start("heir", queues=f"{QUEUE},heirs")
    flow.ends()
    flow.paid_once()
    assert who(results[0].get(timeout=GET_SECONDS)) == flow.jobs[1]
    assert who(results[1].get(timeout=GET_SECONDS)) == flow.jobs[2:]
    assert flow.state(flow.jobs[0]) == "failed"


def test_a_worker_that_is_killed_loses_nothing_that_its_threads_had_in_hand(
    flow: Flow, start: Start
) -> None:
    doomed, results = in_hand(flow, start, "doomed")

    stop(doomed, kill=True)

    all_go_on(flow, start, results)


def test_a_worker_that_is_stopped_ends_what_its_threads_have_in_hand(
    flow: Flow, start: Start
) -> None:
    stopped, results = in_hand(flow, start, "stopped")

    stopped.send_signal(SIGTERM)
    assert stopped.wait(GET_SECONDS) == 0

    assert not {*map(flow.state, flow.jobs)} & {"queued", "submitting", "unconfirmed"}
    assert flow.system.backlog()[0] == 0
    all_go_on(flow, start, results)
    told = flow.system.log("heir")
    assert not any(f"job_submitted                  job_id={j}" in told for j in flow.jobs)


def test_another_application_in_a_workers_process_has_its_connections(threaded: System) -> None:
    """kombu's pools are the process's: if two limits differ, one of the two cannot publish."""
    code = (
        "from celery import Celery; from worker.app import app; "
        "assert app.conf.broker_pool_limit == Celery().conf.broker_pool_limit"
    )
    ran = launcher.run("-c", code, environment=threaded.environment, folder=threaded.folder)
    assert ran.returncode == 0, ran.stderr
