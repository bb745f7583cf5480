"""Which files of a result are archived, under which names, and what the manifest says of them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from worker.core.archive import names
from worker.core.archive.egress import shown
from worker.core.archive.media import Format, format_of
from worker.core.contract import JOB_ID
from worker.core.errors import ArchiveFailed, InvalidRequest
from worker.core.job.models import JSONObject

_URL: Final = "url"


@dataclass(frozen=True, slots=True)
class Link:
    """One file of a result: its address and its kind."""

    url: str = field(repr=False)
    kind: str
    """``audio``, ``wav``, ``video``, ``image``, ``midi``, a stem's name, a download's format."""
    format: Format
    clip_id: str
    title: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A link and the name it is stored under, relative to the archive."""

    name: str
    link: Link


def results_of(source: Any) -> list[JSONObject]:
    """Read a task's argument: a result, or the results of a group, however nested.

    Raises InvalidRequest if it is not a result of a Fermata job.
    """
    if isinstance(source, list):
        return [result for each in source for result in results_of(each)]
    job_id = source.get("job_id") if isinstance(source, dict) else None
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise InvalidRequest("archive.store takes the result of a Fermata job, or a list of them")
    return [source]


def find_links(result: Mapping[str, Any]) -> list[Link]:
    """Find the files of a result, each once: of clips that succeeded, then those in ``data``."""
    clips = [c for c in _objects(result.get("clips")) if c.get("state") == "succeeded"]
    # A file in ``data`` that names no clip belongs to the clip, if there is only one.
    alone = clips[0] if len(clips) == 1 else {}
    found = [link for clip in clips for link in _links(clip, clip)]
    found += _links(result.get("data"), alone)
    first: dict[str, Link] = {}
    for link in found:
        first.setdefault(link.url, link)
    return list(first.values())


def _objects(value: Any) -> list[JSONObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _links(value: Any, clip: Mapping[str, Any]) -> Iterator[Link]:
    """Walk JSON for ``url`` and ``…_url``. A link belongs to the nearest clip id around it."""
    if isinstance(value, list):
        for each in value:
            yield from _links(each, clip)
    elif isinstance(value, dict):
        clip = value if value.get("clip_id") else clip
        for key, each in value.items():
            if isinstance(each, str) and each and (key == _URL or key.endswith(f"_{_URL}")):
                yield _link(each, _kind(key, value), clip)
            else:
                yield from _links(each, clip)


def _kind(key: str, holder: Mapping[str, Any]) -> str:
    kind = key.removesuffix(_URL).removesuffix("_")
    named = holder.get("stem_type") if kind == "audio" else holder.get("format") if not kind else ""
    return str(named or kind or "file")


def _link(url: str, kind: str, clip: Mapping[str, Any]) -> Link:
    # A download of the producer's has an address but no id (provider-api-2.md §6).
    clip_id, title = clip.get("clip_id") or "clip", clip.get("title") or ""
    return Link(url, kind, format_of(url, kind), str(clip_id), str(title))


def plan(result: Mapping[str, Any], template: str, began: datetime) -> list[Planned]:
    """Find and name the files of a result; the same result and day give the same names."""
    links = find_links(result)
    common = {"job_id": result["job_id"], "operation": str(result.get("operation", ""))}
    rendered = (
        names.render(
            template,
            common
            | {"clip_id": link.clip_id, "kind": link.kind, "title": link.title}
            | {"date": began.date().isoformat(), "ext": link.format.ext},
        )
        for link in links
    )
    chosen = names.unique(rendered, taken=[manifest_name(result["job_id"])])
    return [Planned(name, link) for name, link in zip(chosen, links, strict=True)]


def manifest_name(job_id: str) -> str:
    """Name a job's manifest. Neither template nor day change its place: each run must find it."""
    return f"{names.job_folder(job_id)}/manifest.json"


def new_manifest(result: Mapping[str, Any], began: datetime) -> JSONObject:
    """Begin a manifest. Later runs keep to the time that it notes of the first run."""
    return {
        "job_id": result["job_id"],
        "operation": result.get("operation"),
        "provider_task_id": result.get("provider_task_id"),
        "began_at": began.isoformat(timespec="seconds"),
        "files": {},
    }


def read_manifest(content: bytes) -> JSONObject:
    """Read a manifest that an earlier run wrote. Raises ArchiveFailed if it is not one of ours."""
    try:
        manifest: JSONObject = json.loads(content)
        began = datetime.fromisoformat(manifest["began_at"])
        known = all(isinstance(each["bytes"], int) for each in manifest["files"].values())
    except (ValueError, TypeError, KeyError, AttributeError):
        known = False
    if not known or began.tzinfo is None:
        raise ArchiveFailed("there is a manifest.json that archive.store did not write")
    return manifest


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a manifest names."""

    name: str
    """Its path in the archive."""
    kind: str
    clip_id: str
    source: str
    """Where it came from, without the link's query."""
    bytes: int
    sha256: str
    media_type: str
    at: str
    """When it was stored."""


def stored_files(manifest: JSONObject) -> list[StoredFile]:
    """List the files of a manifest. Raises ArchiveFailed if it says too little of one."""
    try:
        return [_stored(name, said) for name, said in manifest["files"].items()]
    except (KeyError, TypeError, AttributeError):
        raise ArchiveFailed("there is a manifest.json that archive.store did not write") from None


def _stored(name: str, said: JSONObject) -> StoredFile:
    # Not the content type of the server that it came from: that may say anything.
    media_type = format_of(said["source"], said["kind"]).media_type
    named = {key: said[key] for key in ("kind", "clip_id", "source", "bytes", "sha256", "at")}
    return StoredFile(name=name, media_type=media_type, **named)


class Linked(Protocol):
    """A file at the provider: a link of a result, or what a song tells of it."""

    @property
    def kind(self) -> str: ...
    @property
    def clip_id(self) -> str: ...
    @property
    def url(self) -> str: ...


def copies(linked: Iterable[Linked], stored: Iterable[StoredFile]) -> dict[str, StoredFile]:
    """Find the copies of a job's files among those that its manifest names, by link.

    A manifest notes no queries, and links may differ in nothing else: the clip tells them apart.
    """
    known = {(file.kind, file.clip_id, file.source): file for file in stored}
    return {
        each.url: copy
        for each in linked
        if (copy := known.get((each.kind, each.clip_id, shown(each.url))))
    }


def entry(
    planned: Planned, *, size: int, sha256: str, content_type: str, at: datetime
) -> JSONObject:
    """Describe a stored file. The source leaves out the link's query, which may be a signature."""
    return {
        "kind": planned.link.kind,
        "clip_id": planned.link.clip_id,
        "source": shown(planned.link.url),
        "bytes": size,
        "sha256": sha256,
        "content_type": content_type,
        "at": at.isoformat(timespec="seconds"),
    }


def failure(missing: list[JSONObject], *, retryable: bool) -> ArchiveFailed:
    """Say which files could not be stored, and why."""
    first = "; ".join(f"{each['name']}: {each['why']}" for each in missing[:3])
    more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
    files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    return ArchiveFailed(
        f"{files} could not be archived: {first}{more}",
        {"missing": missing, "retryable": retryable},
    )
