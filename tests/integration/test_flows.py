"""The named flows, started as a backend that has our code would start them."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests import launcher
from tests.system import System

CLIP = str(uuid.uuid4())
FLOWS = {
    f'master_pack("{CLIP}", mv="chirp-v5")': [
        "sonic.stems_full", "sonic.wav", "sonic.midi", "sonic.lyrics_timeline",
    ],
    f'instrumental_pack("{CLIP}")': ["sonic.stems_full", "sonic.wav", "sonic.midi"],
    'song_from_idea("a held note", tags="waltz")': ["sonic.create_music"],
    f'extend_and_concat("{CLIP}", 4.5, prompt="[Outro]")': ["sonic.concat"],
    f'cover_and_stems("{CLIP}", tags="brass band")': ["sonic.stems_full"],
    f'sonic.remaster.s("{CLIP}") | for_each_clip(sonic.wav.s())': ["sonic.wav", "sonic.wav"],
}  # fmt: skip


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("flows")) as system:
        system.worker(concurrency=3)
        yield system


def run(system: System, flow: str) -> Any:
    script = (
        "import json; from tasks.flows import *; from tasks import sonic;"
        f"print(json.dumps(({flow}).delay().get(timeout=40)))"
    )
    ran = launcher.run("-c", script, environment=system.environment, folder=system.folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("flow", FLOWS, ids=[flow.partition("(")[0] for flow in FLOWS])
def test_a_flow_brings_the_results_that_it_says(everything: System, flow: str) -> None:
    results = run(everything, flow)
    results = results if isinstance(results, list) else [results]
    assert [result["operation"] for result in results] == FLOWS[flow]
    assert all(result["data"] or result["clips"] for result in results)
