"""One line for each row of a batch: how it ended, with its files and its error."""

import csv
import json
from collections.abc import Iterable, Iterator
from typing import IO, Final

from worker.batch.jobs import Job
from worker.batch.rows import BatchRow, BatchRows
from worker.core.archive.links import find_links
from worker.core.job.models import JSONObject
from worker.core.job.states import JobState

COLUMNS: Final = (
    "line", "key", "name", "state", "job_id", "urls", "error_type", "error", "credits", "late",
)  # fmt: skip


def lines(rows: BatchRows, batch_id: str) -> Iterator[JSONObject]:
    """Yield a row's line, in the order of the manifest's.

    Raises StoreUnavailable.
    """
    for page in rows.pages(batch_id):
        for row, jobs in page:
            yield describe(row, jobs)


def describe(row: BatchRow, jobs: list[Job]) -> JSONObject:
    """Describe a row. Its state is that of the job that failed, or that it waits for.

    If its first job is past its retention, the row is ``forgotten``. If a job failed and its result
    came ``late``, the row names the files of that result too.
    """
    telling = next((place for place, job in enumerate(jobs) if job.failed), None)
    if telling is None:
        unfinished = (n for n, job in enumerate(jobs) if job.state is not JobState.SUCCEEDED)
        telling = next(unfinished, 0)
    error = jobs[telling].error or {}
    return {
        "line": row.line,
        "key": row.key,
        "name": row.name,
        "state": jobs[telling].state or ("not begun" if jobs[0].state else "forgotten"),
        "job_id": jobs[telling].job_id,
        "urls": _urls(found for job in jobs if (found := job.result or job.late)),
        "error_type": error.get("type"),
        "error": error.get("message"),
        "credits": sum(job.cost for job in jobs if job.state is JobState.SUCCEEDED or _late(job)),
        "late": any(map(_late, jobs)),
    }


def _late(job: Job) -> bool:
    return job.failed and job.late is not None


def _urls(results: Iterable[JSONObject]) -> list[str]:
    """Name the files that ``archive.store`` would keep, each once."""
    found = (link.url for result in results for link in find_links(result))
    return list(dict.fromkeys(found))


def write(lines: Iterable[JSONObject], to: IO[str], *, as_csv: bool) -> None:
    """Write a report as CSV, with a header, or as JSON Lines."""
    if not as_csv:
        to.writelines(json.dumps(line) + "\n" for line in lines)
        return
    to.writelines(csv_lines(lines))


def csv_lines(lines: Iterable[JSONObject]) -> Iterator[str]:
    """Yield a report as the lines of a CSV file, the header first."""
    writer = csv.DictWriter(_Echo(), COLUMNS)
    yield writer.writeheader()
    for line in lines:
        yield writer.writerow({name: _safe(value) for name, value in line.items()})


class _Echo:
    """A file that gives back what is written: csv's writers return it in turn."""

    def write(self, text: str) -> str:
        return text


def _safe(value: object) -> object:
    """Write a cell so that no spreadsheet takes it for a formula."""
    text = " ".join(value) if isinstance(value, list) else value
    if isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{text}"
    return text
