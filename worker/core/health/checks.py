"""Judges a set-up: from facts to findings, each with what is wrong and what to do about it.

Every rule takes facts that :mod:`worker.doctor.facts` has collected, and returns a finding.
``fermata doctor`` shows all findings; a worker that starts looks at the risks among them.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from worker.core.contract import QUEUE, SLOW_QUEUE
from worker.core.job.timing import Policy
from worker.core.providers import chosen

SKEW_NOTICED_SECONDS: Final = 2
"""One machine's clock sets leases and deadlines, and another's reads them."""

SKEW_REFUSED_SECONDS: Final = 20
"""Well within the 30 seconds after which another worker gets a message that has not arrived. With a
clock that is further ahead, the other worker would get each message at once."""

OVERDUE_SECONDS: Final = 120
"""Twice the sweep's lease. A sweep that runs looks at every due job sooner."""

THREADS: Final = 128
"""A worker's default: enough for 80 submits a second to a provider that answers after a second."""

DESK_PORT: Final = 8002

FEW_SLOTS: Final = 32
"""With fewer, jobs wait for a slot while others wait for the provider's answer."""

WORKER_COMMAND: Final = f"celery -A worker.app worker --pool threads --concurrency {THREADS}"

SILENCE_SECONDS: Final = 60
"""How long a busy or paused machine may keep a worker from telling Redis what it holds."""

# BLMOVE, by which idle workers wait (mends/redelivery.py), came with Redis 6.2.
_OLDEST_REDIS: Final = (6, 2)
_FULL: Final = 0.9
_FILLING: Final = 0.75


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing to do."""
    WARNING = "warning"
    DANGER = "danger"
    """Jobs fail or hang, or data is lost."""


class Risk(StrEnum):
    """A danger with which a worker refuses to start, unless FERMATA_ALLOW_RISKS names it."""

    VERSION = "version"
    EVICTION = "eviction"
    PERSISTENCE = "persistence"
    CLOCK = "clock"
    EXPIRY = "expiry"
    VISIBILITY = "visibility"
    RIGHTS = "rights"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check (``said``), and what to do about it (``do``)."""

    name: str
    level: Level
    said: str
    do: str = ""
    where: str = ""
    """The server that it is about, named by what that holds; '' if it is about no server."""
    refused: bool = False
    """A worker does not start with this finding; ``name`` is a Risk then."""


@dataclass(frozen=True, slots=True)
class Server:
    """The facts that a Redis or Valkey gives about itself.

    ``info`` and ``config`` are its answers to INFO and CONFIG GET, empty if it forbids them.
    """

    info: Mapping[str, Any]
    config: Mapping[str, str]
    ahead_seconds: float | None
    """How far its clock is ahead of this machine's, ± ``doubt_seconds``; None: it forbids TIME."""
    doubt_seconds: float = 0


def allow(findings: Iterable[Finding], risks: Collection[str]) -> list[Finding]:
    """Turn the risks that the operator has allowed into warnings."""
    return [
        replace(each, level=Level.WARNING, refused=False, do="Allowed by FERMATA_ALLOW_RISKS.")
        if each.refused and each.name in risks
        else each
        for each in findings
    ]


# -- a Redis or Valkey server -----------------------------------------------------------------


def check_server(server: Server) -> list[Finding]:
    """Judge a server that holds state, messages or results."""
    judged = [rule(server) for rule in _SERVER_RULES] if server.info else [_SILENT]
    return [*judged, _clock(server)]


def check_rights(user: str, missing: Sequence[str]) -> Finding:
    """Judge the rights that a server gives its user.

    Args:
        missing: the rights that the user lacks, in the words of ACL SETUSER.
    """
    if not missing:
        return Finding(Risk.RIGHTS, Level.OK, f"Its user {user} may do all that is needed.")
    rules = " ".join(missing)
    said = f"Its user {user} lacks these rights: {rules}. Jobs fail or wait for ever."
    return _risk(Risk.RIGHTS, said, f"Give them: ACL SETUSER {user} {rules}")


def check_send(user: str, queue: str) -> Finding:
    """Warn of a user who may not put messages into the queue of a backend's own tasks."""
    said = f"Its user {user} may not send to {queue}: a job waits for ever if a task there follows."
    do = f"If tasks of yours follow jobs: ACL SETUSER {user} ~{queue}*"
    return Finding("follow-ups", Level.WARNING, said, do)


_SILENT: Final = Finding(
    "server",
    Level.NOTE,
    "INFO is forbidden: version, role, eviction, persistence and memory cannot be checked.",
    "Allow this user INFO, or check them with your provider of Redis.",
)


def _version(server: Server) -> Finding:
    if server.info.get("server_name") == "valkey":
        return Finding(Risk.VERSION, Level.OK, f"Valkey {server.info.get('valkey_version')}.")
    version = str(server.info.get("redis_version", "unknown"))
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None:
        return Finding(Risk.VERSION, Level.NOTE, f"The server's version is {version}.")
    if (int(number[1]), int(number[2])) < _OLDEST_REDIS:
        do = "Upgrade to Redis 6.2 or later, or to Valkey."
        return _risk(Risk.VERSION, f"Redis {version} is older than 6.2.", do)
    return Finding(Risk.VERSION, Level.OK, f"Redis {version}.")


def _writable(server: Server) -> Finding:
    if server.info.get("role", "master") == "master":
        return Finding("role", Level.OK, "It takes writes.")
    do = "Point the URL at the primary."
    return Finding("role", Level.DANGER, "It is a replica: no job can be written.", do)


def _eviction(server: Server) -> Finding:
    policy = server.info.get("maxmemory_policy")
    if policy is None:
        return _unknown(Risk.EVICTION, "maxmemory-policy")
    if policy == "noeviction":
        return Finding(Risk.EVICTION, Level.OK, "noeviction: nothing is thrown away.")
    # volatile-* is no better: results, chords and ended jobs have a time to live.
    said = f"maxmemory-policy is {policy}: when memory is full, jobs, chords or queues vanish."
    do = "Set maxmemory-policy noeviction (CONFIG SET, and in its configuration)."
    return _risk(Risk.EVICTION, said, do)


def _persistence(server: Server) -> Finding:
    appends, fsync = server.info.get("aof_enabled"), server.config.get("appendfsync")
    if appends is None:
        return _unknown(Risk.PERSISTENCE, "appendonly")
    if not appends:
        return _snapshots(server.config.get("save"))
    level, said = {
        "always": (Level.OK, "AOF, appendfsync always: a power cut loses nothing."),
        "everysec": (Level.NOTE, "AOF, appendfsync everysec: a power cut loses 1 to 2 s."),
        "no": (Level.WARNING, "AOF, appendfsync no: a power cut loses half a minute or more."),
    }.get(str(fsync), (Level.OK, "AOF; what appendfsync is cannot be checked."))
    do = "appendfsync always loses nothing, and is slower." if fsync in {"everysec", "no"} else ""
    return Finding(Risk.PERSISTENCE, level, said, do)


def _snapshots(save: str | None) -> Finding:
    do = "Set appendonly yes (CONFIG SET, and in its configuration)."
    if save == "":
        said = "Neither AOF nor snapshots: a restart of the server loses every job."
        return _risk(Risk.PERSISTENCE, said, do)
    said = (
        "AOF is off, and whether there are snapshots cannot be checked."
        if save is None
        else "AOF is off: a crash loses every job since the last snapshot."
    )
    return Finding(Risk.PERSISTENCE, Level.WARNING, said, do)


def _memory(server: Server) -> Finding:
    used = int(server.info.get("used_memory", 0))
    # maxmemory 0 sets no limit: then the machine's memory is the limit.
    limit = int(server.info.get("maxmemory") or server.info.get("total_system_memory", 0))
    if not limit:
        return _unknown("memory", "the memory that there is")
    said = f"{_megabytes(used)} of {_megabytes(limit)} used."
    if used < limit * _FILLING:
        return Finding("memory", Level.OK, said)
    level = Level.DANGER if used >= limit * _FULL else Level.WARNING
    return Finding("memory", level, f"{said} When full, it refuses every write.", "Give it more.")


def _clock(server: Server) -> Finding:
    if server.ahead_seconds is None:
        return _unknown(Risk.CLOCK, "the time")
    # The round trip explains up to ``doubt_seconds``; only the rest is certain.
    sure = max(abs(server.ahead_seconds) - server.doubt_seconds, 0)
    if sure <= SKEW_NOTICED_SECONDS:
        return Finding(Risk.CLOCK, Level.OK, "This machine and the server agree on the time.")
    side = "behind" if server.ahead_seconds > 0 else "ahead of"
    said = f"This machine's clock is {abs(server.ahead_seconds):.0f} s {side} the server's."
    do = "Keep every machine's time by NTP: leases and deadlines go by it."
    if sure > SKEW_REFUSED_SECONDS:
        return _risk(Risk.CLOCK, said, do)
    return Finding(Risk.CLOCK, Level.WARNING, said, do)


_SERVER_RULES: Final[tuple[Callable[[Server], Finding], ...]] = (
    _version, _writable, _eviction, _persistence, _memory,
)  # fmt: skip


# -- Celery -----------------------------------------------------------------------------------


def longest_deadline(policy: Policy) -> float:
    """Return the seconds that the most patient job may take: queued, held, and at the provider."""
    begun = policy.deadline_seconds or max(
        row.deadline_seconds for row in chosen().operations.values()
    )
    return policy.queued_seconds + policy.held_seconds + begun


def check_expiry(name: str, seconds: float | None, longest: float) -> Finding:
    """Judge how long results or chords live, against the longest deadline.

    Args:
        name: the setting of Celery. seconds: None or 0: for ever.
    """
    if not seconds:
        return Finding(Risk.EXPIRY, Level.OK, f"{name}: never.")
    said = f"{name} is {_span(seconds)}, the longest deadline {_span(longest)}"
    if seconds > longest:
        return Finding(Risk.EXPIRY, Level.OK, f"{said}.")
    said += ": chords and results vanish while their jobs still wait."
    return _risk(Risk.EXPIRY, said, f"Raise {name}, or leave Fermata's own.")


def check_visibility(seconds: float) -> Finding:
    """Judge how long a worker may be silent before another one gets its messages.

    The duration of a task does not matter: every few seconds a worker says which messages it holds.
    """
    said = f"visibility_timeout is {seconds:.0f} s"
    if seconds >= SILENCE_SECONDS:
        return Finding(Risk.VISIBILITY, Level.OK, f"{said}.")
    said += ": what a worker that stands still for so long has in hand runs twice."
    do = f"Raise FERMATA_VISIBILITY_SECONDS to {SILENCE_SECONDS} or more."
    return _risk(Risk.VISIBILITY, said, do)


def check_slots(slots: int) -> Finding:
    """Judge how many submits all workers together can have at the provider at once."""
    said = f"{slots} jobs can be submitted at once"
    if slots >= FEW_SLOTS:
        return Finding("slots", Level.OK, f"{said}.")
    said += f": {slots} a second, if the provider takes a second to answer."
    return Finding("slots", Level.WARNING, said, f"Start: {WORKER_COMMAND}")


def check_workers(queues: Mapping[str, Collection[str]]) -> Finding:
    """Judge which queues are consumed, by the workers that answered (name -> queues)."""
    consumed = {queue for each in queues.values() for queue in each}
    if QUEUE not in consumed:
        said = f"No worker answers for the queue {QUEUE}: every job waits, and nothing sweeps."
        return Finding("workers", Level.DANGER, said, f"Start: {WORKER_COMMAND}")
    if SLOW_QUEUE not in consumed:
        slow = ", ".join(name for name, row in chosen().operations.items() if row.slow)
        said = f"No worker answers for the queue {SLOW_QUEUE}; these wait: {slow}."
        do = f"Start: celery -A worker.app worker -Q {SLOW_QUEUE} -P threads -n slow@%h"
        return Finding("workers", Level.WARNING, said, do)
    return Finding("workers", Level.OK, f"Both queues are consumed, by {', '.join(queues)}.")


def check_follow_ups(queue: str, waiting: int, queues: Mapping[str, Collection[str]]) -> Finding:
    """Judge whether a worker takes a backend's own tasks, which follow jobs.

    Args:
        waiting: messages in the queue of these tasks. queues: as for ``check_workers``.
    """
    if not waiting or any(queue in each for each in queues.values()):
        return Finding("follow-ups", Level.OK, f"No task waits in {queue} that nobody takes.")
    said = f"Tasks wait in the queue {queue} ({waiting}), and no worker answers for it."
    do = "Start your worker, name another FERMATA_FOLLOW_UP_QUEUE, or look for a misspelt task."
    return Finding("follow-ups", Level.WARNING, said, do)


def check_sweep(overdue_seconds: float) -> Finding:
    """Judge whether any worker sweeps, by how long the most overdue job has been due."""
    if overdue_seconds <= OVERDUE_SECONDS:
        return Finding("sweep", Level.OK, "No job is overdue.")
    said = f"A job has been due for {overdue_seconds:.0f} s: nobody sweeps, or not fast enough."
    return Finding("sweep", Level.WARNING, said, "Start a worker, or more; see their logs.")


def _risk(risk: Risk, said: str, do: str) -> Finding:
    return Finding(risk, Level.DANGER, said, do, refused=True)


def _unknown(name: str, what: str) -> Finding:
    return Finding(name, Level.NOTE, f"The server does not tell {what}: it cannot be checked.")


def _span(seconds: float) -> str:
    """Write a duration in its largest whole unit."""
    for unit, size in (("d", 86400), ("h", 3600)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"
