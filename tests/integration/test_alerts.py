"""The alerts of ``deploy/prometheus``: when each fires, and that it does so on a real system."""

import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import requests
import yaml

from tests.ports import take_port
from tests.servers import Server, program, wait_for_port
from tests.system import ROOT, System, wait_until
from worker.core.providers.aimusic.operations import OPERATIONS

RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
CONFIG: Final = RULES.with_name("prometheus.yml")


def rules() -> dict[str, dict[str, Any]]:
    """The rules, by their names."""
    [group] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule.get("alert") or rule["record"]: rule for rule in group["rules"]}


ALERTS: Final = {name: rule for name, rule in rules().items() if "alert" in rule}


def promtool(*arguments: object) -> None:
    command = [program("promtool", "prometheus"), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", "--lint-fatal", RULES)
    promtool("check", "config", "--syntax-only", CONFIG)
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    assert config["rule_files"] == [RULES.name]
    assert [each["job_name"] for each in config["scrape_configs"]] == ["fermata"]


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_it_means_and_what_to_do(name: str) -> None:
    notes = ALERTS[name]["annotations"]
    assert 10 < len(notes["summary"]) < 80
    assert notes["description"].count(". ") >= 1
    assert ALERTS[name]["labels"]["severity"] in {"warning", "critical"}


SETTLED = 'fermata_settled_total{{operation="{}",source="{}",outcome="succeeded"}}'
REMASTERED = {source: SETTLED.format("sonic.remaster", source) for source in ("webhook", "poll")}
STEMS = SETTLED.format("sonic.stems_full", "poll")
UP = 'up{job="fermata"}'
LAST_SEEN = "fermata_conductor_last_seen_timestamp_seconds"


def oldest(state: str) -> str:
    return f'fermata_oldest_seconds{{state="{state}"}}'


@dataclass(frozen=True, slots=True)
class Case:
    """Series, a value for each minute in promtool's notation, and whether the alert then fires."""

    alert: str
    series: Mapping[str, str]
    fires: bool
    after: str = "2h"


CASES: Final = {
    "some webhooks are lost": Case(
        "FermataWebhookShareLow",
        {REMASTERED["webhook"]: "0+3x150", REMASTERED["poll"]: "0+1x150"},
        fires=True,
    ),
    "all webhooks are lost": Case(
        "FermataWebhookShareLow", {REMASTERED["poll"]: "0+1x150"}, fires=True
    ),
    "webhooks come, and stems are polled": Case(
        "FermataWebhookShareLow",
        {REMASTERED["webhook"]: "0+20x150", REMASTERED["poll"]: "0+1x150", STEMS: "0+30x150"},
        fires=False,
    ),
    "too few jobs to say": Case(
        "FermataWebhookShareLow", {REMASTERED["poll"]: "0+0.1x150"}, fires=False
    ),
    "the gate is closed": Case("FermataGateClosed", {"fermata_gate_open": "0x150"}, fires=True),
    "the gate opens again": Case(
        "FermataGateClosed", {"fermata_gate_open": "0x4 1x150"}, fires=False, after="8m"
    ),
    "jobs are unconfirmed": Case(
        "FermataJobsUnconfirmed",
        {'fermata_jobs{state="unconfirmed",operation="sonic.remaster"}': "1x150"},
        fires=True,
    ),
    "jobs wait": Case(
        "FermataJobsUnconfirmed",
        {'fermata_jobs{state="waiting",operation="sonic.remaster"}': "5x150"},
        fires=False,
    ),
    "a job is queued for long": Case(
        "FermataJobTooOld", {oldest("queued"): "0+60x150"}, fires=True, after="20m"
    ),
    "a job is resumed for long": Case(
        "FermataJobTooOld", {oldest("resuming"): "0+60x150"}, fires=True, after="6m"
    ),
    "a job waits past every deadline": Case(
        "FermataJobTooOld", {oldest("waiting"): "0+60x150"}, fires=True, after="70m"
    ),
    "a job is held for a day": Case(
        "FermataJobTooOld", {oldest("held"): "86400x150"}, fires=True, after="10m"
    ),
    "jobs wait and are held as usual": Case(
        "FermataJobTooOld",
        {oldest("waiting"): "1200x150", oldest("held"): "3600x150", oldest("queued"): "60x150"},
        fires=False,
    ),
    "a delivery is quarantined": Case(
        "FermataQuarantineGrowing",
        {'fermata_quarantine_entries{kind="orphan"}': "3x100 4x50"},
        fires=True,
    ),
    "the quarantine is being emptied": Case(
        "FermataQuarantineGrowing",
        {'fermata_quarantine_entries{kind="orphan"}': "3x100 1x50"},
        fires=False,
    ),
    "the last conductor died": Case("FermataNoConductor", {LAST_SEEN: "0x150", UP: "1x150"}, True),
    "there never was a conductor": Case("FermataNoConductor", {UP: "1x150"}, fires=True),
    "a conductor lives": Case("FermataNoConductor", {LAST_SEEN: "0+60x150", UP: "1x150"}, False),
    "the desk is away": Case("FermataNotScraped", {UP: "0x150"}, fires=True),
    "the desk answers": Case("FermataNotScraped", {UP: "1x150"}, fires=False),
}


def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    cases = {(case.alert, case.fires) for case in CASES.values()}
    assert cases == {(alert, fires) for alert in ALERTS for fires in (True, False)}


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_if_and_only_if_it_should(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    firing = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})'
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": v} for each, v in case.series.items()],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": case.after,
                "exp_samples": [{"labels": "{}", "value": 1}] if case.fires else [],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}))
    promtool("test", "rules", path)


def test_the_share_leaves_out_the_operations_that_take_no_webhook() -> None:
    [left_out] = re.findall(r'operation!~"([^"]+)"', rules()["fermata:settled:increase1h"]["expr"])
    polled = {name for name, operation in OPERATIONS.items() if not operation.takes_webhook}
    assert {name for name in OPERATIONS if re.fullmatch(left_out, name)} == polled


TOKEN: Final = "the-token-of-a-reader-0123456789-abc"


class Prometheus(Server):
    """A Prometheus that scrapes a desk every second, with the alerts as they are shipped."""

    def __init__(self, folder: Path, desk: int) -> None:
        self._port = take_port()
        self._url = f"http://127.0.0.1:{self._port}"
        super().__init__(folder / "prometheus")
        self.folder.mkdir()
        config = yaml.safe_load(CONFIG.read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES)]
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{desk}"]}]
        job["authorization"]["credentials_file"] = str(self._write("token", TOKEN))
        self._config = self._write("prometheus.yml", yaml.safe_dump(config))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self) -> None:
        self._run(
            program("prometheus", "prometheus"),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        )
        wait_for_port(self._port)
        # Until then it answers 503 to every question.
        wait_until(lambda: requests.get(f"{self._url}/-/ready", timeout=10).ok, what="it is ready")

    def active(self) -> set[str]:
        """The names of the alerts whose expressions are true now."""
        answer = requests.get(f"{self._url}/api/v1/alerts", timeout=10)
        alerts = answer.json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts}

    def value(self, query: str) -> float | None:
        """The value of an expression now; None if there is none."""
        url = f"{self._url}/api/v1/query"
        found = requests.get(url, params={"query": query}, timeout=10).json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[System, Prometheus]]:
    """A system with a worker and a desk, and the Prometheus that watches it."""
    with System(tmp_path / "system") as system:
        system.worker(app="tests.canvas_app")
        desk = system.desk(FERMATA_DESK_TOKENS=f"prometheus:read:{TOKEN}")
        prometheus = Prometheus(tmp_path, desk.port)
        prometheus.start()
        try:
            yield system, prometheus
        finally:
            prometheus.stop()


def remaster(system: System, count: int) -> None:
    """Have the provider remaster some clips."""
    for _ in range(count):
        clip = str(uuid.uuid4())
        system.app.send_task("fermata.sonic.remaster", (clip,), {"mv": "chirp-v5"}, queue="fermata")


def test_lost_webhooks_are_an_alert_and_webhooks_that_come_are_none(
    watched: tuple[System, Prometheus],
) -> None:
    system, prometheus = watched
    # A counter that Prometheus sees for the first time has not increased for it.
    remaster(system, 1)
    by_webhook, by_poll = (
        f'sum(fermata_settled_total{{source="{source}"}})' for source in ("webhook", "poll")
    )
    wait_until(lambda: prometheus.value(by_webhook) == 1, what="it is seen")
    remaster(system, 12)
    wait_until(lambda: prometheus.value(by_webhook) == 13, what="all of them are seen")
    assert prometheus.active() == set()

    system.simulator.rule("", webhook="lost")
    remaster(system, 1)
    wait_until(lambda: prometheus.value(by_poll) == 1, what="one was polled")
    remaster(system, 12)
    wait_until(lambda: "FermataWebhookShareLow" in prometheus.active(), what="the alert")
    assert prometheus.active() == {"FermataWebhookShareLow"}


def test_if_redis_is_away_an_alert_says_that_the_others_are_blind(
    watched: tuple[System, Prometheus],
) -> None:
    system, prometheus = watched
    wait_until(lambda: prometheus.value(UP) == 1, what="a scrape")
    assert prometheus.active() == set()
    system.valkey.stop()
    wait_until(lambda: "FermataNotScraped" in prometheus.active(), what="the alert")
