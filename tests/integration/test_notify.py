"""A URL is told when a flow has ended: once it has, signed, and at hosts of the list alone."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests

from tests.integration.desk import TOKENS, bearer
from tests.ports import take_port
from tests.system import ANSWER_SECONDS, Desk, System, wait_until
from worker.core.contract import NOTIFY, QUEUE, SLOW_QUEUE
from worker.core.job.models import JobId

KEY: Final = bytes(range(32))
SECRET: Final = "whsec_" + base64.b64encode(KEY).decode()
HELD: Final[dict[str, Any]] = {"webhook": "lost", "latency_seconds": 600}
FAILING: Final[dict[str, Any]] = {"outcome": "fail"}


class Told:
    """A backend's own server; each path may have answers to give before it says 204."""

    def __init__(self) -> None:
        self.heard: dict[str, list[dict[str, Any]]] = {}
        self.answers: dict[str, list[int]] = {}
        told = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = {"headers": dict(self.headers.items()), "body": body}
                told.heard.setdefault(self.path, []).append(message)
                answers = told.answers.get(self.path)
                self.send_response(answers.pop(0) if answers else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.port = take_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def hears(self, path: str, times: int = 1) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.heard.get(path, [])) >= times, seconds=40, what=f"{path} heard")
        return self.heard[path]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    server = Told()
    with contextlib.closing(server):
        yield server


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, told: Told) -> Iterator[System]:
    settings: dict[str, Any] = {
        "FERMATA_DESK_TOKENS": TOKENS,
        "FERMATA_NOTIFY_HOSTS": f"hooks.example.com,localhost,{told.url}",
        "FERMATA_NOTIFY_SECRET": SECRET,
    }
    with System(tmp_path_factory.mktemp("notify"), **settings) as system:
        system.worker(queues=f"{QUEUE},{SLOW_QUEUE}")
        yield system


@pytest.fixture(scope="module")
def desk(system: System) -> Desk:
    return system.desk()


def post(desk: Desk, asked: dict[str, Any], *, path: str = "jobs", **headers: str) -> Any:
    return requests.post(
        f"{desk.url}/api/v1/{path}",
        json=asked,
        headers={**bearer("operator"), **headers},
        timeout=ANSWER_SECONDS,
    )


def clip() -> str:
    return str(uuid.uuid4())


def enqueue(desk: Desk, notify: str, *then: str, source: str = "", **more: Any) -> dict[str, Any]:
    asked = {"operation": "sonic.remaster", "source": source or clip(), "then": [*then]}
    answer = post(desk, asked | {"parameters": {"mv": "chirp-v5"}, "notify": notify} | more)
    assert answer.status_code == 202, answer.text
    enqueued: dict[str, Any] = answer.json()
    return enqueued


def verified(message: dict[str, Any]) -> dict[str, Any]:
    """Verify a message as Standard Webhooks says; returns its data."""
    headers, body = message["headers"], message["body"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(KEY, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300
    content: dict[str, Any] = json.loads(body)
    assert content["type"] == "flow.ended"
    data: dict[str, Any] = content["data"]
    return data


def ended(flow: dict[str, Any], **data: Any) -> dict[str, Any]:
    first = flow["job_id"]
    return {"flow_id": first, "job_id": first, "state": "succeeded", "error_type": None} | data


def flow_of(desk: Desk, flow: dict[str, Any]) -> Any:
    answer = requests.get(
        f"{desk.url}/api/v1/flows/{flow['job_id']}",
        headers=bearer("operator"),
        timeout=ANSWER_SECONDS,
    )
    return answer.json()


def test_a_signed_message_tells_that_one_job_has_ended(desk: Desk, told: Told) -> None:
    flow = enqueue(desk, f"{told.url}/one?key=hush")
    [message] = told.hears("/one?key=hush")
    assert verified(message) == ended(flow)
    assert "remaster" not in message["body"].decode()


def test_a_flow_has_ended_when_its_last_branch_has(system: System, desk: Desk, told: Told) -> None:
    flow = enqueue(desk, f"{told.url}/branches", "sonic.wav+sonic.midi", "sonic.stems_full")
    wait_until(lambda: flow_of(desk, flow)["ended"], seconds=60, what="the flow has ended")
    messages = told.hears("/branches")
    assert flow_of(desk, flow)["succeeded"]
    assert len(flow_of(desk, flow)["steps"]) == 4  # what tells the URL is no part of the flow
    data = verified(messages[0])
    assert (data["flow_id"], data["state"]) == (flow["job_id"], "succeeded")
    wait_until(lambda: not system.backlog(SLOW_QUEUE)[0], what="all messages were taken")
    assert len(messages) == 1


@pytest.mark.parametrize(
    "then", [("archive.store",), ("archive.store", "sonic.wav+archive.store")], ids=str
)
def test_a_flow_with_an_archive_at_its_ends_is_told_of_once(
    system: System, desk: Desk, told: Told, then: tuple[str, ...]
) -> None:
    path = f"/archived-{len(then)}"
    flow = enqueue(desk, f"{told.url}{path}", *then)
    [message] = told.hears(path)
    assert verified(message) == ended(flow, job_id=flow["steps"][-1]["job_id"])
    assert flow_of(desk, flow)["succeeded"]
    wait_until(lambda: not system.backlog(SLOW_QUEUE)[0], what="all messages were taken")
    assert len(told.heard[path]) == 1


def test_a_named_flow_has_ended_with_its_second_operation(desk: Desk, told: Told) -> None:
    asked = {
        "name": "flows.song_from_idea",
        "parameters": {"description": "a note that is held", "tags": "waltz"},
        "notify": f"{told.url}/named",
    }
    flow = post(desk, asked, path="flows").json()
    [message] = told.hears("/named")
    assert verified(message) == ended(flow, job_id=flow["steps"][1]["job_id"])


def test_a_branch_that_still_runs_keeps_the_message_back(
    system: System, desk: Desk, told: Told
) -> None:
    source = clip()
    system.simulator.rule(source, latency_seconds=2)  # time to choose how the branches end
    flow = enqueue(desk, f"{told.url}/held", "sonic.remaster", "sonic.remaster", source=source)
    failing, held = (step["job_id"] for step in flow["steps"][1:])
    system.simulator.rule(held, **HELD)
    system.simulator.rule(failing, **FAILING)
    wait_until(lambda: system.state(failing) == "failed", seconds=40, what="one branch has failed")
    wait_until(lambda: system.state(held) == "waiting", what="the other one waits")
    assert "/held" not in told.heard
    requests.post(
        f"{desk.url}/api/v1/jobs/{held}/cancel", headers=bearer("operator"), timeout=ANSWER_SECONDS
    ).raise_for_status()
    [message] = told.hears("/held")
    assert verified(message) == ended(flow, job_id=failing, state="failed", error_type="TaskFailed")


def test_a_failure_before_the_branches_is_the_end_of_all(
    system: System, desk: Desk, told: Told
) -> None:
    source = clip()
    system.simulator.rule(source, **FAILING)
    flow = enqueue(desk, f"{told.url}/first", "sonic.wav", "sonic.midi", source=source)
    [message] = told.hears("/first")
    assert verified(message) == ended(flow, state="failed", error_type="TaskFailed")


def test_it_is_told_again_until_it_has_heard_and_by_the_same_id(desk: Desk, told: Told) -> None:
    told.answers["/busy"] = [500, 500]
    flow = enqueue(desk, f"{told.url}/busy")
    messages = told.hears("/busy", 3)
    assert [verified(message) for message in messages] == [ended(flow)] * 3
    assert len({message["headers"]["webhook-id"] for message in messages}) == 1
    assert flow_of(desk, flow)["succeeded"]


def test_one_that_is_gone_is_told_once_and_no_job_changes(
    system: System, desk: Desk, told: Told
) -> None:
    told.answers["/gone"] = [410]
    flow = enqueue(desk, f"{told.url}/gone")
    told.hears("/gone")
    wait_until(lambda: "HTTP 410" in system.log("worker"), what="the refusal is logged")
    assert flow_of(desk, flow)["succeeded"]
    assert len(told.heard["/gone"]) == 1


def test_a_retried_job_ends_its_flow_anew(system: System, desk: Desk, told: Told) -> None:
    source = clip()
    system.simulator.rule(source, times=1, **FAILING)
    flow = enqueue(desk, f"{told.url}/again", source=source)
    told.hears("/again")
    wait_until(lambda: system.state(flow["job_id"]) == "failed", what="it has failed")
    again = requests.post(
        f"{desk.url}/api/v1/jobs/{flow['job_id']}/retry",
        json={"even_if_paid": True}, headers=bearer("operator"), timeout=ANSWER_SECONDS,
    )  # fmt: skip
    first, second = told.hears("/again", 2)
    assert verified(first) == ended(flow, state="failed", error_type="TaskFailed")
    assert verified(second) == ended(flow, job_id=again.json()["job_id"])
    assert first["headers"]["webhook-id"] != second["headers"]["webhook-id"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://elsewhere.test/x", "FERMATA_NOTIFY_HOSTS does not name its host"),
        ("http://hooks.example.com/x", "only https"),
        ("https://hooks.example.com:8443/x", "only https on its own port"),
        ("http://127.0.0.1:1/x", "only https"),
        ("https://user@hooks.example.com/", "names a user"),
        ("http://169.254.169.254/latest", "only https"),
        ("https://" + "a" * 1100, "longer than"),
        ("", "only https"),
    ],
)
def test_a_url_elsewhere_is_refused_with_all_other_mistakes(desk: Desk, url: str, why: str) -> None:
    asked = {"operation": "account.credits", "notify": url, "priority": "now"}
    answer = post(desk, asked)
    assert answer.status_code == 422
    assert sorted(answer.json()["errors"]) == ["notify", "priority"]
    assert why in answer.json()["errors"]["notify"][0]


def test_a_listed_name_with_an_inner_address_is_not_called(system: System, desk: Desk) -> None:
    asked = {"operation": "account.credits", "notify": "https://localhost/hush"}
    flow = post(desk, asked).json()
    refused = "refused localhost: its address"
    wait_until(lambda: refused in system.log("worker"), seconds=40, what="the worker refuses")
    assert flow_of(desk, flow)["succeeded"]


def test_the_workers_decide_by_their_own_list(system: System) -> None:
    wider = system.desk("wider", FERMATA_NOTIFY_HOSTS="elsewhere.test")
    asked = {"operation": "account.credits", "notify": "https://elsewhere.test/hush"}
    flow = post(wider, asked).json()
    refused = "refused elsewhere.test"
    wait_until(lambda: refused in system.log("worker"), seconds=40, what="the worker refuses")
    assert flow_of(wider, flow)["succeeded"]


def test_no_log_and_no_monitor_is_told_the_url(system: System, desk: Desk, told: Told) -> None:
    """A path may be a secret as well as a query."""
    told.answers["/hush-path?hush=1"] = [500]
    heard: list[dict[str, Any]] = []
    with system.app.connection_for_read() as connection:
        receiver = system.app.events.Receiver(connection, handlers={"*": heard.append})
        with receiver.consumer_context(wakeup=False) as (listening, _, _):

            def is_heard_twice() -> bool:
                with contextlib.suppress(TimeoutError):
                    while True:
                        listening.drain_events(timeout=0.05)
                return len(notices(heard)) >= 2

            is_heard_twice()  # kombu's Redis subscribes when it is first asked
            flow = enqueue(desk, f"{told.url}/hush-path?hush=1")
            wait_until(is_heard_twice, seconds=40, what="the monitors hear of both attempts")
    assert all(flow["job_id"] in each["kwargs"] for each in notices(heard))
    assert "hush" not in json.dumps(heard)
    assert "hush" not in system.log("worker")


def notices(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in events if e["type"] == "task-received" and e["name"] == NOTIFY]


def test_without_the_settings_nobody_is_told(system: System) -> None:
    desk = system.desk("silent", FERMATA_NOTIFY_HOSTS="", FERMATA_NOTIFY_SECRET="")
    answer = post(desk, {"operation": "account.credits", "notify": "https://hooks.example.com/"})
    assert answer.status_code == 422
    assert "FERMATA_NOTIFY_HOSTS" in answer.json()["errors"]["notify"][0]


def test_a_follow_up_works_on_the_take_that_is_picked(system: System, desk: Desk) -> None:
    """Without a source the pick is of the result; with one, of the source."""
    parameters = {"custom_mode": False, "gpt_description_prompt": "a calm piano piece"}
    song = {"operation": "sonic.create_music", "parameters": parameters}
    flow = post(desk, song | {"then": ["sonic.wav", "sonic.vox"], "pick": 1}).json()
    wait_until(lambda: flow_of(desk, flow)["ended"], seconds=60, what="the flow has ended")
    first, *rest = (system.readings.read(step["job_id"]) for step in flow["steps"])
    takes = first.result
    assert takes is not None
    second = takes["clips"][1]["clip_id"]
    assert [job.clip_id for job in rest] == [second, second]
    own = post(desk, {"operation": "sonic.wav", "source": takes, "pick": -1}).json()["job_id"]
    wait_until(lambda: system.state(own) == "succeeded", seconds=60, what="the take is a file")
    assert system.readings.read(JobId(own)).clip_id == second


def test_a_key_stands_for_one_url(desk: Desk, told: Told) -> None:
    asked = {"operation": "account.credits", "notify": f"{told.url}/key"}
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first, second = (post(desk, asked, **key).json()["job_id"] for _ in range(2))
    assert first == second
    assert post(desk, asked | {"notify": f"{told.url}/other"}, **key).status_code == 422
