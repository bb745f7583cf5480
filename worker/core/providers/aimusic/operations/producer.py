"""Producer operations (provider-api.md §3.8, provider-api-2.md §3.8)."""

from collections.abc import Iterator, Mapping
from typing import Any

from worker.core.providers.aimusic import fields
from worker.core.providers.aimusic.operations.row import PRODUCER_TASK, Operation


class CreateMusic(fields.RequestSchema):
    sound = fields.text("the style and the instruments")
    lyrics = fields.text("the words")
    title = fields.text("the title", limit=80)
    mv = fields.text("the model; the provider maps retired names to current ones")
    seed = fields.text("the same seed and request make a similar song")
    make_instrumental = fields.flag("no voices; some models ignore it: say so in `sound`")
    bpm = fields.number("beats per minute", above=0)
    length = fields.number("a target", 1, 240, unit="s")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        yield from fields.one_of(data, "sound", "lyrics")


class MakeLyrics(fields.RequestSchema):
    prompt = fields.text("what the lyrics are about", least=1, required=True)


class VideoClip(fields.RequestSchema):
    clip_id = fields.clip()


class Upload(fields.RequestSchema):
    audio_url = fields.public_url("a public address of the audio")


class Download(fields.RequestSchema):
    clip_id = fields.clip()
    format = fields.choice("the file format", "mp3", "wav", load_default="mp3")


ROWS = (
    Operation(
        name="producer.create_music",
        path="/producer/create",
        schema=CreateMusic,
        summary="Create one song with the producer models; 20 to 80 seconds.",
        fixed={"task_type": "create_music"},
        carries={"lyrics": "results.{pick}.lyrics", "title": "results.{pick}.title"},
        poll_path=PRODUCER_TASK,
        takes_webhook=True,
        expected_seconds=90,
        credits=10,
    ),
    Operation(
        name="producer.make_lyrics",
        path="/producer/lyrics-create",
        schema=MakeLyrics,
        summary="Write lyrics; the provider documents neither the field nor the result's shape.",
        poll_path=PRODUCER_TASK,
        makes_clips=False,
        expected_seconds=15,
        credits=1,
    ),
    Operation(
        name="producer.video_clip",
        path="/producer/video-clip",
        schema=VideoClip,
        summary="Render a music video from a clip; the result's shape is not documented.",
        clip_field="clip_id",
        poll_path=PRODUCER_TASK,
        makes_clips=False,
        expected_seconds=60,
        credits=5,
    ),
    Operation(
        name="producer.upload",
        path="/producer/upload",
        schema=Upload,
        summary="Upload a song by its public address; the result's clip is its handle.",
        poll_path=PRODUCER_TASK,
        takes_webhook=True,
        makes_clips=False,
        expected_seconds=30,
        credits=2,
    ),
    Operation(
        name="producer.download",
        path="/producer/download",
        schema=Download,
        summary="Get a producer song as a file: its address is the clip's `audio_url`.",
        clip_field="clip_id",
        poll_path=PRODUCER_TASK,
        takes_webhook=True,
        expected_seconds=30,
        credits=2,
    ),
)
