"""Lyrics operations (provider-api.md §3.7)."""

from worker.core.providers.aimusic import fields
from worker.core.providers.aimusic.operations.row import Operation


class Generate(fields.RequestSchema):
    description = fields.text("what the song is about", least=1, limit=119, required=True)


ROWS = (
    Operation(
        name="lyrics.generate",
        path="/sonic/lyrics",
        schema=Generate,
        summary="Write lyrics in two versions: `data.results` is a list of `{title, lyrics}`.",
        makes_clips=False,
        credits=2,
        deadline_seconds=600,
        uncharged=frozenset({504}),
    ),
)
