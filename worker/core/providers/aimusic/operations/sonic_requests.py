"""The requests of the sonic family (provider-api.md §3, provider-api-2.md §3)."""

from collections.abc import Iterator, Mapping
from typing import Any

from worker.core.providers.aimusic import fields
from worker.core.providers.aimusic.fields import SHORT_TEXT_MODELS, RequestSchema

_RECENT = "a clip made through the API in the last 24 hours, where it is not the source"


class OnCreate(RequestSchema):
    """What the newest pages of ``/sonic/create`` want of every task type."""

    use_suno_cdn = fields.flag("which addresses the audio gets", load_default=True)


class SongOnCreate(OnCreate):
    negative_tags = fields.text("what to avoid", limit=200)


class Words(RequestSchema):
    """The words and the style of a song; their limits depend on the model."""

    mv = fields.model()
    prompt = fields.text("the lyrics: 5,000 characters, 3,000 with v3-5 and v4")
    title = fields.text("the title", limit=80)
    tags = fields.text("the style: 1,000 characters, 200 with v3-5 and v4")
    negative_tags = fields.text("what to avoid")
    vocal_gender = fields.choice("the voice; v4-5 and later", "f", "m")
    style_weight = fields.ratio("how closely to follow the style")
    weirdness_constraint = fields.ratio("how unusual it may be")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        short = data.get("mv") in SHORT_TEXT_MODELS
        with_model = f"with {data.get('mv', 'any model')}"
        yield from fields.at_most(data, "prompt", 3000 if short else 5000, with_model)
        yield from fields.at_most(data, "tags", 200 if short else 1000, with_model)


class Song(Words):
    """A song made from lyrics (``custom_mode``) or from a description."""

    custom_mode = fields.flag(
        "true: `prompt` holds the lyrics; false: `gpt_description_prompt` describes the song",
        required=True,
    )
    gpt_description_prompt = fields.text("a description of the song", limit=400)
    make_instrumental = fields.flag("no voices")

    needs_words = True

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        if not self.needs_words or "custom_mode" not in data:
            return
        if not data["custom_mode"]:
            yield from fields.require(data, "gpt_description_prompt", "when custom_mode is false")
        elif not data.get("make_instrumental"):
            when = "when custom_mode is true, unless make_instrumental"
            yield from fields.require(data, "prompt", when)


class WithAutoLyrics(Song):
    auto_lyrics = fields.flag("`prompt` describes the lyrics; only with custom_mode")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        if data.get("auto_lyrics") and data.get("custom_mode") is False:
            yield "auto_lyrics", "Only with custom_mode true."


class CreateMusic(SongOnCreate, WithAutoLyrics):
    duration = fields.whole("a target", 10, 360, unit="s")


class PersonaMusic(CreateMusic):
    persona_id = fields.text("the persona, where it is not the source", least=1, required=True)


class Extend(SongOnCreate, Song):
    continue_clip_id = fields.clip()
    continue_at = fields.number("where to go on", above=0, unit="s", required=True)
    audio_weight = fields.ratio("how closely to follow the clip")
    duration = fields.whole("a target", 10, 360, unit="s")
    needs_words = False


class Cover(SongOnCreate, Song):
    continue_clip_id = fields.clip()
    audio_weight = fields.ratio("how closely to follow the clip")
    duration = fields.whole("a target", 10, 360, unit="s")
    needs_words = False


class Concat(OnCreate):
    continue_clip_id = fields.clip("the clip that an extend made, where it is not the source")


class Remaster(OnCreate):
    mv = fields.model()
    continue_clip_id = fields.clip(_RECENT)
    variation_category = fields.choice(
        "how far it may go; documented for v5", "subtle", "normal", "high"
    )


class AddInstrumental(SongOnCreate, Words):
    continue_clip_id = fields.clip(
        "a clip uploaded in the last 24 hours, where it is not the source"
    )
    audio_weight = fields.ratio("how closely to follow the clip")
    overpainting_start_s = fields.number("start of the part to work on", 0, unit="s")
    overpainting_end_s = fields.number("end of the part to work on", 0, unit="s")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        yield from fields.in_order(data, "overpainting_start_s", "overpainting_end_s")


class AddVocals(AddInstrumental):
    prompt = fields.text(
        "the lyrics: 5,000 characters, 3,000 with v3-5 and v4", least=1, required=True
    )


class _Uploaded(Song):
    url = fields.public_url("a public address of the audio: the provider downloads it itself")
    audio_weight = fields.ratio("how closely to follow the audio")
    auto_concat = fields.flag("also join the result with its source: `full` beside it")
    duration = fields.whole("a target", 10, 360, unit="s")
    needs_words = False


class UploadExtend(_Uploaded):
    continue_at = fields.number("where to go on; 0.1 is the start", above=0, unit="s")


class UploadCover(_Uploaded):
    pass


class Upload(RequestSchema):
    url = fields.public_url("a public address of the audio, up to 8 minutes, no copyrighted music")


class CreatePersona(RequestSchema):
    name = fields.text("the persona's name", least=1, limit=79, required=True)
    clip_id = fields.clip(_RECENT)
    describe = fields.text("what it is like")
    styles = fields.text("its styles", limit=2000)
    vox_audio_id = fields.text("voices that `sonic.vox` took from the clip")
    vocal_start_s = fields.number("start of the voices", 0, unit="s")
    vocal_end_s = fields.number("end of the voices", 0, unit="s")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        yield from fields.in_order(data, "vocal_start_s", "vocal_end_s")


class CreateVoice(RequestSchema):
    audio_url = fields.public_url("MP3 or WAV, longer than 10 s, one clear speaker")


class Sample(WithAutoLyrics):
    tags = fields.text("the style", limit=200)
    make_instrumental = fields.flag("no voices", required=True)
    audio_weight = fields.ratio("how closely to follow the sample")
    url = fields.public_url("a public address of the audio, instead of a clip", required=False)
    sample_clip_id = fields.clip(required=False)
    chop_sample_start_s = fields.number("start of the sample", 0, unit="s", required=True)
    chop_sample_end_s = fields.number("end of the sample", 0, unit="s", required=True)
    needs_words = False

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        yield from fields.one_of(data, "sample_clip_id", "url", exactly=True)
        yield from fields.in_order(data, "chop_sample_start_s", "chop_sample_end_s")


class Mashup(WithAutoLyrics):
    tags = fields.text("the style", limit=200)
    audio_weight = fields.ratio("how closely to follow the clips")
    mashup_clip_ids = fields.several(
        "two clips, where they are not the source", exactly=2, required=True
    )
    needs_words = False


class ReplaceSection(RequestSchema):
    clip_id = fields.clip()
    mv = fields.model(without=("-v3-5",))
    infill_start_s = fields.number("start of the section", 0, unit="s", required=True)
    infill_end_s = fields.number("end of the section", 0, unit="s", required=True)
    infill_lyrics = fields.text("the words of the section", limit=3000)
    prompt = fields.text("the lyrics of the whole song, as context", limit=5000)
    title = fields.text("the title", limit=80)
    tags = fields.text("the style", limit=1000)
    negative_tags = fields.text("what to avoid", limit=200)
    style_weight = fields.ratio("how closely to follow the style")
    weirdness_constraint = fields.ratio("how unusual it may be")
    vocal_gender = fields.choice("the voice", "f", "m")
    auto_concat = fields.flag("also join the section with its song: `full` beside it")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        yield from fields.in_order(data, "infill_start_s", "infill_end_s")


class OnClip(RequestSchema):
    clip_id = fields.clip()


class OnRecentClip(RequestSchema):
    clip_id = fields.clip(_RECENT)


class Vox(RequestSchema):
    clip_id = fields.clip(_RECENT)
    vocal_start_s = fields.number("start of the voices", 0, unit="s")
    vocal_end_s = fields.number("end of the voices, at most 30 s later", 0, unit="s")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        yield from fields.in_order(data, "vocal_start_s", "vocal_end_s")
        yield from fields.within(data, "vocal_start_s", "vocal_end_s", 30)


class UpsampleTags(RequestSchema):
    tags = fields.text("the style to spell out", least=1, required=True)


class Download(RequestSchema):
    clip_id = fields.clip()
    formats = fields.several("`mp3`, `m4a`, `wav`", of=("mp3", "m4a", "wav"))
