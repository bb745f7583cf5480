"""Redis 6.2 and 7 in Valkey's place: records, broker and results."""

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests import servers
from tests.acceptance.test_cli import fermata
from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, clip, who
from tests.system import System


@pytest.mark.parametrize("version", servers.REDIS_VERSIONS)
def test_a_flow_parks_and_ends_on_an_older_redis(tmp_path: Path, version: str) -> None:
    with System(tmp_path, redis=servers.redis(version, tmp_path / "redis")) as system:
        system.worker(app="tests.canvas_app")
        with Redis.from_url(system.redis_url) as redis:
            assert redis.info("server")["redis_version"].startswith(version.split()[1])
        flows = Flows(system)
        flow = flows.open()
        first, last = flow.job(clip()), flow.job()
        header = flow.group(flow.job(clip()), first)

        result = (flow.chord(header, flow.note()) | flow.note()).apply_async()
        chain = (flow.job(clip()) | last | flow.note()).apply_async()

        assert first.id in who(result.get(timeout=GET_SECONDS))
        assert who(chain.get(timeout=GET_SECONDS)) == last.id
        flow.ends()
        flow.paid_once()
        flows.close()
        judged = {each["name"]: each["level"] for each in doctor(system)}
        assert judged["version"] == judged["eviction"] == "ok"
        assert judged["persistence"] == "note"  # AOF; a power cut takes up to a second


def doctor(system: System) -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = json.loads(fermata(system, "doctor", "--json").stdout)
    return findings
