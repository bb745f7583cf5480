"""Adapter: the changes of one job's record, in Redis or Valkey.

A record is a hash: a job's state, its counters, its event. Its message and its timeline have keys
of their own. Several processes decide about one job at once: a submit leg, a receiver, a sweep, a
conductor, a person. So each change is one Lua script, which looks at the state first. If another
process was faster, the script changes nothing and says so.

A script that changes a record also sets its due time, or makes the job ready: ``agenda.py`` hands
the jobs out from there. ``readings.py`` reads what is written here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from worker import tracing
from worker.core import keys
from worker.core.errors import UnknownJob
from worker.core.job.lanes import Bid
from worker.core.job.models import Event, Heard, JobId, JSONObject, Settlement, Shown, Standing
from worker.core.job.states import LIVE, LOST, TERMINAL, TRANSITIONS, JobState, Turn
from worker.store.connection import StoreUnavailable
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis


class Records:
    """Changes records. ``now`` and every due time are Unix seconds.

    Every method raises ``unavailable`` if Redis cannot be reached or will not write.
    """

    unavailable: Final = StoreUnavailable

    def __init__(self, redis: "Redis") -> None:
        self._transition = Script(redis, "transition")
        self._submit = Script(redis, "submit")
        self._claim = Script(redis, "claim")
        self._announce = Script(redis, "announce")
        self._take_from = Script(redis, "take_from")
        self._keep_late = Script(redis, "keep_late")
        self._replace = Script(redis, "replace_job")

    def turn(
        self,
        job_id: JobId,
        turn: Turn,
        *,
        now: float,
        due_at: float | None,
        why: str = "",
        fields: Mapping[str, Any] | None = None,
        drop: Sequence[str] = (),
        leg: str = "",
        count: str = "",
        retain_seconds: int | None = None,
    ) -> bool:
        """Take a turn if the job's state allows it; says whether it did.

        Args:
            due_at: when the job is due next; None: never again.
            leg: the run of the submit leg that this turn belongs to. The turn is safe to send
                twice, and is refused once another leg has begun.
            count: a counter to increment.
        """
        won, _ = self._transition(
            **_turn(
                job_id,
                turn,
                now=now,
                due_at=due_at,
                why=why,
                fields=fields or {},
                drop=drop,
                leg=leg,
                count=count,
                retain_seconds=retain_seconds,
            )
        )
        return bool(won)

    def settle(
        self, settlements: Sequence[Settlement], *, now: float, retain_seconds: int
    ) -> list[bool | Exception]:
        """Settle jobs, in one round trip.

        Returns for each whether it was settled now, or the error by which it cannot be.
        """
        calls = [
            _turn(
                each.job_id,
                each.turn,
                now=now,
                due_at=None,
                why=each.why,
                fields=each.fields,
                drop=each.drop,
                retain_seconds=retain_seconds,
            )
            for each in settlements
        ]
        replies = self._transition.many(calls)
        return [each if isinstance(each, Exception) else bool(each[0]) for each in replies]

    def begin(
        self,
        job_id: JobId,
        bid: Bid,
        *,
        now: float,
        due_at: float,
        deadline_at: float,
        fields: Mapping[str, Any],
        leg: str,
        unseen: bool = False,
    ) -> JobState | None:
        """Begin a submit leg if the gate is open; returns SUBMITTING, HELD, or None: not begun.

        Args:
            due_at: when the leg is dead, if it says nothing.
            deadline_at: when the job expires, if it is submitted for the first time now.
            fields: of the record; without ``parked``, the job has a record already.
            unseen: the leg has not looked at the record. Begin only a job that nobody has begun
                and that is still wanted.
        """
        sources = TRANSITIONS[Turn.SUBMIT][0]
        # Without its message a new record could not be resumed, and a song that was paid for would
        # be lost. So this call must not begin a job that has no record.
        if "parked" not in fields:
            sources -= {None}
        state, _ = self._submit(
            **keys.BEFORE_THE_GATE,
            **keys.OF_THE_OVERVIEW,
            **bid.limits.arguments(),
            job=keys.job(job_id),
            due=keys.DUE,
            jobs=keys.JOBS,
            job_id=job_id,
            now=round(now, 3),
            leg=leg,
            dead_at=due_at,
            deadline_at=round(deadline_at, 3),
            held_until=bid.held_until,
            lane=str(bid.lane),
            cost=bid.cost,
            entry=_entry(now, Turn.SUBMIT, ""),
            sources=_csv(sources),
            unseen="1" if unseen else "",
            fields=_pairs({**fields, **tracing.kept()}),
        )
        return JobState(state) if state else None

    def note(
        self,
        job_id: JobId,
        *,
        now: float,
        what: str = "",
        why: str = "",
        sources: Iterable[JobState | None] = LIVE,
        due_at: float | None = None,
        fields: Mapping[str, Any] | None = None,
        count: str = "",
        receipt: str = "",
        retain_seconds: int | None = None,
    ) -> JobState | None:
        """Write on a record without a turn; returns its state, None if there is no record.

        Args:
            sources: the states in which it is written; in others nothing changes.
            due_at: when the job is due next; None keeps the due time that it has.
            receipt: what became of the delivery that is noted; it is counted.
        """
        due = "" if due_at is None else str(due_at)
        entry = _entry(now, what, why) if what else ""
        _, state = self._transition(
            **_change(
                job_id,
                sources,
                None,
                now=now,
                due=due,
                entry=entry,
                fields=fields or {},
                count=count,
                receipt=receipt,
                retain_seconds=retain_seconds,
            )
        )
        return JobState(state) if state else None

    def replace(self, job_id: JobId, *, by: JobId, now: float, why: str) -> None:
        """Write down that another job, which is recorded by now, runs in the place of a lost one.

        Its batch no longer counts the lost one.
        """
        self._replace(
            **keys.OF_A_BATCH,
            job=keys.job(job_id),
            new=keys.job(by),
            due=keys.DUE,
            again=by,
            entry=_entry(now, "retried", why),
            now=now,
        )

    def drop_due(self, job_id: JobId) -> None:
        """Forget the due time of a job that needs none: it has settled, or its record is gone."""
        ended = (None, *TERMINAL)
        self._transition(**_change(job_id, ended, None, now=0, due="-", entry="", fields={}))

    def claim(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        leg: str = "",
        seen: JobState | None = None,
    ) -> bool:
        """Claim a parked job for an event, and make it ready; False if another event has won.

        Args:
            leg: claim only while this run of the submit leg is the last one. The claim is then safe
                to send twice.
            seen: claim only while the job is in this state.
        """
        sources = TRANSITIONS[Turn.CLAIM][0] if seen is None else (seen,)
        return self._hear(job_id, sources, event, leg, "", (), "", now=now) is Heard.WON

    def hear(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        digest: str,
        again_in: Iterable[JobState],
        again: str,
    ) -> Heard:
        """Claim a parked job for a delivery, unless the same delivery has won before.

        Args:
            digest: of the delivery's body.
            again_in: the states in which the same delivery again is a duplicate.
            again: what the timeline then says of it.
        """
        entry = _entry(now, again, _why(event))
        sources = TRANSITIONS[Turn.CLAIM][0]
        return self._hear(job_id, sources, event, "", digest, again_in, entry, now=now)

    def _hear(
        self,
        job_id: JobId,
        sources: Iterable[JobState | None],
        event: Event,
        leg: str,
        *same: Any,
        now: float,
    ) -> Heard:
        digest, again_in, entry = same
        # The provider may claim a job that is being submitted. An error of ours waits until the
        # job's PARKED state is stored (announce.lua): the script tells the two by ``by_provider``.
        heard = self._claim(
            **keys.BEFORE_THE_GATE,
            **keys.OF_THE_OVERVIEW,
            deliveries=keys.DELIVERIES,
            job=keys.job(job_id),
            due=keys.DUE,
            ready=keys.READY,
            ring=keys.RING,
            job_id=job_id,
            sources=_csv(sources),
            now=round(now, 3),
            event=event.dumps(),
            source=event.source,
            by_provider=int(event.body is not None),
            entry=_entry(now, Turn.CLAIM, _why(event)),
            leg=leg,
            digest=digest,
            again_in=_csv(again_in),
            entry_again=entry,
            # The span in which the event came. The job's resumed leg is linked to it.
            event_traceparent=tracing.traceparent(),
        )
        return Heard(heard)

    def announce(self, job_id: JobId, leg: str, shown: Shown | None = None) -> Standing | None:
        """Note that the job's PARKED state is stored; returns None if the leg is not its last.

        Args:
            shown: the state, if it is to be stored in the same step.

        Raises UnknownJob.
        """
        found = self._announce(
            job=keys.job(job_id),
            leg=leg,
            result=shown.key if shown else "",
            parked=shown.state if shown else "",
            seconds=shown.seconds if shown else "",
        )
        if not found:
            raise UnknownJob(f"the record of job {job_id} is gone: Redis has lost it")
        state, is_last, cancelled_by = found
        return Standing(JobState(state), cancelled_by=cancelled_by or None) if is_last else None

    def take_from(self, job_id: JobId, leg: str) -> bool:
        """Take a job away from a leg that has sent nothing; False if it may have."""
        return bool(self._take_from(job=keys.job(job_id), leg=leg))

    def keep_late(
        self,
        job_id: JobId,
        late: JSONObject,
        *,
        now: float,
        why: str,
        retain_seconds: int,
        sources: Iterable[JobState] = LOST,
    ) -> bool:
        """Keep a delivery that came too late to end its job; says whether it was kept.

        Args:
            late: the delivery. The first is kept; if it is not ``final``, until one comes that is.
            sources: the job's states in which the delivery is kept.
        """
        kept = self._keep_late(
            **keys.OF_DELIVERIES,
            job=keys.job(job_id),
            job_id=job_id,
            sources=_csv(sources),
            is_final=int(late["final"]),
            late=_dump(late),
            seconds=retain_seconds,
            entry=_entry(now, "late", why),
        )
        return bool(kept)


def _turn(
    job_id: JobId,
    turn: Turn,
    *,
    now: float,
    due_at: float | None,
    why: str,
    fields: Mapping[str, Any],
    **options: Any,
) -> JSONObject:
    """Return the arguments by which a job takes a turn."""
    sources, target = TRANSITIONS[turn]
    if "error" in fields:  # a batch counts by its type (tally.lua)
        fields = {**fields, "error_type": fields["error"]["type"]}
    # "-" takes the due time away; a note sends an empty text, which keeps it (transition.lua).
    due, entry = "-" if due_at is None else str(due_at), _entry(now, turn, why)
    return _change(job_id, sources, target, now=now, due=due, entry=entry, fields=fields, **options)


def _change(
    job_id: JobId,
    sources: Iterable[JobState | None],
    target: JobState | None,
    *,
    now: float,
    due: str,
    entry: str,
    fields: Mapping[str, Any],
    drop: Sequence[str] = (),
    leg: str = "",
    count: str = "",
    receipt: str = "",
    retain_seconds: int | None = None,
) -> JSONObject:
    return {
        **keys.BEFORE_THE_GATE,
        **keys.OF_THE_OVERVIEW,
        **keys.OF_A_BATCH,
        "deliveries": keys.DELIVERIES,
        "job": keys.job(job_id),
        "due": keys.DUE,
        "jobs": keys.JOBS,
        "ready": keys.READY,
        "job_id": job_id,
        "sources": _csv(sources),
        "to": target or "",
        "due_at": due,
        "retain_seconds": str(retain_seconds or ""),
        "entry": entry,
        "now": now,
        "leg": leg,
        "counter": count,
        "receipt": receipt,
        "dropped": " ".join(drop),
        "fields": _pairs(fields),
    }


def _why(event: Event) -> str:
    return f"{event.source} {event.delivery_id or ''}".strip()


def _csv(states: Iterable[JobState | None]) -> str:
    # Commas on both sides: record.lua looks for ",queued,", and for ",," if there is no record.
    return "," + "".join(f"{state or ''}," for state in states)


def _pairs(fields: Mapping[str, Any]) -> list[Any]:
    return [part for name, value in fields.items() for part in (name, _dump(value))]


def _dump(value: Any) -> Any:
    """Write a field as its hash holds it."""
    return json.dumps(value) if isinstance(value, dict) else value


def _entry(now: float, what: str, why: str) -> str:
    """Write a line of the timeline. A turn's line needs no state: readers know it from the turn."""
    # By hand: a turn writes one line, a delivery two, and an encoder of its own costs each 2 µs.
    reason = f',"why":{_quoted(why)}' if why else ""
    return f'{{"at":{round(now, 3)},"what":{_quoted(what)}{reason}}}'


_quoted: Final = json.encoder.encode_basestring_ascii
