"""Batches: how far each is, what it cost, and why jobs of it failed."""

from typing import Final

from flask import render_template

from desk.api.batches import visible
from desk.doors import visitor
from desk.pages import pages
from desk.pages.drawing.bars import WIDTH
from desk.parts import desk, now
from worker.batch import Batch
from worker.core.job.states import LOST

NEWEST: Final = 50


@pages.get("/batches")
def batches() -> str:
    """List the newest batches."""
    found = desk().ledger.recent(NEWEST, tenant=visitor().tenant)
    return render_template("batches.html", batches=[(each, _shares(each)) for each in found])


@pages.get("/batches/<batch_id>")
def batch(batch_id: str) -> str:
    """Show one batch: its states, its credits, and why jobs of it failed."""
    found = visible(batch_id)
    ended = sum(found.ended.values())
    took = max(now() - found.created_at, 1)
    return render_template(
        "batch.html",
        batch=found,
        parts=_shares(found),
        errors=sorted(found.errors.items(), key=lambda each: -each[1]),
        may_retry=any(found.ended[state] for state in LOST),
        a_minute=None if found.done else ended / took * 60,
        left=None if found.done or not ended else took / ended * (found.expected_jobs - ended),
    )


def _shares(found: Batch) -> list[tuple[str, int, float, float]]:
    """Lay the states of a batch side by side: state, count, x, width."""
    counts = [
        *((str(state), count) for state, count in found.ended.items()),
        ("waiting", max(found.live, 0)),
        ("not run", found.not_run),
    ]
    scale = WIDTH / max(found.expected_jobs, sum(count for _, count in counts), 1)
    shares, x = [], 0.0
    for state, count in counts:
        if count:
            shares.append((state, count, round(x, 1), round(count * scale, 1)))
            x += count * scale
    return shares
