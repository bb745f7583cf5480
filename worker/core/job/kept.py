"""The form in which a record keeps the message that started its job: kombu's, compressed.

Most messages say much the same. So they are compressed against a dictionary, a text of what most of
them say. The message of a single job takes some 190 characters in place of 1,100.

A kept message begins with the name of its form, because a later version may read it. A form and its
dictionary never change, or kept messages could not be read any more: a better dictionary gets a
form of its own. The first form was plain JSON.
"""

import base64
import json
import zlib
from typing import Final

from worker.core.job.models import JSONObject

_FORM: Final = "1:"
_BEFORE_THE_BODY: Final = b"\n"
"""Ends the head, which is one line of JSON: JSON escapes a line end within a text."""

_SIGNATURE: Final = (
    '"args": [], "kwargs": {}, "options": {"queue": "celery", "priority": 0, "expires": null, '
    '"link_error": [], "root_id": "", "parent_id": "", "group_id": "", "group_index": 0, '
    '"queue": "fermata", "task_id": "", "reply_to": ""}, "subtask_type": null, "immutable": true, '
    '"immutable": false}'
)
_DICTIONARY: Final = (
    '"headers":{"fermata_priority":"batch","fermata_tenant":"default","fermata_batch":"",'
    '"fermata_digest":"","fermata_copy":""},"stamped_headers":[""],"stamps":{"":[""]},'
    '"eta":"2026-01-01T00:00:00.000000+00:00","expires":"2026-01-01T00:00:00+00:00",'
    '"delivery_info":{"exchange":"","routing_key":"fermata.slow"},"priority":null,"expiration":'
    '"content-type":"application/json","headers":{"task":"fermata.sonic.'
    "upload stems_basic stems_all add_vocals add_instrumental vox persona_music create_persona "
    "concat extend cover mashup midi wav bpm timeline lyrics.generate nuro.create_music "
    "sonic.create_music archive.store remaster celery.chord_unlock "
    '[[{"custom_mode": true, "make_instrumental": false, "gpt_description_prompt": "", '
    '"prompt": "", "title": "", "tags": "", "lyrics": "[Verse]\\n[Chorus]\\n", "mv": "chirp-v4", '
    '"continue_clip_id": "", "source": "", "pick": 0, "url": "https://"}], '
    f'"chord": {{"task": "celery.group", {_SIGNATURE}, "chord_size": 1, '
    f'"callbacks": [{{"task": "", {_SIGNATURE}], "errbacks": [{{"task": "", {_SIGNATURE}], '
    f'"chain": [{{"task": "fermata.sonic.remaster", {_SIGNATURE}], '
    '{"lang":"py","task":"fermata.sonic.remaster","id":"","shadow":null,"eta":null,"expires":null,'
    '"group":"","group_index":0,"group":null,"group_index":null,"retries":0,'
    '"timelimit":[null,null],"root_id":"","parent_id":"","parent_id":null,'
    '"argsrepr":"()","argsrepr":"(\'\',)","kwargsrepr":"{}","kwargsrepr":"{\'mv\': \'chirp-v5\'}",'
    '"origin":"gen1@","ignore_result":false,"ignore_result":null,"replaced_task_nesting":0,'
    '"stamped_headers":null,"stamps":{},"fermata_claim":0},'
    '"content-type":"application/json","content-encoding":"utf-8",'
    '"properties":{"correlation_id":"","reply_to":"","delivery_mode":2,'
    '"delivery_info":{"exchange":"","routing_key":"celery"},'
    '"delivery_info":{"exchange":"","routing_key":"fermata"},"priority":0}}\n'
    '[[""], {"mv": "chirp-v5"}, {"callbacks": null, "errbacks": null, "chain": null, '
    '"chord": null}]'
).encode()


def pack(head: str, body: bytes) -> str:
    """Compress a message: its head as JSON in one line, and its body as it is sent."""
    press = zlib.compressobj(9, wbits=-zlib.MAX_WBITS, zdict=_DICTIONARY)
    pressed = press.compress(head.encode() + _BEFORE_THE_BODY + body) + press.flush()
    return _FORM + base64.b64encode(pressed).decode()


def request(kept: str) -> JSONObject | None:
    """Read what a kept message asks for: ``source``, and the task's ``parameters``.

    Returns None for the message of a publisher that does not write JSON.
    """
    head, body = unpack(kept)
    if head.get("content-type") != "application/json":
        return None
    positional, parameters, _ = json.loads(body)
    source = positional[0] if positional else parameters.pop("source", None)
    return {"source": source, "parameters": parameters}


def unpack(kept: str) -> tuple[JSONObject, bytes]:
    """Return a message's head and its body, whichever form it is kept in.

    Raises ValueError or zlib.error if it is in none.
    """
    if not kept.startswith(_FORM):
        head = json.loads(kept)
        return head, base64.b64decode(head.pop("body"))
    pressed = base64.b64decode(kept.removeprefix(_FORM))
    message = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DICTIONARY).decompress(pressed)
    first, _, body = message.partition(_BEFORE_THE_BODY)
    return json.loads(first), body
