"""How the tests share a machine: which form a group, how many run at once, which were left out.

Tests mostly wait, so more processes run than there are cores. A system that several tests share is
started in one process alone: its tests form a group. Long groups go first, so that no process ends
long after the others. Each process has ports and folders of its own.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterable
from typing import Final, cast

import pytest

from tests.servers import MISSING

PROCESSES_PER_CORE: Final = 3

SHARED: Final = ("system", "impatient")
"""Systems of the whole session: the tests of many modules share one."""

LONGEST: Final = (
    "chaos/test_chaos.py",
    "chaos/test_kill_points.py",
    "test_redis_outage.py",
    "test_desk_screens.py",
    "test_desk_song.py",
    "test_demo.py",
    "test_benchmarks.py",
    "test_doctor.py",
    "test_schedules.py",
    "test_rabbitmq.py",
    "test_replay.py",
    "test_batches.py",
    "test_admission.py",
    "test_hostile.py",
    "test_development.py",
)
"""The groups that take longest, which begin first; the longest of all comes first."""


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    if config.option.numprocesses == "auto":
        return PROCESSES_PER_CORE * (os.cpu_count() or 1)
    return None


def pytest_configure() -> None:
    """End as by Ctrl-C when terminated, so that no server of a test stays behind.

    A background job ignores some signals, and its children inherit that: restore them, because
    tests send them to children. Let children write bytecode, whatever the environment says: each of
    them would take a second to compile its imports.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run if groups are not kept: each process would start every system."""
    if getattr(session.config.option, "loadgroup", False):
        grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
        if not all("@" in item.nodeid for item in grouped):
            raise pytest.UsageError("pytest-xdist takes no notice of groups: see pyproject.toml")


def _turn(item: pytest.Item) -> int:
    places = (n for n, name in enumerate(LONGEST) if item.path.match(name))
    return next(places, len(LONGEST))


def _group(item: pytest.Item) -> str:
    """Name the costly system that the test shares with others; '' if it shares none."""
    given = getattr(getattr(item, "callspec", None), "params", {})
    for name in SHARED:
        if name in given:
            return f"{name} {given[name]}"
    shared = [
        name
        for name, definitions in cast(pytest.Function, item)._fixtureinfo.name2fixturedefs.items()
        if definitions[-1].scope == "module"
    ]
    params = (str(given[name]) for name in sorted(shared) if name in given)
    return " ".join([item.path.stem, *params]) if shared else ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterable[None]:
    """List at the very end the tests that were left out because this machine lacks a server."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    skipped = (report.longrepr[2] for report in reporter.stats.get("skipped", []))
    reasons = Counter(why.partition(MISSING)[2] for why in skipped if MISSING in why)
    for why, tests in sorted(reasons.items()):
        reporter.write_line(f"NOT TESTED ({tests} tests): {why}", yellow=True)
