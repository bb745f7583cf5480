"""Nuro operations: retired, the provider answers 410 (provider-api.md §2, rows 33 and 34).

They send the documented fields (provider-api-2.md §3.9), so that one can use a reseller that still
has them.
"""

from worker.core.providers.aimusic import fields
from worker.core.providers.aimusic.operations.row import NURO_TASK, Operation


class CreateVocal(fields.RequestSchema):
    lyrics = fields.text("the words", least=1, limit=2000, required=True)
    gender = fields.choice("the voice", "Female", "Male")
    genre = fields.text("the genre")
    mood = fields.text("the mood")
    timbre = fields.text("the timbre of the voice")
    duration = fields.whole("a target", 30, 240, unit="s")


class CreateInstrumental(fields.RequestSchema):
    description = fields.text("what it should sound like", least=1, required=True)
    genre = fields.several("genres", limit=5)
    mood = fields.several("moods", limit=5)
    instrument = fields.several("instruments", limit=5)
    theme = fields.several("themes", limit=5)
    duration = fields.whole("a target", 1, 60, unit="s")


ROWS = (
    Operation(
        name="nuro.create_vocal",
        path="/nuro/create",
        schema=CreateVocal,
        summary="Create a song with a voice.",
        fixed={"type": "vocal"},
        poll_path=NURO_TASK,
        takes_webhook=True,
        expected_seconds=60,
        credits=10,
        retired="sonic.create_music",
    ),
    Operation(
        name="nuro.create_instrumental",
        path="/nuro/create",
        schema=CreateInstrumental,
        summary="Create background music.",
        fixed={"type": "bgm"},
        poll_path=NURO_TASK,
        takes_webhook=True,
        expected_seconds=60,
        credits=10,
        retired="producer.create_music",
    ),
)
