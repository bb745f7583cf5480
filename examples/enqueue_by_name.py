"""A backend that has none of Fermata's code: Celery, a broker URL, and task names.

    BROKER_URL=redis://… RESULT_BACKEND=redis://… python examples/enqueue_by_name.py CLIP_ID

Remasters a clip, then asks for a WAV and a MIDI file of the result in parallel: native Celery
canvas, though the provider takes minutes and answers by webhook.
"""

import os
import sys
from typing import Any

from celery import Celery, group

QUEUE = "fermata"  # without it, a message lands in Celery's default queue and nobody reads it

if len(sys.argv) != 2 or not {"BROKER_URL", "RESULT_BACKEND"} <= os.environ.keys():
    sys.exit("usage: BROKER_URL=… RESULT_BACKEND=… python examples/enqueue_by_name.py CLIP_ID")

app = Celery(broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"])


def fermata(operation: str, *args: object, **parameters: object) -> Any:
    """Name a Fermata operation; a misspelt name would be accepted in silence, so check yours."""
    return app.signature(f"fermata.{operation}", args=args, kwargs=parameters, queue=QUEUE)


def main(clip_id: str) -> None:
    remaster = fermata("sonic.remaster", clip_id, mv="chirp-v5", variation_category="subtle")
    flow = remaster | group(fermata("sonic.wav"), fermata("sonic.midi"))

    # Raises the provider's error, if there is one. Give it a timeout: to Celery an id that nobody
    # knows is PENDING, as one is that waits in the queue.
    wav, midi = flow.delay().get(timeout=600)

    print(wav["data"]["wav_url"])
    print(midi["data"]["midi_url"])

    # One operation, without canvas:
    account = app.send_task("fermata.account.credits", queue=QUEUE).get(timeout=60)
    print(f"{account['data']['credits']} credits left")


if __name__ == "__main__":
    main(sys.argv[1])
