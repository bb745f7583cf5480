"""The toy provider behind the port ``Provider``: all that Fermata knows of it."""

import base64
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.core import errors
from worker.core.errors import InvalidPayload, InvalidRequest
from worker.core.job.models import JobId, JSONObject, ProviderTaskId
from worker.core.signing import Scheme
from worker.core.wire import (
    Accepted,
    Answer,
    Completed,
    Delivery,
    Finished,
    PollOutcome,
    Postponed,
    Refused,
    Request,
    Running,
    SubmitOutcome,
    Unknown,
    Webhook,
    parse,
)

STANDARD_WEBHOOKS: Final = Scheme(
    id_header="Webhook-Id",
    timestamp_header="Webhook-Timestamp",
    signature_header="Webhook-Signature",
    prefix="v1,",
    signs_id=True,
    in_base64=True,
)
SECRET_PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True)
class Kind:
    """One operation; see :class:`worker.core.wire.Operation`."""

    name: str
    refs: int = 1
    """How many songs it works on."""
    takes_webhook: bool = True
    direct: bool = False
    """The answer of the request is the result."""
    makes_songs: bool = True
    summary: str = "Ask the toy provider."
    expected_seconds: float = 1
    deadline_seconds: float = 3600
    submit_seconds: float | None = None
    slow: bool = False
    credits: float = 1
    repeatable: bool = False

    @property
    def clip_field(self) -> str | None:
        return "ref" if self.refs == 1 else None

    @property
    def called_back(self) -> bool:
        return self.takes_webhook

    @property
    def makes_music(self) -> bool:
        return self.makes_songs


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("sonic.remaster"),
        Kind("sonic.create_music", refs=0),
        Kind("sonic.mashup", refs=2),
        Kind("sonic.stems_full", takes_webhook=False),
        Kind("sonic.vox", takes_webhook=False, direct=True, makes_songs=False),
        Kind("sonic.wav", takes_webhook=False, direct=True, makes_songs=False),
    )
}
ENGINES: Final = (None, "chirp-v5")


class Toy:
    """See :class:`worker.core.ports.Provider`."""

    name: str = "toy"
    operations: Mapping[str, Kind] = KINDS
    task_modules: Sequence[str] = ()
    scheme: Scheme = STANDARD_WEBHOOKS

    def check(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        source: Any = None,
        pick: Any = None,
        extra: Mapping[str, Any] | None = None,
    ) -> JSONObject:
        if parameters.get("mv") not in ENGINES:
            raise InvalidRequest(f"{operation}: mv: there is no such engine")
        body: JSONObject = {
            "engine": parameters.get("mv"),
            "about": parameters.get("gpt_description_prompt"),
        }
        if wanted := KINDS[operation].refs:
            refs = _refs(source)[pick or 0 :][:wanted]
            if len(refs) < wanted:
                raise InvalidRequest(f"{operation}: source: it has too few songs")
            body |= {"ref": refs[0]} if wanted == 1 else {"refs": refs}
        return {name: value for name, value in body.items() if value} | dict(extra or {})

    def signature(self, operation: str) -> inspect.Signature:
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        names = ("source", "mv", "gpt_description_prompt", "custom_mode", "pick")
        return inspect.Signature([inspect.Parameter(name, either, default=None) for name in names])

    def build_submit(
        self, operation: str, body: Mapping[str, Any], webhook: Webhook | None
    ) -> Request:
        wanted: JSONObject = {"kind": operation, "of": dict(body)}
        if webhook:
            key = SECRET_PREFIX + base64.b64encode(webhook.secret.encode()).decode()
            wanted["notify"] = {"to": webhook.url, "key": key}
        return Request("POST", "/jobs", wanted)

    def read_submit(self, operation: str, answer: Answer) -> SubmitOutcome:
        if answer.status == 429:
            after = {name.lower(): value for name, value in answer.headers.items()}
            return Postponed("too many", float(after.get("retry-after", 0)) or None)
        try:
            body = parse(answer.body)
        except InvalidPayload as error:
            return Unknown(error.message)
        if answer.status == 200 and KINDS[operation].direct:
            return Completed(answer.body.decode())
        if answer.status == 200 and "handle" in body:
            return Accepted(ProviderTaskId(body["handle"]))
        if 400 <= answer.status < 500:
            return Refused(errors.RequestRefused(str(body.get("says"))))
        return Unknown(f"HTTP {answer.status}")

    def build_poll(self, operation: str, provider_task_id: ProviderTaskId) -> Request:
        return Request("GET", f"/jobs/{provider_task_id}")

    def read_poll(self, operation: str, answer: Answer) -> PollOutcome:
        try:
            body = parse(answer.body)
        except InvalidPayload as error:
            return Postponed(error.message)
        if answer.status != 200:
            return Postponed(f"HTTP {answer.status}")
        if _has_ended(body):
            return Finished(answer.body.decode())
        return Running(_progress(body))

    def build_balance(self) -> Request:
        return Request("GET", "/purse")

    def read_balance(self, answer: Answer) -> float:
        return float(parse(answer.body)["coins"])

    def read_delivery(self, raw: bytes) -> Delivery:
        body = parse(raw)
        if body.get("topic") not in {"job.done", "job.working", "job.broken"}:
            raise InvalidPayload("there is no such topic")
        final = body["topic"] != "job.working" and _has_ended(body)
        done = body["topic"] == "job.done"
        progress = {} if final else _progress(body)
        return Delivery(body["topic"], final, done, raw.decode(), body.get("handle"), progress)

    def read_result(
        self,
        job_id: JobId,
        operation: str,
        body: str,
        *,
        clip_id: str | None = None,
        provider_task_id: str | None = None,
    ) -> JSONObject:
        said = parse(body)
        if said.get("phase") == "broken":
            details = {"refunded": said["refund"]} if "refund" in said else {}
            raise errors.TaskFailed(str(said.get("says")), details)
        clips = _songs(said)
        if KINDS[operation].makes_songs and not any(c["state"] == "succeeded" for c in clips):
            raise errors.UnexpectedResponse(f"{operation} ended without a song")
        passed_on = [{"clip_id": clip_id, "state": "succeeded", "audio_url": None}]
        return {
            "job_id": job_id,
            "operation": operation,
            "provider_task_id": said.get("handle") or provider_task_id,
            "clips": clips or (passed_on if clip_id else []),
            "data": said.get("files", {}),
            "partial": any(clip["state"] != "succeeded" for clip in clips),
        }


_STATES: Final = {"done": "succeeded", "working": "running", "broken": "failed"}


def _songs(body: Mapping[str, Any]) -> list[JSONObject]:
    return [
        {
            "clip_id": song.get("ref"),
            "audio_url": song.get("link"),
            "stem_type": song.get("stem"),
            "state": _STATES[song["phase"]],
        }
        for song in body.get("songs", ())
    ]


def _has_ended(body: Mapping[str, Any]) -> bool:
    if body.get("phase") == "broken" or body.get("files"):
        return True
    songs = body.get("songs", ())
    return bool(songs) and all(song["phase"] != "working" for song in songs)


def _progress(body: Mapping[str, Any]) -> JSONObject:
    return {"clips": json.loads(json.dumps(_songs(body)))}


def _refs(source: Any) -> list[str]:
    refs: list[str] = []
    for each in source if isinstance(source, list) else [source]:
        refs += [song["clip_id"] for song in each["clips"]] if isinstance(each, dict) else [each]
    return refs
