"""What each check says of facts: fine, worth a note, worth a warning, or dangerous."""

from typing import Any

import pytest

from worker.core.health import checks
from worker.core.health.checks import Finding, Level, Risk, Server
from worker.core.job.timing import Policy
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.wiring.results import RESULT_SECONDS

VALKEY = {
    "server_name": "valkey",
    "redis_version": "7.2.4",
    "valkey_version": "9.1.2",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
    "used_memory": 2**20,
    "total_system_memory": 2**30,
    "aof_enabled": 1,
}
CONFIG = {"appendfsync": "always", "save": ""}
POLICIES = [
    f"{which}-{how}" for which in ("allkeys", "volatile") for how in ("lru", "lfu", "random")
]


def found(name: str, *, config: Any = CONFIG, ahead: float | None = 0, **info: Any) -> Finding:
    """What is said of a server; None leaves a fact out, as some rented ones do."""
    known = {key: value for key, value in (VALKEY | info).items() if value is not None}
    server = Server(known, config, ahead)
    (finding,) = (each for each in checks.check_server(server) if each.name == name)
    return finding


def redis(version: str | None) -> Finding:
    return found("version", server_name=None, redis_version=version)


def test_a_server_as_it_should_be_is_fine() -> None:
    judged = checks.check_server(Server(VALKEY, CONFIG, 0))
    assert {each.level for each in judged} == {Level.OK}
    assert [each.name for each in judged] == [
        "version", "role", "eviction", "persistence", "memory", "clock",
    ]  # fmt: skip


# -- a server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["6.2.0", "6.10.1", "7.0.0", "8.2"])
def test_redis_6_2_and_later_will_do(version: str) -> None:
    assert redis(version).level is Level.OK


@pytest.mark.parametrize("version", ["6.0.16", "5.0.7", "2.8.24"])
def test_an_older_redis_is_refused(version: str) -> None:
    assert redis(version).refused
    assert version in redis(version).said


@pytest.mark.parametrize("version", ["unstable", None])
def test_a_version_that_is_none_is_only_noted(version: str | None) -> None:
    assert redis(version).level is Level.NOTE


def test_any_valkey_will_do_whatever_redis_it_says_to_be() -> None:
    assert found("version", redis_version="5.0.0").level is Level.OK


def test_a_replica_is_a_danger() -> None:
    assert found("role", role="slave").level is Level.DANGER


@pytest.mark.parametrize("policy", [*POLICIES, "volatile-ttl"])
def test_every_policy_that_evicts_is_refused_by_name(policy: str) -> None:
    finding = found("eviction", maxmemory_policy=policy)
    assert finding.refused
    assert policy in finding.said
    assert "noeviction" in finding.do


@pytest.mark.parametrize(
    ("fsync", "level"),
    [("always", Level.OK), ("everysec", Level.NOTE), ("no", Level.WARNING), (None, Level.OK)],
)
def test_an_append_only_file_says_what_a_power_cut_loses(fsync: str | None, level: Level) -> None:
    config = {"appendfsync": fsync} if fsync else {}
    assert found("persistence", config=config).level is level


@pytest.mark.parametrize(
    ("config", "level", "refused"),
    [
        ({"save": ""}, Level.DANGER, True),
        ({"save": "3600 1 300 100"}, Level.WARNING, False),
        ({}, Level.WARNING, False),
    ],
)
def test_without_an_append_only_file_it_depends_on_snapshots(
    config: dict[str, str], level: Level, refused: bool
) -> None:
    finding = found("persistence", config=config, aof_enabled=0)
    assert (finding.level, finding.refused) == (level, refused)
    assert "appendonly" in finding.do


@pytest.mark.parametrize(
    ("used", "maximum", "total", "level"),
    [
        (74, 100, 1000, Level.OK),
        (75, 100, 1000, Level.WARNING),
        (90, 100, 1000, Level.DANGER),
        (90, 0, 1000, Level.OK),
        (950, 0, 1000, Level.DANGER),
        (90, None, None, Level.NOTE),
    ],
)
def test_memory_is_judged_against_the_limit_or_else_the_machine(
    used: int, maximum: int | None, total: int | None, level: Level
) -> None:
    facts = {"used_memory": used, "maxmemory": maximum, "total_system_memory": total}
    assert found("memory", **facts).level is level


@pytest.mark.parametrize("name", ["maxmemory_policy", "aof_enabled"])
def test_what_a_server_does_not_tell_is_noted(name: str) -> None:
    about = {"maxmemory_policy": "eviction", "aof_enabled": "persistence"}[name]
    finding = found(about, **{name: None})
    assert finding.level is Level.NOTE
    assert "cannot be checked" in finding.said


def test_a_server_that_tells_nothing_is_noted_once_and_its_clock_still_judged() -> None:
    judged = checks.check_server(Server({}, {}, 90))
    assert [(each.name, each.level) for each in judged] == [
        ("server", Level.NOTE),
        ("clock", Level.DANGER),
    ]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("seconds", "level", "refused"),
    [
        (2, Level.OK, False),
        (3, Level.WARNING, False),
        (20, Level.WARNING, False),
        (21, Level.DANGER, True),
    ],
)
def test_clocks_apart_are_judged_by_how_far(
    seconds: float, sign: int, level: Level, refused: bool
) -> None:
    finding = found("clock", ahead=sign * seconds)
    assert (finding.level, finding.refused) == (level, refused)
    if level is not Level.OK:
        assert ("behind" if sign > 0 else "ahead of") in finding.said


def test_a_slow_answer_does_not_make_a_clock_wrong() -> None:
    (*_, clock) = checks.check_server(Server(VALKEY, CONFIG, 4, doubt_seconds=2.5))
    assert clock.level is Level.OK


def test_a_time_that_is_forbidden_is_noted() -> None:
    assert found("clock", ahead=None).level is Level.NOTE


# -- Celery -----------------------------------------------------------------------------------


def test_the_longest_deadline_counts_the_queue_the_gate_and_the_most_patient_operation() -> None:
    policy = Policy(queued_seconds=100, held_seconds=1000, deadline_seconds=77)
    assert checks.longest_deadline(policy) == 1177
    patient = max(row.deadline_seconds for row in OPERATIONS.values())
    patience = checks.longest_deadline(Policy(queued_seconds=100, held_seconds=1000))
    assert patience == 1100 + patient


def test_results_outlive_every_deadline_that_may_be_set() -> None:
    day = 86400
    policy = Policy(queued_seconds=6 * day, held_seconds=6 * day, deadline_seconds=7 * day)
    longest = checks.longest_deadline(policy)
    assert not checks.check_expiry("result_expires", RESULT_SECONDS, longest).refused
    assert longest < RESULT_SECONDS


@pytest.mark.parametrize("seconds", [None, 0, 3601, 14 * 86400])
def test_results_that_outlive_every_deadline_are_fine(seconds: float | None) -> None:
    assert checks.check_expiry("result_expires", seconds, 3600).level is Level.OK


@pytest.mark.parametrize("seconds", [1, 3600])
def test_results_that_do_not_are_refused(seconds: float) -> None:
    finding = checks.check_expiry("result_chord_expires", seconds, 3600)
    assert finding.refused
    assert "result_chord_expires" in finding.said
    assert "1 h" in finding.said


@pytest.mark.parametrize(("seconds", "refused"), [(900, False), (60, False), (59, True)])
def test_a_worker_that_is_slow_for_a_while_keeps_its_messages(
    seconds: float, refused: bool
) -> None:
    assert checks.check_visibility(seconds).refused is refused


@pytest.mark.parametrize(
    ("waiting", "consumed", "level"),
    [(0, "fermata", Level.OK), (3, "celery", Level.OK), (3, "fermata", Level.WARNING)],
)
def test_tasks_that_wait_where_nobody_looks_are_noticed(
    waiting: int, consumed: str, level: Level
) -> None:
    finding = checks.check_follow_ups("celery", waiting, {"a": [consumed]})
    assert finding.level is level


def test_both_queues_need_a_worker() -> None:
    both = checks.check_workers({"a": ["fermata"], "b": ["fermata.slow", "other"]})
    assert both.level is Level.OK
    assert checks.check_workers({}).level is Level.DANGER
    assert checks.check_workers({"b": ["fermata.slow"]}).level is Level.DANGER


def test_without_a_worker_for_slow_jobs_it_says_which_wait() -> None:
    finding = checks.check_workers({"a": ["fermata"]})
    assert finding.level is Level.WARNING
    assert "sonic.upload" in finding.said
    assert "sonic.remaster" not in finding.said


def test_few_slots_are_a_warning_with_the_command_that_gives_more() -> None:
    few = checks.check_slots(checks.FEW_SLOTS - 1)
    assert few.level is Level.WARNING
    assert f"--pool threads --concurrency {checks.THREADS}" in few.do
    assert checks.check_slots(checks.THREADS).level is Level.OK


def test_an_overdue_job_means_that_nobody_sweeps() -> None:
    assert checks.check_sweep(checks.OVERDUE_SECONDS).level is Level.OK
    assert checks.check_sweep(checks.OVERDUE_SECONDS + 1).level is Level.WARNING


# -- what the operator allows -----------------------------------------------------------------


def test_an_allowed_risk_is_a_warning_and_no_other_is() -> None:
    eviction = found("eviction", maxmemory_policy="allkeys-lru")
    snapshots = found("persistence", aof_enabled=0)
    allowed, kept = checks.allow([eviction, snapshots], {"eviction"})
    assert (allowed.level, allowed.refused, allowed.said) == (Level.WARNING, False, eviction.said)
    assert kept == snapshots


def test_only_what_is_refused_can_be_allowed() -> None:
    skewed = found("clock", ahead=15)
    assert checks.allow([skewed], set(Risk)) == [skewed]


def test_a_user_who_lacks_a_right_is_refused_and_told_how_to_give_it() -> None:
    lacking = checks.check_rights("me", ["+hset", "~fermata:*"])
    assert lacking.refused
    assert lacking.name == Risk.RIGHTS
    assert "Its user me lacks these rights: +hset ~fermata:*." in lacking.said
    assert lacking.do == "Give them: ACL SETUSER me +hset ~fermata:*"
    assert checks.check_rights("me", []).level is Level.OK


def test_a_queue_of_follow_ups_that_is_closed_is_told_with_the_rule_that_opens_it() -> None:
    found = checks.check_send("me", "celery")
    assert (found.level, found.refused) == (Level.WARNING, False)
    assert found.do.endswith("ACL SETUSER me ~celery*")
