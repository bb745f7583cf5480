"""The recorded samples: one folder for each case, written from the documented shapes."""

import json
from pathlib import Path
from typing import Any

from worker.core.wire import Answer

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "tests/samples"


def cases(name: str) -> set[str]:
    """Name every case that has a file of this name."""
    return {path.parent.name for path in SAMPLES.glob(f"*/{name}")}


def load(case: str, name: str) -> Any:
    return json.loads((SAMPLES / case / name).read_bytes())


def answer(case: str) -> Answer:
    """Return a recorded answer; ``text`` stands for a body that is not JSON."""
    recorded = load(case, "answer.json")
    body = recorded["text"] if "text" in recorded else json.dumps(recorded["body"])
    return Answer(recorded["status"], recorded.get("headers", {}), body.encode())


def raw(case: str) -> bytes:
    """Return the exact bytes that were signed."""
    return (SAMPLES / case / "body.json").read_bytes()


def delivery(case: str) -> bytes:
    return json.dumps(load(case, "delivery.json")["body"]).encode()
