"""The examples run as a reader would run them."""

import subprocess
import sys
import uuid

from tests.system import ROOT, System

# Stands in front of the script: a backend that does not have our code cannot import it.
_WITHOUT_OUR_CODE = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"worker", "tasks", "webhook_receiver", "simulator"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
script, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(script, run_name="__main__")
"""


def test_a_backend_without_our_code_enqueues_by_name_and_gets_its_result(system: System) -> None:
    script = str(ROOT / "examples" / "enqueue_by_name.py")
    urls = {"BROKER_URL": system.broker_url, "RESULT_BACKEND": system.redis_url}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _WITHOUT_OUR_CODE, script, str(uuid.uuid4())],
        env=system.environment | urls,
        cwd=system.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    wav, midi, left = ran.stdout.splitlines()
    assert wav.endswith(".wav")
    assert midi.endswith(".mid")
    assert left.endswith("credits left")


def test_a_script_without_what_it_needs_says_how_it_is_run() -> None:
    script = str(ROOT / "examples" / "enqueue_by_name.py")
    urls = {"BROKER_URL": "redis://127.0.0.1:1/0", "RESULT_BACKEND": "redis://127.0.0.1:1/0"}
    for arguments, environment in (([], urls), (["a-clip"], {})):
        ran = subprocess.run(
            [sys.executable, script, *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ran.returncode == 1
        assert ran.stderr.startswith("usage: BROKER_URL=")
        assert ran.stderr.count("\n") == 1
