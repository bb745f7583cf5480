"""What the API takes and gives. Times are Unix seconds; credits are list prices."""

from typing import Any, Final

from marshmallow import INCLUDE, Schema, fields, validate

from worker.core.job.lanes import TENANT, Priority
from worker.core.job.states import JobState

MOST: Final = 200
"""The longest page of a list."""
_TEXT: Final = validate.Length(max=256)


def told(doc: str, **others: Any) -> dict[str, Any]:
    """Return a field's metadata: what it is, for the document of the API."""
    return {"description": doc, **others}


class Problem(Schema):
    """An error (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(allow_none=True)
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata=told("What is wrong, by field."),
    )
    rows = fields.List(
        fields.Dict(), metadata=told("What is wrong in a manifest: line, column, reason.")
    )


class Paging(Schema):
    """Which part of a list."""

    cursor = fields.String(validate=_TEXT, metadata=told("That of the page before."))
    limit = fields.Integer(load_default=25, validate=validate.Range(1, MOST))


class Filter(Schema):
    """Which jobs."""

    state = fields.Enum(JobState, by_value=True)
    operation = fields.String(validate=_TEXT)
    tenant = fields.String(validate=_TEXT)
    batch = fields.String(validate=_TEXT)
    error = fields.String(validate=_TEXT, metadata=told("The type of its error: TaskFailed."))
    since = fields.Float(metadata=told("Recorded at this time or later, in Unix seconds."))
    until = fields.Float(metadata=told("Recorded before this time, in Unix seconds."))


class JobsQuery(Filter, Paging):
    """Which jobs, and which part of their list."""


class Request(Schema):
    """What an operation or a flow is asked to do."""

    parameters = fields.Dict(
        keys=fields.String(), load_default=dict, metadata=told("The fields of the request.")
    )
    source = fields.Raw(
        allow_none=True,
        load_default=None,
        metadata=told("The clip to work on: its id, a clip, a result, or a list of these."),
    )
    pick = fields.Raw(
        allow_none=True,
        load_default=None,
        metadata=told(
            "Which clip of the source: its index from 0, or its id. Without a source: which one of "
            "the result, by its index, the follow-ups work on. Default: the first that succeeded.",
            type=["integer", "string"],
        ),
    )
    then = fields.List(
        fields.String(),
        load_default=list,
        metadata=told(
            "Follow-ups on the result, side by side; `a+b`: b works on a's result. `archive.store` "
            "may be the last step of each, or the only one."
        ),
    )
    # Checked with the rest of the request, so that all of its mistakes are told at once.
    priority = fields.String(
        load_default=None, metadata=told("Which jobs go first.", enum=[*map(str, Priority)])
    )
    tenant = fields.String(
        load_default=None,
        metadata=told(
            "On whose behalf it runs; a tenant's own token needs none.",
            pattern=f"^{TENANT.pattern}$",
        ),
    )
    notify = fields.String(
        load_default=None,
        metadata=told("A URL that is told, by a signed POST, when the flow has ended."),
    )


class JobRequest(Request):
    """A job, and what follows it."""

    operation = fields.String(required=True)


class FlowRequest(Request):
    """A named flow, or an operation."""

    name = fields.String(required=True)


class Key(Schema):
    """The header by which a repeated request enqueues nothing again."""

    idempotency_key = fields.String(
        data_key="Idempotency-Key", load_default=None, validate=validate.Length(1, 200)
    )


class Step(Schema):
    """A job of a flow."""

    job_id = fields.String(required=True)
    operation = fields.String(required=True)
    after = fields.String(required=True, allow_none=True)
    joins = fields.Boolean(metadata=told("It follows a whole group; `after` is one job of it."))
    state = fields.String(metadata=told("A job's state; or `not started`, `not run`, `no record`."))


class Enqueued(Schema):
    """What was enqueued."""

    job_id = fields.String(required=True)
    steps = fields.List(fields.Nested(Step), required=True)


class Flow(Schema):
    """A flow as it stands."""

    flow_id = fields.String(required=True)
    ended = fields.Boolean(required=True)
    succeeded = fields.Boolean(required=True)
    steps = fields.List(fields.Nested(Step), required=True)


class Row(Schema):
    """A job in a list."""

    job_id = fields.String(required=True)
    operation = fields.String(required=True)
    state = fields.Enum(JobState, by_value=True, required=True)
    created_at = fields.Float(required=True)
    tenant = fields.String(required=True)
    priority = fields.String(required=True)
    credits = fields.Float(required=True)
    batch = fields.String(required=True, allow_none=True)
    error_type = fields.String(required=True, allow_none=True)
    provider_task_id = fields.String(required=True, allow_none=True)
    clip_id = fields.String(required=True, allow_none=True)
    source = fields.String(
        required=True, allow_none=True, metadata=told("webhook, poll, answer, sweep or cancel")
    )
    again = fields.String(
        required=True, allow_none=True, metadata=told("The job that runs in its place, if any.")
    )


class Rows(Schema):
    """Some jobs of a list. A page may be short, or empty, and still have a cursor."""

    items = fields.List(fields.Nested(Row), required=True)
    cursor = fields.String(required=True, allow_none=True)


class Job(Schema):
    """A job's whole record; ``fermata job ID --json`` prints the same."""

    class Meta:
        unknown = INCLUDE

    job_id = fields.String(required=True)
    operation = fields.String(required=True)
    state = fields.Enum(JobState, by_value=True, required=True)
    created_at = fields.Float(required=True)
    tenant = fields.String(required=True)
    cost = fields.Float(required=True)
    result = fields.Dict(required=True, allow_none=True)
    error = fields.Dict(required=True, allow_none=True)
    late = fields.Dict(required=True, allow_none=True)
    timeline = fields.List(fields.Dict(), required=True)


class File(Schema):
    """A file of a job in the archive."""

    name = fields.String(required=True, metadata=told("Its path in the archive."))
    kind = fields.String(required=True, metadata=told("audio, wav, midi, image, a stem's name, …"))
    clip_id = fields.String(required=True)
    bytes = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    media_type = fields.String(required=True)
    at = fields.String(required=True, metadata=told("When it was stored, as ISO 8601."))


class Files(Schema):
    """The files of a job in the archive."""

    items = fields.List(fields.Nested(File), required=True)


class Track(Schema):
    """Something to hear: a take, or a stem of one."""

    name = fields.String(required=True)
    title = fields.String(required=True)
    job_id = fields.String(required=True)
    clip_id = fields.String(required=True)
    seconds = fields.Float(required=True, allow_none=True)
    of = fields.String(required=True, metadata=told("The take that a stem was made of."))
    stored = fields.String(required=True, allow_none=True, metadata=told("Its file here."))
    url = fields.String(required=True, metadata=told("The provider's link, which may end."))


class Note(Schema):
    """One note; times are seconds from the beginning of the song."""

    start = fields.Float(required=True)
    end = fields.Float(required=True)
    pitch = fields.Integer(required=True, metadata=told("As MIDI counts: 60 is the middle C."))
    velocity = fields.Float(required=True)


class Instrument(Schema):
    """The notes of one instrument."""

    name = fields.String(required=True)
    of = fields.String(required=True, metadata=told("The take or stem that they were read from."))
    notes = fields.List(fields.Nested(Note), required=True)


class Word(Schema):
    """A word of the lyrics, and when it is sung, in seconds."""

    word = fields.String(required=True)
    start = fields.Float(required=True)
    end = fields.Float(required=True)


class Song(Schema):
    """A song, and what the jobs after it made of it."""

    title = fields.String(required=True)
    bpm = fields.Float(required=True, allow_none=True)
    lyrics = fields.String(required=True)
    takes = fields.List(fields.Nested(Track), required=True)
    stems = fields.List(fields.Nested(Track), required=True)
    instruments = fields.List(fields.Nested(Instrument), required=True)
    words = fields.List(fields.Nested(Word), required=True)


class Outcome(Schema):
    """What became of a request."""

    outcome = fields.String(required=True)


class _Flag(fields.Boolean):
    """JSON's ``true`` or ``false``, and nothing that is equal to one of them in Python, as 1 is."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Retry(Schema):
    """How to run again what failed."""

    even_if_paid = _Flag(
        load_default=False,
        metadata=told("Also what the provider may have charged for already."),
    )


class Again(Schema):
    """The job that runs in the place of a failed one."""

    job_id = fields.String(required=True)


class Archiving(Schema):
    """The job whose files a worker stores; `Location` lists them."""

    job_id = fields.String(required=True)


class SongSent(Schema):
    """The jobs of a song whose files workers store; none if the archive has them all."""

    jobs = fields.List(fields.String(), required=True)


class FlowAgain(Schema):
    """What became of the failed jobs of a flow."""

    jobs = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata=told("Each job that was retried, and the job that runs in its place."),
    )
    refused = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata=told("Each job that was not, and why."),
    )


def _left() -> fields.Integer:
    least = "How many are left, at least; of very many, only some are looked at."
    return fields.Integer(attribute="left.jobs", required=True, metadata=told(least))


def _behind() -> fields.String:
    on = "Ask again with it to go on; null: none are left."
    return fields.String(required=True, allow_none=True, metadata=told(on))


class Cancelled(Schema):
    """How many jobs of a filter are ending, and for how many it was too late."""

    ending = fields.Integer(required=True)
    too_late = fields.Integer(required=True)
    left = _left()
    cursor = _behind()


class Slice(Schema):
    """Where to go on with what is done a slice at a time."""

    cursor = fields.String(
        load_default=None, validate=_TEXT, metadata=told("That of the answer before.")
    )


class CancelMatching(Filter, Slice):
    """Which jobs to cancel."""


class RetrySlice(Retry, Slice):
    """How to run again what failed, a slice at a time."""


class RetryMatching(Filter, RetrySlice):
    """Which jobs to run again, and how."""


class Retried(Schema):
    """What was run again."""

    retried = fields.Integer(required=True)
    refused = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata=told("Why jobs were not retried, and how many."),
    )
    left = _left()
    cursor = _behind()


class Batch(Schema):
    """A batch as it stands."""

    batch_id = fields.String(required=True)
    standing = fields.String(required=True)
    created_at = fields.Float(required=True)
    rows = fields.Integer(required=True)
    jobs = fields.Integer(required=True)
    expected_jobs = fields.Integer(required=True)
    live = fields.Integer(required=True)
    not_run = fields.Integer(required=True)
    ended = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    spent = fields.Float(required=True)
    expected_credits = fields.Float(required=True)
    done = fields.Boolean(required=True)
    tenants = fields.List(fields.String(), required=True)


class Batches(Schema):
    """Some batches, the newest first."""

    items = fields.List(fields.Nested(Batch), required=True)
    cursor = fields.String(required=True, allow_none=True)


class Manifest(Schema):
    """How to take a manifest."""

    id = fields.String(
        required=True,
        validate=validate.Regexp(rf"{TENANT.pattern}\Z"),
        metadata=told("The name of the batch."),
    )
    dry_run = fields.Boolean(load_default=False, metadata=told("Check and price it, no more."))
    again = fields.Boolean(
        load_default=False, metadata=told("Go on with the batch although it was cancelled.")
    )


class Submitted(Schema):
    """What a manifest costs, and how many of its rows were submitted now."""

    batch_id = fields.String(required=True)
    rows = fields.Integer(required=True)
    jobs = fields.Integer(required=True)
    credits = fields.Float(required=True)
    submitted = fields.Integer(required=True)
    present = fields.Integer(
        required=True, metadata=told("Rows that were submitted by an earlier request.")
    )


class CancelledBatch(Schema):
    """How many jobs of a batch were cancelled."""

    cancelled = fields.Integer(attribute="ending", required=True)
    left = _left()
    cursor = _behind()


class Entry(Schema):
    """A delivery in quarantine."""

    entry_id = fields.String(required=True)
    at = fields.Float(required=True)
    kind = fields.String(required=True)
    job_id = fields.String(required=True)
    why = fields.String(required=True)
    size = fields.Integer(required=True)
    headers = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class WholeEntry(Entry):
    """A delivery in quarantine, with its body; null if the entry was damaged."""

    body = fields.String(
        required=True, allow_none=True, metadata=told("As text; what is none is escaped.")
    )
    body_base64 = fields.String(required=True, allow_none=True)


class Entries(Schema):
    """Some deliveries in quarantine, the oldest first."""

    items = fields.List(fields.Nested(Entry), required=True)
    cursor = fields.String(required=True, allow_none=True)


class Delivery(Schema):
    """A webhook that came, and what became of it."""

    receipt_id = fields.String(required=True)
    at = fields.Float(required=True)
    receipt = fields.String(
        required=True,
        metadata=told("resumed, progress, without effect, late or quarantined"),
    )
    job_id = fields.String(required=True)
    operation = fields.String(
        required=True, allow_none=True, metadata=told("Null if the job has no record.")
    )
    what = fields.String(
        required=True, metadata=told("As the job's timeline has it: the event, or `claim`.")
    )
    why = fields.String(
        required=True, metadata=told("The webhook's own id, or why it is in quarantine.")
    )
    entry_id = fields.String(
        required=True,
        allow_none=True,
        metadata=told("Its entry in quarantine, if it was put there."),
    )


class Deliveries(Schema):
    """Some deliveries, the newest first."""

    items = fields.List(fields.Nested(Delivery), required=True)
    cursor = fields.String(required=True, allow_none=True)


class Verified(Schema):
    """A delivery whose signature is right."""

    event = fields.String(required=True)
    final = fields.Boolean(required=True, metadata=told("Whether it ends a job."))


class Adopt(Schema):
    """The operation and the tenant of an orphan, which its record took along."""

    operation = fields.String(required=True, validate=_TEXT)
    tenant = fields.String(validate=_TEXT, metadata=told("Else the default tenant."))


class Operation(Schema):
    """An operation or a named flow: what it does, takes and costs."""

    name = fields.String(required=True)
    summary = fields.String(required=True)
    steps = fields.List(fields.String(), required=True)
    credits = fields.Float(required=True)
    parameters = fields.Dict(required=True, metadata=told("JSON Schema"))


class Operations(Schema):
    """All of them."""

    items = fields.List(fields.Nested(Operation), required=True)


class Waiting(Schema):
    """The jobs of one tenant that wait in one class."""

    lane = fields.String(required=True)
    tenant = fields.String(required=True)
    jobs = fields.Integer(required=True)


class Part(Schema):
    """The part of the jobs to pause: a tenant or an operation; all jobs if neither is named."""

    tenant = fields.String(validate=_TEXT)
    operation = fields.String(validate=_TEXT)


class Pause(Schema):
    """A tenant or an operation whose jobs do not pass."""

    tenant = fields.String(metadata=told("If a tenant is paused."))
    operation = fields.String(metadata=told("If an operation is paused."))
    by = fields.String(required=True)
    at = fields.Float(required=True)
    held = fields.Integer(
        required=True,
        allow_none=True,
        metadata=told("How many of its jobs are held; null for a tenant's token."),
    )


class GateChange(Schema):
    """What happened to the gate."""

    at = fields.Float(required=True)
    what = fields.String(required=True, metadata=told("closed, opened, paused or resumed"))
    why = fields.String(
        required=True,
        metadata=told("Why it closed; or what was paused: `tenant:acme`, empty if everything."),
    )
    by = fields.String(required=True)


class InFlight(Schema):
    """The jobs of one operation at the provider."""

    operation = fields.String(required=True)
    jobs = fields.Integer(required=True)
    oldest = fields.Float(required=True, metadata=told("Since when the oldest is there."))


class Gate(Schema):
    """The gate before the provider. A tenant sees no figures of all tenants together."""

    closed_for = fields.String(required=True, allow_none=True)
    closed_at = fields.Float(required=True, allow_none=True)
    probe_at = fields.Float(required=True, allow_none=True)
    paused_by = fields.String(required=True, allow_none=True)
    paused_at = fields.Float(required=True, allow_none=True)
    pauses = fields.List(fields.Nested(Pause), required=True)
    in_flight = fields.Integer(required=True, allow_none=True)
    at_provider = fields.List(fields.Nested(InFlight), required=True)
    credits = fields.Float(required=True, allow_none=True)
    waiting = fields.List(fields.Nested(Waiting), required=True)
    history = fields.List(
        fields.Nested(GateChange), required=True, metadata=told("The latest first.")
    )


class Paused(Schema):
    """Whether that was paused before."""

    was_paused = fields.Boolean(required=True)


class Run(Schema):
    """What became of a run of a schedule."""

    batch_id = fields.String(required=True)
    outcome = fields.String(required=True)
    at = fields.Float(required=True)


class Schedule(Schema):
    """A schedule and its last runs."""

    name = fields.String(required=True)
    cron = fields.String(required=True)
    timezone = fields.String(required=True)
    missed = fields.Integer(required=True)
    last_batch = fields.String(required=True, allow_none=True)
    last_outcome = fields.String(required=True, allow_none=True)
    last_at = fields.Float(required=True, allow_none=True)
    next_at = fields.List(
        fields.Float(), required=True, metadata=told("The next due times, within a year.")
    )
    outcomes = fields.List(
        fields.Nested(Run), required=True, metadata=told("The latest runs, newest first.")
    )


class ScheduleRun(Schema):
    """A run that was started by hand."""

    batch_id = fields.String(required=True)


class Schedules(Schema):
    """The timetable."""

    items = fields.List(fields.Nested(Schedule), required=True)


class Days(Schema):
    """How many days back, today included (UTC)."""

    days = fields.Integer(load_default=30, validate=validate.Range(1, 400))


class Spent(Schema):
    """What one tenant spent on one day."""

    day = fields.Date(required=True)
    tenant = fields.String(required=True)
    credits = fields.Float(required=True)


class Spend(Schema):
    """Spend by day and tenant, the oldest day first."""

    items = fields.List(fields.Nested(Spent), required=True)


class Waits(Schema):
    """How long the provider took, in seconds, over the last hour; null if nobody waited."""

    p50 = fields.Float(required=True, allow_none=True)
    p95 = fields.Float(required=True, allow_none=True)


class TenantDay(Schema):
    """What became of the jobs of one tenant today (UTC); credits at list price."""

    tenant = fields.String(required=True)
    succeeded = fields.Integer(required=True)
    failed = fields.Integer(required=True, metadata=told("The expired ones too."))
    cancelled = fields.Integer(required=True)
    credits = fields.Float(required=True)


class Overview(Schema):
    """The whole system in figures."""

    states = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    gate = fields.Nested(Gate, required=True)
    quarantine = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata=told("How many deliveries are kept, by kind: unreadable, orphan."),
    )
    oldest = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata=told("Since when the oldest job of each live state stands there."),
    )
    workers = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata=told("The last sign of life of each."),
    )
    today = fields.List(fields.Nested(TenantDay), required=True)
    webhook_share = fields.Float(
        required=True,
        allow_none=True,
        metadata=told("Of the jobs settled in the last hour whose operation takes one."),
    )
    provider_seconds = fields.Nested(Waits, required=True)
