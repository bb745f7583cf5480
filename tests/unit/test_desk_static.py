"""What a browser loads of the desk: vendored files, and nothing from elsewhere."""

import hashlib
import json
import re
from pathlib import Path

from desk.pages.drawing.charts import SOURCES
from worker.core.job.states import JobState

DESK = Path(__file__).parents[2] / "desk"
STATIC = DESK / "static"
VENDOR = STATIC / "vendor"
TEMPLATES = {path.name: path.read_text("utf-8") for path in (DESK / "templates").iterdir()}

_ELSEWHERE = re.compile(r"""(?:src|href|action|url\(|@import)\s*=?\s*["'(]?\s*(?:https?:)?//""")
_INLINE = re.compile(r"""<style|<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|javascript:|hx-on""")


def test_each_vendored_file_is_listed_with_version_licence_and_checksum() -> None:
    listed = json.loads((VENDOR / "vendored.json").read_text("utf-8"))
    files = {path.name for path in VENDOR.iterdir()} - {"vendored.json"}
    assert set(listed) == files
    for name, said in listed.items():
        assert said["version"]
        assert said["licence"] == "0BSD"
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == said["sha256"]


def test_no_template_loads_from_elsewhere_or_holds_script_or_style() -> None:
    for name, text in TEMPLATES.items():
        assert not _ELSEWHERE.search(text), name
        assert not _INLINE.search(text), name
        assert "|safe" not in text, name
    for name in ("desk.css", "desk.js", "song.css", "song.js"):
        assert "//" not in (STATIC / name).read_text("utf-8").replace("// ", ""), name


def test_what_a_first_visit_loads_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in STATIC.rglob("*") if path.is_file()}
    of_the_song = sum(size for name, size in sizes.items() if name.startswith("song."))
    assert sum(sizes.values()) - of_the_song < 60_000
    assert of_the_song < 20_000
    assert (STATIC / "desk.css").stat().st_size < 14_000


def test_each_state_has_a_mark_of_its_own() -> None:
    marks = dict(re.findall(r'<symbol id="m-([\w-]+)"[^>]*>(.*)</symbol>', TEMPLATES["marks.svg"]))
    wanted = {*JobState, "not-started", "not-run", "no-record"}
    assert wanted <= set(marks)
    assert len({marks[name] for name in wanted}) == len(wanted)


def test_each_source_of_an_event_has_a_colour() -> None:
    css = (STATIC / "desk.css").read_text("utf-8")
    assert all(re.search(rf"\.c-{source}\b", css) for source in SOURCES)
