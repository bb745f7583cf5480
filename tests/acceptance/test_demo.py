"""``make demo``: the main job, as a newcomer sees it first."""

import json
import signal
import subprocess
import sys
import wave
from array import array
from pathlib import Path

import mido
import psutil
import pytest

from tests.system import wait_until
from worker.cli.dev.crew import END_SECONDS

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}


def _run_demo(folder: Path) -> Path:
    command = [sys.executable, "-m", "worker", "demo", "--output", str(folder / "demo-output")]
    ran = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=110,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Every job succeeded" in ran.stdout
    assert ran.stderr == ""
    return folder / "demo-output"


def _samples(path: Path) -> "array[int]":
    with wave.open(str(path)) as audio:
        return array("h", audio.readframes(audio.getnframes()))


def test_the_demo_saves_stems_wav_and_midi_twice_in_a_row(tmp_path: Path) -> None:
    """The second time beside settings of a real system, whose jobs are paid for."""
    real = [f"FERMATA_{name}=redis://127.0.0.1:1/0" for name in ("BROKER_URL", "RESULT_BACKEND")]
    for settings in ("", "\n".join(real)):
        (tmp_path / ".env").write_text(settings)
        output = _run_demo(tmp_path)
        summary = json.loads((output / "summary.json").read_text())
        assert summary["succeeded"] is True
        assert {job["state"] for job in summary["jobs"]} == {"succeeded"}
        assert all((output / name).is_file() for name in summary["files"])

        stems = sorted((output / "stems_full").glob("*.wav"))
        assert len(stems) == 12
        mix = _samples(output / "wav.wav")
        assert array("h", map(sum, zip(*map(_samples, stems), strict=True))) == mix

        notes = [m for m in mido.MidiFile(output / "midi.mid") if m.type == "note_on"]
        assert len(notes) > 20
    assert _leftovers(output) == []


def _leftovers(output: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(output) in " ".join(process.environ().values()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_demo_that_ends_early_leaves_nothing_running(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    output = tmp_path / "demo-output"
    command = [sys.executable, "-m", "worker", "demo", "--output", str(output)]
    demo = subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    up = output / "system" / "dev.env"
    wait_until(up.is_file, seconds=45, what="the system is coming up")
    demo.send_signal(number)
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == code, said
    wait_until(lambda: _leftovers(output) == [], seconds=END_SECONDS, what="nothing runs")


def test_the_demo_leaves_a_folder_alone_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "worker", "demo", "--output", str(tmp_path)]
    ran = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "not a demo's" in ran.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    output = tmp_path / "demo-output"
    command = [sys.executable, "-m", "worker", "demo", "--output", str(output)]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE) as first:
        wait_until((output / "system").is_dir, seconds=45, what="the first one begins")
        second = subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        first.terminate()
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert f"another demo runs in {output}" in second.stderr
