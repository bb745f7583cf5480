"""The Grafana board of ``deploy/grafana``: it asks for what is served, in words of Prometheus."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.integration.test_alerts import promtool, rules
from tests.integration.test_metrics import Desk, desk, settle_some
from tests.system import ROOT
from worker.core.job.lanes import Lane
from worker.core.job.models import JobId
from worker.core.job.states import Turn
from worker.store.agenda import Agenda

__all__ = ["desk"]

BOARD: Final[dict[str, Any]] = json.loads(
    (ROOT / "deploy" / "grafana" / "fermata.json").read_text("utf-8")
)
VARIABLES: Final = {each["name"]: each for each in BOARD["templating"]["list"]}


def expressions() -> Iterator[str]:
    """Every expression, with the board's variables put in."""
    polled = VARIABLES["polled"]["query"]
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m").replace("$polled", polled)


def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{n}", "expr": each} for n, each in enumerate(expressions())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": recorded}]}))
    promtool("check", "rules", path)
    assert not [each for each in expressions() if "$" in each]


def test_every_expression_asks_for_metrics_that_are_served(desk: Desk) -> None:
    settle_some(desk)
    lane = {"operation": "sonic.wav", "lane": str(Lane()), "cost": 0}
    desk.jobs.records.turn(JobId("job-8"), Turn.HOLD, now=0, due_at=10, fields=lane)
    desk.jobs.records.note(JobId("job-9"), now=0, receipt="progress")
    desk.jobs.gate.learn_balance(12.5, spent_before=0)
    Agenda(desk.redis).sign_of_life("worker@one")
    served = desk.scrape().names()
    asked = {name for each in expressions() for name in re.findall(r"\bfermata_\w+", each)}
    assert asked <= served
    # The rest of a histogram can be asked for by hand.
    kept_back = re.compile("fermata_.+_seconds_(sum|count)")
    assert not {name for name in served - asked if not kept_back.fullmatch(name)}


def test_the_board_leaves_out_the_operations_that_the_alert_leaves_out() -> None:
    assert VARIABLES["polled"]["query"] in rules()["fermata:settled:increase1h"]["expr"]


@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: str(panel["title"]))
def test_each_panel_has_a_place_of_its_own_and_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= 24
    others = [each["gridPos"] for each in BOARD["panels"] if each["id"] != panel["id"]]
    assert not [each for each in others if _overlap(place, each)]


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or above)
