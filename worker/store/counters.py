"""Adapter: the counters that people look at, read from Redis or Valkey.

The scripts that change jobs keep them (``lua/common/overview.lua``), so they cost the same to read
with 1,000 jobs and with 1,000,000.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.job.states import TERMINAL, JobState
from worker.core.overview import Counts, GateChange, GateView, Pause
from worker.store.lists import indexes, named

if TYPE_CHECKING:
    from redis import Redis

_CLASSES: Final = ("interactive", "interactive.slow", "batch", "batch.slow")
_AT_PROVIDER: Final = {JobState.SUBMITTING, JobState.WAITING, JobState.UNCONFIRMED}
_PAUSED: Final = "paused:"
"""So begin the gate's fields of pauses, and what waits aside because of them (gate.lua)."""


class Counters:
    """Reads counters. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def counts(self) -> dict[tuple[JobState, str], int]:
        """Count the jobs by state and operation."""
        names = indexes(self._redis)
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(f"{keys.STATES}:{name}")
            sizes = pipe.execute()
        return {named(name): size for name, size in zip(names, sizes, strict=True) if size}

    def oldest(self) -> dict[JobState, float]:
        """Return since when the oldest job of each live state stands there."""
        names = [name for name in indexes(self._redis) if named(name)[0] not in TERMINAL]
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zrange(f"{keys.STATES}:{name}", 0, 0, withscores=True)
            firsts = pipe.execute()
        oldest: dict[JobState, float] = {}
        for name, first in zip(names, firsts, strict=True):
            state = named(name)[0]
            for _, since in first:
                oldest[state] = min(since, oldest.get(state, math.inf))
        return oldest

    def at_provider(self) -> list[tuple[str, int, float]]:
        """Say of each operation how many jobs are at the provider, and since when the oldest is.

        A job is there from its submission on; one that nobody knows to be there counts too.
        """
        names = [name for name in indexes(self._redis) if named(name)[0] in _AT_PROVIDER]
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(f"{keys.STATES}:{name}")
                pipe.zrange(f"{keys.STATES}:{name}", 0, 0, withscores=True)
            found = pipe.execute()
        sizes, oldest = Counter[str](), dict[str, float]()
        for name, size, first in zip(names, found[::2], found[1::2], strict=True):
            operation = named(name)[1]
            for _, since in first:
                sizes[operation] += size
                oldest[operation] = min(since, oldest.get(operation, math.inf))
        return [(each, sizes[each], since) for each, since in sorted(oldest.items())]

    def totals(self) -> Counts:
        """Read the counters that only grow."""
        return _counts(self._redis.hgetall(keys.TOTALS))

    def minutes(self, *, now: float, count: int) -> list[Counts]:
        """Read the counters of the last minutes, this one included; the oldest first."""
        return self._spans(keys.MINUTES, int(now // 60), count)

    def days(self, *, now: float, count: int) -> list[Counts]:
        """Read the counters of the last days (UTC), today included; the oldest first."""
        return self._spans(keys.DAYS, int(now // 86400), count)

    def _spans(self, prefix: str, last: int, count: int) -> list[Counts]:
        with self._redis.pipeline(transaction=False) as pipe:
            for number in range(last - count + 1, last + 1):
                pipe.hgetall(f"{prefix}:{number}")
            return [_counts(found) for found in pipe.execute()]

    def workers(self) -> dict[str, float]:
        """Return the time of each worker's last sign of life."""
        found = self._redis.zrange(keys.WORKERS, 0, -1, withscores=True)
        return dict(cast("list[tuple[str, float]]", found))

    def gate(self) -> GateView:
        """Read how the gate stands."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.GATE)
            pipe.zcard(keys.FLIGHT)
            pipe.smembers(keys.ASIDE)
            for each in _CLASSES:
                pipe.zrange(keys.LANES + each, 0, -1)
            gate, in_flight, aside, *tenants = pipe.execute()
        found = zip(_CLASSES, tenants, strict=True)
        lanes = [f"{each}:{tenant}" for each, names in found for tenant in names]
        # Those that wait aside stand in their lanes too, for whoever looks.
        lanes += [f"{_PAUSED}{name}" for name in sorted(aside)]
        with self._redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.zcard(keys.HELD + lane)
            sizes = pipe.execute()
        waiting = Counter[tuple[str, str]]()
        for name, size in zip(lanes, sizes, strict=True):
            priority, _, tenant = name.rpartition("/")[2].partition(":")
            waiting[priority, tenant] += size
        return GateView(
            closed_for=gate.get("breaker"),
            closed_at=_float(gate.get("closed_at")),
            probe_at=_float(gate.get("probe_at")) if "breaker" in gate else None,
            paused_by=gate.get("paused"),
            paused_at=_float(gate.get("paused_at")),
            pauses=tuple(self._pauses(gate, waiting)),
            in_flight=in_flight,
            credits=_credits_left(gate),
            waiting={lane: size for lane, size in waiting.items() if size},
        )

    def _pauses(
        self, gate: Mapping[str, str], waiting: Mapping[tuple[str, str], int]
    ) -> Iterator[Pause]:
        for field in sorted(gate):
            if not field.startswith(_PAUSED):
                continue
            kind, _, name = field.removeprefix(_PAUSED).partition(":")
            if kind == "tenant":
                size = sum(each for (_, tenant), each in waiting.items() if tenant == name)
            else:
                size = self._redis.zcard(f"{keys.STATES}:{JobState.HELD}:{name}")
            said = json.loads(gate[field])
            yield Pause(kind, name, said["by"], said["at"], size)

    def gate_history(self, limit: int = 20) -> list[GateChange]:
        """Read what happened to the gate last, the latest first."""
        found = cast("list[str]", self._redis.lrange(keys.GATE_HISTORY, 0, limit - 1))
        return [GateChange(**json.loads(said)) for said in found]


def _counts(found: Any) -> Counts:
    return {tuple(name.split("/")): int(count) for name, count in found.items()}


def _float(text: str | None) -> float | None:
    return float(text) if text else None


def _credits_left(gate: Mapping[str, str]) -> float | None:
    """Return the balance, less what it does not know of (gate.lua); None if it is not known."""
    if "balance" not in gate:
        return None
    balance, spent, before, reserved = (
        int(gate.get(name, 0)) for name in ("balance", "spent", "spent_before", "reserved")
    )
    return (balance - (spent - before) - reserved) / 1000
