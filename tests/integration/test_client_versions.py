"""The client on the oldest and the newest libraries that a backend may have, each on its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.integration.flow import HELD, Flow, clip
from tests.servers import missing
from tests.system import ROOT

# Left alone, pip gives Celery 5.3 a kombu of today, on which it does not run.
VERSIONS = {
    "celery-5.3-redis-5.0": ("celery[redis]==5.3.*", "kombu==5.3.*", "redis==5.0.*"),
    "celery-5.7-redis-8": ("celery[redis]==5.7.*", "redis==8.*"),
}

BACKEND = """
import socket, sys, threading, uuid
import celery, redis
from fermata_client import Fermata, JobFailed, StillRunning

celery_version, redis_version, url, held = sys.argv[1:]
assert celery.__version__.startswith(celery_version), celery.__version__
assert redis.__version__.startswith(redis_version), redis.__version__

def remaster(**options):
    return fermata.enqueue("sonic.remaster", uuid.uuid4(), mv="chirp-v5", **options)

fermata = Fermata(url, result_backend=url)

job = remaster(tenant="acme", priority="batch")
assert job.wait(30)["clips"][0]["audio_url"]
assert [update.event for update in job.updates(timeout=5)] == ["settled"]
assert remaster(idempotency_key=url).id == remaster(idempotency_key=url).id

pack = fermata.enqueue_flow("sonic.remaster", uuid.uuid4(), mv="chirp-v5", then=["sonic.wav"])
assert [made["operation"] for made in pack.wait(30)] == ["sonic.wav"]

song = fermata.s("sonic.remaster", uuid.uuid4(), mv="chirp-v5") | fermata.s("sonic.wav")
assert song.apply_async().get(timeout=30)["operation"] == "sonic.wav"

parked = remaster(job_id=uuid.UUID(held))
try:
    parked.wait(1)
except StillRunning:
    assert parked.cancel() is True
try:
    parked.wait(30)
except JobFailed as error:
    assert error.type == "JobCancelled", error

with redis.Redis.from_url(url) as other:
    other.client_kill_filter(_type="normal", skipme=True)
assert job.status().state == "succeeded"
fermata.close()

# A Redis that breaks off at the first question is asked again.
door = socket.create_server(("127.0.0.1", 0))

def talk():
    for breaks in (True, False):
        connection, _ = door.accept()
        while said := connection.recv(65536):
            if b"HMGET" not in said:
                connection.sendall(b"+PONG\\r\\n" * said.count(b"*"))
            elif breaks:
                break
            else:
                connection.sendall(b"*5\\r\\n" + b"$-1\\r\\n" * 5)
        connection.close()

threading.Thread(target=talk, daemon=True).start()
fermata = Fermata(f"redis://127.0.0.1:{door.getsockname()[1]}/0?protocol=2")
assert fermata.job("unheard-of").status().state == "unknown"
fermata.close()
door.close()
"""


@pytest.mark.parametrize("system", ["Redis"], indirect=True, scope="session")
@pytest.mark.parametrize("versions", VERSIONS)
def test_the_client_enqueues_follows_and_cancels(
    flow: Flow, versions: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    python = interpreter(Path(request.config.cache.mkdir("clients")), versions)
    (tmp_path / "fermata_client").symlink_to(ROOT / "fermata_client")  # and nothing else of ours
    job_id = clip()
    flow.system.simulator.rule(job_id, **HELD)
    _, celery, _, redis = versions.split("-")
    done = subprocess.run(
        [python, "-c", BACKEND, celery, redis, flow.system.redis_url, job_id],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    flow.jobs.append(job_id)
    flow.ends()
    assert flow.state(job_id) == "cancelled"


def interpreter(cache: Path, versions: str) -> str:
    """Find the interpreter of a virtual environment with these versions, or make it once.

    It is made beside its place, and moved there whole: several test runs may share the cache.
    """
    folder = cache / f"python{sys.version_info.major}.{sys.version_info.minor}-{versions}"
    if not (folder / "bin/python").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a Python that was removed
        new = Path(tempfile.mkdtemp(dir=cache))
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(new)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(new / "bin/python")]
        options = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--no-compile"]
        fetched = subprocess.run(
            [*pip, "install", *options, "--only-binary", ":all:", *VERSIONS[versions]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if fetched.returncode:
            shutil.rmtree(new)
            missing(f"{versions} cannot be fetched: {fetched.stderr[-200:]}")
        try:
            new.rename(folder)
        except OSError:
            shutil.rmtree(new)  # another run was first
    return str(folder / "bin/python")
