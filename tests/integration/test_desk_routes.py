"""Every route of the desk: who gets nothing there, who changes nothing, who sees nothing of others.

The tests walk the application's own list of routes, so a route that is added is tested too. If it
has a parameter of a new name, ``Things.ids`` must learn it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from desk.doors import is_for_programs
from desk.parts import EXTENSION
from tests.integration import desk
from worker.archive.targets import open_target
from worker.batch.manifest import Format, read
from worker.core import keys
from worker.core.archive.links import manifest_name, new_manifest
from worker.core.batch import Row
from worker.core.job.models import JobId, Kind
from worker.settings import Settings
from worker.store.lists import MOST_LOOKED_AT

OPEN: Final = {"static", "doors.login", "health.healthz"}
OWN: Final = {"doors.logout"}
"""What a visitor of any role may change: their own session."""
SYSTEM_WIDE: Final = {
    "system.schedules", "system.figures", "system.pause", "system.resume", "system.run",
    "pages.schedules", "pages.run_schedule", "pages.gate", "pages.pause_gate", "pages.resume_gate",
    "deliveries.adopt", "pages.adopt",
}  # fmt: skip
"""What a tenant may not see, because it is about all of them."""
OF_EVERYBODY: Final = {"pages.trial_of", "pages.enqueue"}
"""Their parameter names an operation."""
ENDLESS: Final = {"jobs.all_events"}
"""Streams that end with the client; they have tests of their own."""
SAFE: Final = {"GET", "HEAD", "OPTIONS"}
THE_SAME: Final = {
    "pages.adopt": "deliveries.adopt",
    "pages.archive_job": "files.archive",
    "pages.archive_song": "song.archive",
    "pages.cancel_batch": "batches.cancel",
    "pages.check_manifest": "batches.submit",
    "pages.cancel_job": "jobs.cancel",
    "pages.cancel_matching_now": "jobs.cancel_all",
    "pages.drop": "deliveries.drop",
    "pages.enqueue": "flows.enqueue_job",
    "pages.pause_gate": "system.pause",
    "pages.poll_job": "jobs.poll",
    "pages.replay": "deliveries.replay",
    "pages.resume_gate": "system.resume",
    "pages.verify": "deliveries.verify",
    "pages.retry_batch": "batches.retry",
    "pages.retry_flow": "flows.retry",
    "pages.retry_job": "jobs.retry",
    "pages.retry_matching_now": "jobs.retry_all",
    "pages.run_schedule": "system.run",
    "pages.submit_manifest": "batches.submit",
}
"""What the page does, and the same by the API."""


@dataclass(frozen=True)
class Things:
    """What belongs to one tenant."""

    job_id: str
    batch_id: str
    entry_id: str

    @property
    def ids(self) -> dict[str, str]:
        """By the names of the routes' parameters."""
        return {
            "job_id": self.job_id,
            "flow_id": self.job_id,
            "batch_id": self.batch_id,
            "entry_id": self.entry_id,
            "name": f"{self.job_id}/song.mp3",
            "filename": "none.css",
            "operation": "sonic.wav",
            "schedule": "nightly",
        }


def things(app: Flask, tenant: str, name: str = "songs") -> Things:
    """Make a job, a batch and a quarantined delivery of a tenant."""
    asked = {"operation": "lyrics.generate", "parameters": {"description": "sea"}, "tenant": tenant}
    made = desk.client(app, "enqueuer").post("/api/v1/jobs", json=asked)
    job_id = made.json["job_id"]
    parts, batch_id = app.extensions[EXTENSION], f"{name}-of-{tenant}"
    line = f'{{"operation": "account.credits", "tenant": "{tenant}"}}'.encode()
    rows = [row for row in read([line], form=Format.JSONL) if isinstance(row, Row)]
    parts.ledger.open(batch_id, now=1.0, rows=1, expected_jobs=1, expected_credits=0)
    parts.runs.submit(batch_id, rows)
    entry_id = parts.quarantine.keep(
        Kind.UNREADABLE, JobId(job_id), {}, tenant.encode(), "torn", now=1.0
    )
    _archive(parts.settings, job_id)
    return Things(job_id, batch_id, entry_id)


def _archive(settings: Settings, job_id: str) -> None:
    """Archive a file of a job, as ``archive.store`` does."""
    target, sound = open_target(settings.archive.url), b"ID3"
    manifest = new_manifest({"job_id": job_id}, datetime.now(UTC))
    manifest["files"][f"{job_id}/song.mp3"] = {
        "kind": "audio", "clip_id": "clip", "source": "cdn.test/song.mp3", "bytes": len(sound),
        "sha256": "0", "content_type": "audio/mpeg", "at": manifest["began_at"],
    }  # fmt: skip
    target.replace(f"{job_id}/song.mp3", sound)
    target.replace(manifest_name(job_id), json.dumps(manifest).encode())


@pytest.fixture
def app(valkey: Any, redis: Any, tmp_path: Path) -> Flask:
    return desk.build(valkey.url, FERMATA_ARCHIVE_URL=f"file://{tmp_path}")


@pytest.fixture
def globex(app: Flask) -> Things:
    """What the visitors of acme must never see."""
    return things(app, "globex")


def walk(app: Flask) -> Iterator[tuple[Rule, str]]:
    """Yield each route with each of its methods."""
    for rule in app.url_map.iter_rules():
        yield from ((rule, method) for method in sorted(rule.methods or ()))


def ask(client: FlaskClient, rule: Rule, method: str, of: Things, **options: Any) -> Any:
    with client.application.test_request_context():
        adapter = client.application.url_map.bind("localhost")
        path = adapter.build(rule.endpoint, {n: of.ids[n] for n in rule.arguments}, method=method)
    # To its end: the answer with a file of the archive holds that file open.
    return client.open(path, method=method, buffered=True, **options)


def test_without_a_token_every_route_is_closed(app: Flask, globex: Things) -> None:
    for rule, method in walk(app):
        if rule.endpoint in OPEN:
            continue
        answer = ask(app.test_client(), rule, method, globex)
        if is_for_programs(rule.rule):
            assert answer.status_code == 401, (method, rule)
        else:
            assert answer.location.startswith("/login?next="), (method, rule)


def test_a_read_token_changes_nothing(app: Flask, globex: Things) -> None:
    client, seen = desk.client(app, "reader"), 0
    for rule, method in walk(app):
        if method not in SAFE and rule.endpoint not in OPEN | OWN:
            assert ask(client, rule, method, globex, json={}).status_code == 403, (method, rule)
            seen += 1
    assert seen >= 8


def test_every_view_that_changes_something_asks_for_a_role(app: Flask) -> None:
    for rule, method in walk(app):
        if method not in SAFE and rule.endpoint not in OPEN | OWN:
            view = app.view_functions[rule.endpoint]
            assert "guarded" in chain_of(view), f"{rule.endpoint} lacks `requires`"


def test_the_page_and_the_api_ask_for_the_same_role(app: Flask, globex: Things) -> None:
    actions = {r.endpoint: (r, m) for r, m in walk(app) if m not in SAFE}
    assert {name for name in actions if name.startswith("pages.")} == THE_SAME.keys()
    for page, api in THE_SAME.items():
        for name in ("reader", "enqueuer", "operator"):
            client = desk.client(app, name)
            answers = [ask(client, *actions[e], globex, json={}).status_code for e in (page, api)]
            assert len({status == 403 for status in answers}) == 1, (page, name, answers)


def chain_of(view: Any) -> list[str]:
    """Name the functions that wrap a view."""
    names = []
    while view is not None:
        names.append(view.__code__.co_name)
        view = getattr(view, "__wrapped__", None)
    return names


def test_every_form_without_its_csrf_token_is_refused(app: Flask, globex: Things) -> None:
    client = app.test_client()
    desk.log_in(client, "operator")
    for rule, method in walk(app):
        if method not in SAFE:
            assert ask(client, rule, method, globex, data={}).status_code == 403, (method, rule)


@pytest.mark.parametrize("name", ["acme", "acme-reader"])
def test_a_tenants_token_never_sees_what_is_another_ones(
    app: Flask, globex: Things, name: str
) -> None:
    client, before = desk.client(app, name), state_of(app, globex)
    for rule, method in walk(app):
        if rule.endpoint in OPEN | OWN | ENDLESS | OF_EVERYBODY:
            continue
        answer = ask(client, rule, method, globex, json={} if method == "POST" else None)
        if rule.arguments and method != "OPTIONS":
            assert answer.status_code in {403, 404}, (method, rule)
        if rule.endpoint in SYSTEM_WIDE and method != "OPTIONS":
            assert answer.status_code == 403, (method, rule)
        assert not any(thing in answer.text for thing in (globex.job_id, "globex")), rule
    assert state_of(app, globex) == before


def state_of(app: Flask, of: Things) -> list[Any]:
    parts = app.extensions[EXTENSION]
    return [
        parts.readings.read(of.job_id),
        parts.ledger.read(of.batch_id),
        parts.quarantine.read(of.entry_id).entry_id,
    ]


def test_an_unknown_id_and_another_tenants_id_are_told_apart_by_nothing(
    app: Flask, globex: Things
) -> None:
    client, none = desk.client(app, "acme"), Things("none", "none", "1-1")
    for rule, method in walk(app):
        if rule.arguments and rule.endpoint not in OPEN | OF_EVERYBODY:
            theirs, nobodys = (ask(client, rule, method, of) for of in (globex, none))
            assert (theirs.status_code, theirs.data) == (nobodys.status_code, nobodys.data)


@pytest.mark.parametrize("tenant", ["acme", "default"])
def test_a_tenants_cursors_say_nothing_of_others(app: Flask, tenant: str) -> None:
    own: dict[str, list[str]] = {"job_id": [], "batch_id": [], "entry_id": []}
    others: dict[str, list[str]] = {name: [] for name in own}
    for number in range(2):
        for kept, made in (
            (others, things(app, "globex", f"a-{number}")),
            (own, things(app, tenant, f"b-{number}")),
            (others, things(app, "globex", f"c-{number}")),
        ):
            for name, ids in kept.items():
                ids.append(made.ids[name])
    client = desk.client(app, f"{tenant}-reader")
    lists = {"jobs?state=queued&": "job_id", "batches?": "batch_id", "quarantine?": "entry_id"}
    for path, name in lists.items():
        seen, cursors, cursor = [], [], ""
        while cursor is not None:
            page = client.get(f"/api/v1/{path}limit=1{cursor and '&cursor='}{cursor}").json
            seen += [item[name] for item in page["items"]]
            cursors += [cursor := page["cursor"]]
        assert sorted(seen) == sorted(own[name]), path
        said = [str(each).rpartition("~")[2] for each in cursors if each]
        assert set(said) <= set(own[name]), path
    for batch_id in (*others["batch_id"], "none"):
        answer = client.get(f"/api/v1/batches?cursor={batch_id}")
        assert answer.json == {"items": [], "cursor": None}


def test_a_tenants_empty_page_goes_on_from_a_job_of_its_own(app: Flask, redis: Any) -> None:
    # The index of the state is the smaller one.
    redis.sadd(keys.STATES, "failed:sonic.wav")
    others = {f"globex-{number}": number for number in range(MOST_LOOKED_AT + 1)}
    own = {f"acme-{number}": number for number in range(MOST_LOOKED_AT + 2)}
    redis.zadd(f"{keys.STATES}:failed:sonic.wav", others)
    redis.zadd(f"{keys.TENANTS}:acme", own)
    client = desk.client(app, "acme-reader")
    assert "~acme-" in client.get("/api/v1/jobs?state=failed").json["cursor"]
    assert "~acme-" in client.get("/jobs?state=failed").text


def test_a_tenant_sees_its_own(app: Flask, globex: Things) -> None:
    own, client = things(app, "acme"), desk.client(app, "acme")
    for rule, method in walk(app):
        if method == "GET" and rule.arguments and rule.endpoint not in OPEN | {"jobs.events"}:
            assert ask(client, rule, method, own).status_code == 200, rule
    for path, wanted in (("jobs", 2), ("batches", 1), ("quarantine", 1), ("deliveries", 1)):
        assert len(client.get(f"/api/v1/{path}").json["items"]) == wanted


def test_a_tenants_jobs_are_its_own_whatever_it_asks_for(app: Flask, globex: Things) -> None:
    client = desk.client(app, "acme")
    asked = {"operation": "account.credits"}
    made = client.post("/api/v1/jobs", json=asked).json["job_id"]
    assert client.get(f"/api/v1/jobs/{made}").json["tenant"] == "acme"
    refused = client.post("/api/v1/jobs", json={**asked, "tenant": "globex"})
    assert (refused.status_code, [*refused.json["errors"]]) == (422, ["tenant"])
    assert client.get("/api/v1/jobs?tenant=globex").status_code == 404
    cancelled = client.post("/api/v1/jobs/cancel", json={"operation": "account.credits"})
    assert cancelled.json == {"ending": 1, "too_late": 0, "left": 0, "cursor": None}
    assert client.post("/api/v1/jobs/cancel", json={"tenant": "globex"}).status_code == 404


def test_equal_idempotency_keys_of_two_tenants_do_not_meet(app: Flask) -> None:
    asked, key = {"operation": "account.credits"}, {"Idempotency-Key": "order-1"}
    made = [
        desk.client(app, name).post("/api/v1/jobs", json=asked, headers=key).json["job_id"]
        for name in ("acme", "acme", "operator", "operator")
    ]
    assert made[0] == made[1] != made[2] == made[3]
