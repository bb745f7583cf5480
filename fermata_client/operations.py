"""The names of operations and flows; `make reference` writes this file."""

from typing import Final, Literal, get_args

from fermata_client.flows import Plan

OperationName = Literal[
    "sonic.create_music",
    "sonic.extend",
    "sonic.cover",
    "sonic.concat",
    "sonic.persona_music",
    "sonic.remaster",
    "sonic.add_vocals",
    "sonic.add_instrumental",
    "sonic.upload_extend",
    "sonic.upload_cover",
    "sonic.upload",
    "sonic.upload_async",
    "sonic.create_persona",
    "sonic.create_voice",
    "sonic.sample",
    "sonic.mashup",
    "sonic.replace_section",
    "sonic.stems_basic",
    "sonic.stems_full",
    "sonic.bpm",
    "sonic.vox",
    "sonic.wav",
    "sonic.midi",
    "sonic.lyrics_timeline",
    "sonic.upsample_tags",
    "sonic.download",
    "lyrics.generate",
    "producer.create_music",
    "producer.make_lyrics",
    "producer.video_clip",
    "producer.upload",
    "producer.download",
    "account.credits",
    "riffusion.create_music",
    "riffusion.extend",
    "riffusion.cover",
    "riffusion.replace_section",
    "riffusion.swap_sound",
    "riffusion.swap_vocals",
    "riffusion.upload",
    "nuro.create_vocal",
    "nuro.create_instrumental",
]
FlowName = Literal[
    "flows.master_pack",
    "flows.instrumental_pack",
    "flows.song_from_idea",
    "flows.extend_and_concat",
    "flows.cover_and_stems",
]

OPERATIONS: Final[frozenset[str]] = frozenset(get_args(OperationName))

FLOWS: Final[dict[FlowName, Plan]] = {
    "flows.master_pack": Plan(
        "sonic.remaster",
        branches=(
            ("sonic.stems_full",),
            ("sonic.wav",),
            ("sonic.midi",),
            ("sonic.lyrics_timeline",),
        ),
    ),
    "flows.instrumental_pack": Plan(
        "sonic.remaster", branches=(("sonic.stems_full",), ("sonic.wav",), ("sonic.midi",))
    ),
    "flows.song_from_idea": Plan(
        "lyrics.generate",
        then="sonic.create_music",
        preset={"custom_mode": True},
        takes=frozenset({"description"}),
    ),
    "flows.extend_and_concat": Plan(
        "sonic.extend",
        then="sonic.concat",
        preset={"custom_mode": True},
        takes=frozenset(
            {
                "audio_weight",
                "continue_at",
                "continue_clip_id",
                "custom_mode",
                "duration",
                "gpt_description_prompt",
                "make_instrumental",
                "mv",
                "negative_tags",
                "prompt",
                "style_weight",
                "tags",
                "title",
                "use_suno_cdn",
                "vocal_gender",
                "weirdness_constraint",
            }
        ),
    ),
    "flows.cover_and_stems": Plan(
        "sonic.cover",
        then="sonic.stems_full",
        preset={"custom_mode": True},
        takes=frozenset(
            {
                "audio_weight",
                "continue_clip_id",
                "custom_mode",
                "duration",
                "gpt_description_prompt",
                "make_instrumental",
                "mv",
                "negative_tags",
                "prompt",
                "style_weight",
                "tags",
                "title",
                "use_suno_cdn",
                "vocal_gender",
                "weirdness_constraint",
            }
        ),
    ),
}
