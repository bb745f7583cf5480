"""Use case: store the files of a result in a place of ours, because the provider's links expire.

It is safe to run any number of times: the manifest says which files are there, and a local archive
keeps the part of a file that has come.
"""

import contextlib
import json
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import structlog
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker.archive.download import Body, Downloader
from worker.archive.targets import Target, Upload, open_target
from worker.core.archive import links
from worker.core.archive.egress import Egress, read_origin, shown
from worker.core.archive.links import Planned
from worker.core.archive.media import SNIFFED_BYTES, Format
from worker.core.errors import CallFailed
from worker.core.job.models import JSONObject
from worker.settings import Settings, is_loopback

log = structlog.get_logger()

T = TypeVar("T")

RUN_SECONDS: Final = 240
"""The time for one run of the task, well below each of its time limits. The next run fetches the
files that are still missing."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Stores results, within ``run_seconds`` a call."""

    target: Target
    downloader: Downloader
    template: str
    run_seconds: float = RUN_SECONDS
    clock: Callable[[], float] = time.time

    def store(self, source: Any) -> Any:
        """Store the files of a result; returns ``{"job_id", "manifest", "files"}``.

        A list of results returns a list of these.

        Raises InvalidRequest; ArchiveFailed if a file is missing, after all others are stored.
        """
        give_up = time.monotonic() + self.run_seconds
        runs = [_Run(self, result) for result in links.results_of(source)]
        stored = [run.store(share) for run, share in _shares(runs, give_up)]
        missing = [each for run in runs for each in run.missing]
        if missing:
            raise links.failure(missing, retryable=any(run.retryable for run in runs))
        return stored if isinstance(source, list) else stored[0]

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


def open_archive(settings: Settings) -> Archive:
    """Put an archive together. Raises ConfigError if its target cannot be opened."""
    provider = read_origin(settings.provider_url)
    egress = Egress(
        hosts=(*settings.archive.hosts, provider.host),
        inner=(provider,) if is_loopback(settings.provider_url) else (),
    )
    downloader = Downloader(
        egress=egress,
        tls=ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH),
        connect_seconds=settings.connect_timeout_seconds,
        max_bytes=settings.archive.max_bytes,
    )
    return Archive(open_target(settings.archive.url), downloader, settings.archive.template)


def _shares(items: Sequence[T], give_up: float) -> Iterator[tuple[T, float]]:
    """Give each item an equal share of the time that is left, so that a slow one leaves some."""
    for position, item in enumerate(items):
        now = time.monotonic()
        yield item, now + (give_up - now) / (len(items) - position)


class _Run:
    """One result on its way into the archive."""

    def __init__(self, parts: Archive, result: JSONObject) -> None:
        self._parts = parts
        self._target = parts.target
        self._result = result
        self._manifest_name = links.manifest_name(result["job_id"])
        self._manifest: JSONObject = {}
        self.missing: list[JSONObject] = []
        self.retryable = False

    def store(self, give_up: float) -> JSONObject:
        """Store every file that can be stored, and note the missing ones."""
        planned: list[Planned] = []
        with self._noting(self._manifest_name, "the manifest"):
            planned = self._begin()
        for each, share in _shares(planned, give_up):
            with self._noting(each.name, shown(each.link.url)):
                self._store_file(each, share)
        files = self._manifest.get("files", {})
        return {
            "job_id": self._result["job_id"],
            "manifest": self._target.url(self._manifest_name),
            "files": [
                self._described(n, files[n]) for n in (p.name for p in planned) if n in files
            ],
        }

    def _described(self, name: str, entry: JSONObject) -> JSONObject:
        return {"name": name, "url": self._target.url(name), **entry}

    @contextlib.contextmanager
    def _noting(self, name: str, source: str) -> Iterator[None]:
        try:
            yield
        except CallFailed as error:
            log.warning("file_not_archived", name=name, why=str(error))
            self.missing.append({"name": name, "source": source, "why": str(error)})
            self.retryable |= error.retryable

    def _begin(self) -> list[Planned]:
        """Read the manifest, or begin one.

        It keeps the day of the first run: a template may name files by the day, and a later run
        must find the same names.
        """
        known = self._target.read(self._manifest_name)
        if known is None:
            self._manifest = links.new_manifest(self._result, self._parts.now())
            self._write_manifest()
        else:
            self._manifest = links.read_manifest(known)
        began = datetime.fromisoformat(self._manifest["began_at"])
        return links.plan(self._result, self._parts.template, began)

    def _write_manifest(self) -> None:
        text = json.dumps(self._manifest, indent=2)
        self._target.replace(self._manifest_name, text.encode())

    def _store_file(self, planned: Planned, give_up: float) -> None:
        stored = self._manifest["files"].get(planned.name)
        # The size is compared too: somebody may have removed or cut the file since.
        if stored and self._target.size(planned.name) == stored["bytes"]:
            return
        with (
            self._target.upload(planned.name) as upload,
            self._parts.downloader.open(
                planned.link.url,
                give_up=give_up,
                offset=upload.offset,
                validator=upload.validator,
            ) as body,
        ):
            size, sha256 = _transfer(body, upload, planned.link.format)
        self._manifest["files"][planned.name] = links.entry(
            planned, size=size, sha256=sha256, content_type=body.content_type, at=self._parts.now()
        )
        self._write_manifest()
        log.info("file_archived", name=planned.name, bytes=size)


def _transfer(body: Body, upload: Upload, expected: Format) -> tuple[int, str]:
    digest = upload.resume(body.offset, body.validator)
    size = body.offset
    for chunk in _checked(body, expected):
        upload.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    upload.commit()
    return size, digest.hexdigest()


def _checked(body: Body, expected: Format) -> Iterator[bytes]:
    """Let a body through once its beginning has the promised format.

    A resumed body was checked when its beginning came.
    """
    if body.offset == 0:
        beginning = b""
        for chunk in body.chunks:
            beginning += chunk
            if len(beginning) >= SNIFFED_BYTES:
                break
        expected.check(body.content_type, beginning)
        yield beginning
    yield from body.chunks
