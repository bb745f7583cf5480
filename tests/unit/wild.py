"""Hypothesis strategies for anything that a provider might send."""

import json

from hypothesis import strategies as st

from worker.core.providers.aimusic.operations import OPERATIONS

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
words = st.sampled_from(
    ["code", "type", "data", "event", "state", "clip_id", "task_id", "message", "error",
     "duration", "already_refunded", "status", "full", "replaced", "audio_url", "steps",
     "failed_step", "results"]
)  # fmt: skip
values = st.recursive(
    scalars
    | st.sampled_from(["failed", "succeeded", "SUCCESS", "RUNNING", "song.completed", "refunded"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(words, values, max_size=6).map(lambda each: json.dumps(each).encode())
bodies = st.binary(max_size=200) | objects
statuses = st.integers(100, 599) | st.sampled_from([200, 202, 400, 403, 429, 500, 504])
operations = st.sampled_from(list(OPERATIONS.values()))
headers = st.dictionaries(st.just("Retry-After"), st.text(max_size=8))

# Bodies that are not a JSON object.
UNREADABLE = [
    b"", b"<html></html>", b"\xff\xfe", b"\x00", b"[]", b'"text"', b"7", b"null", b"true",
    b'{"a": NaN}', b'{"a": -Infinity}', b"{" * 100_000, b"[" * 100_000, b'{"a":' * 100_000,
    b'{"task_id": "x"', b"\xef\xbb\xbf{}", b'{"n": ' + b"9" * 5000 + b"}",
]  # fmt: skip
