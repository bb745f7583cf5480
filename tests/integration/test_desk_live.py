"""Jobs over HTTP, on real processes: enqueued, followed by server-sent events, to their end."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import requests

from tests.integration import desk
from tests.integration.hostile import Sender
from tests.system import ANSWER_SECONDS, Desk, System, stop, wait_until

JOB = {"operation": "lyrics.generate", "parameters": {"description": "the sea at night"}}
SONG = {
    "operation": "sonic.create_music",
    "parameters": {"custom_mode": False, "gpt_description_prompt": "the sea at night"},
    "then": ["sonic.wav"],
}


@dataclass(frozen=True)
class Said:
    """A server-sent event; a heartbeat has no data."""

    turn_id: str
    data: dict[str, Any]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("desk")
    with System(folder, FERMATA_DESK_TOKENS=desk.TOKENS) as system:
        system.worker()
        yield system


@pytest.fixture(scope="module")
def opened(running: System) -> Desk:
    return running.desk()


@contextmanager
def stream(opened: Desk, path: str, name: str, **headers: str) -> Iterator[Iterator[Said]]:
    """Open a stream; its events come as they are sent."""
    url, shown = f"{opened.url}/api/v1{path}", {**desk.bearer(name), **headers}
    with requests.get(url, headers=shown, stream=True, timeout=ANSWER_SECONDS) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield events(answer)


def events(answer: requests.Response) -> Iterator[Said]:
    said: dict[str, str] = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        name, _, value = line.partition(": ")
        if line:
            said[name] = value
        else:
            yield Said(said.get("id", ""), json.loads(said.get("data", "{}")))
            said = {}


def post(opened: Desk, path: str, name: str, body: dict[str, Any]) -> requests.Response:
    return requests.post(
        f"{opened.url}/api/v1{path}", json=body, headers=desk.bearer(name), timeout=ANSWER_SECONDS
    )


def test_a_job_that_is_enqueued_over_http_is_followed_to_its_end(opened: Desk) -> None:
    made = post(opened, "/jobs", "enqueuer", SONG)
    assert (made.status_code, made.headers["Location"]) == (202, f"/api/v1/jobs/{job_id(made)}")
    with stream(opened, f"/jobs/{job_id(made)}/events", "reader") as heard:
        states = [said.data["state"] for said in heard if said.data]
    assert states[-3:] == ["waiting", "resuming", "succeeded"]
    record = requests.get(
        f"{opened.url}{made.headers['Location']}",
        headers=desk.bearer("reader"),
        timeout=ANSWER_SECONDS,
    ).json()
    assert record["source"] == "webhook"
    assert record["result"]["clips"][0]["audio_url"]
    follow_up = made.json()["steps"][1]["job_id"]
    with stream(opened, f"/jobs/{follow_up}/events", "reader") as heard:
        assert [*heard][-1].data == {
            "job_id": follow_up,
            "operation": "sonic.wav",
            "state": "succeeded",
        }
    # Somebody who comes when it has ended hears that, and no more.
    with stream(opened, f"/jobs/{job_id(made)}/events", "reader") as heard:
        assert [said.data["state"] for said in heard if said.data] == ["succeeded"]


def job_id(made: requests.Response) -> str:
    found: str = made.json()["job_id"]
    return found


def test_a_flow_is_enqueued_and_seen(opened: Desk) -> None:
    made = post(opened, "/flows", "enqueuer", {"name": "account.credits"})
    url = f"{opened.url}{made.headers['Location']}"
    with stream(opened, f"/jobs/{job_id(made)}/events", "reader") as heard:
        assert [*heard][-1].data["state"] == "succeeded"
    seen = requests.get(url, headers=desk.bearer("reader"), timeout=ANSWER_SECONDS).json()
    assert (seen["ended"], seen["succeeded"], len(seen["steps"])) == (True, True, 1)


def test_a_tenant_hears_of_its_own_jobs_alone(opened: Desk) -> None:
    with (
        stream(opened, "/events", "acme-reader") as own,
        stream(opened, "/events", "reader") as everything,
    ):
        next(own), next(everything)  # the streams are open
        others = job_id(post(opened, "/jobs", "operator", {**JOB, "tenant": "globex"}))
        acmes = job_id(post(opened, "/jobs", "acme", JOB))
        wanted = {(each, state) for each in (others, acmes) for state in ("queued", "succeeded")}
        heard = set()
        for said in everything:
            heard.add((said.data.get("job_id"), said.data.get("state")))
            if wanted <= heard:
                break
        acme_heard = set()
        for said in own:
            acme_heard.add(said.data.get("job_id"))
            if said.data.get("state") == "succeeded":
                break
        assert acme_heard - {None} == {acmes}


def test_what_happens_while_the_desk_restarts_is_heard_afterwards(running: System) -> None:
    first = running.desk("first")
    with stream(first, "/events", "reader") as heard:
        last = next(heard).turn_id
        first.process.terminate()
        assert all(not said.data for said in heard)  # it ends by itself
    assert first.process.wait(ANSWER_SECONDS) == 0
    enqueued = running.fermata("submit", "account.credits", "--json")
    made = json.loads(enqueued.stdout)[0]["job_id"]
    second = running.desk("second", port=first.port)
    states = []
    with stream(second, "/events", "reader", **{"Last-Event-ID": last}) as heard:
        for said in heard:
            if said.data.get("job_id") == made:
                states.append(said.data["state"])
            if "succeeded" in states:
                break
    assert states[0] == "queued"
    stop(second.process)


HEAD = b"POST /login HTTP/1.1\r\nHost: localhost\r\n"
SILENT = {"in its head": HEAD, "in its body": HEAD + b"Content-Length: 99\r\n\r\n{"}


@pytest.fixture(scope="module")
def impatient(running: System) -> Desk:
    return running.desk(
        "impatient", threads=4, worker_class="tests.integration.impatient_desk.Worker"
    )


def test_live_pages_do_not_keep_a_desk_whose_master_was_killed(running: System) -> None:
    opened = running.desk("orphaned")
    master = psutil.Process(opened.process.pid)
    [worker] = master.children()
    with stream(opened, "/events", "reader") as heard:
        next(heard)
        master.kill()
        wait_until(lambda: has_ended(worker), seconds=10, what="its worker has ended")


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("where", SILENT)
def test_strangers_who_fall_silent_hold_no_thread_and_streams_go_on(
    impatient: Desk, where: str
) -> None:
    """Three times as many as there are threads, beside a stream."""
    with stream(impatient, "/events", "reader") as heard:
        next(heard)
        strangers = [Sender(impatient.url) for _ in range(12)]
        for stranger in strangers:
            stranger.begin(SILENT[where])
        made = job_id(post(impatient, "/jobs", "enqueuer", {"operation": "account.credits"}))
        assert all(stranger.ended() for stranger in strangers)
        states = []
        while "succeeded" not in states:
            said = next(heard).data
            states += [said["state"]] if said.get("job_id") == made else []
    for stranger in strangers:
        stranger.close()


def test_without_tokens_the_link_that_is_printed_opens_the_desk(
    running: System,
) -> None:
    alone = running.desk("alone", FERMATA_DESK_TOKENS="")
    [link] = {
        word.partition("url=")[2].strip("'")
        for word in running.log("alone").split()
        if word.startswith("url=")
    }
    assert link.startswith(f"{alone.url}/login?token=")
    with requests.Session() as browser:
        entered = browser.get(link, allow_redirects=False, timeout=ANSWER_SECONDS)
        assert (entered.status_code, entered.headers["Location"]) == (303, "/")
        assert browser.get(f"{alone.url}/api/v1/jobs", timeout=ANSWER_SECONDS).ok
    secret = link.partition("token=")[2]
    shown = {"Authorization": f"Bearer {secret}"}
    assert requests.get(f"{alone.url}/api/v1/jobs", headers=shown, timeout=ANSWER_SECONDS).ok
    stop(alone.process)
