"""Names of archived files: whatever a provider says, they stay in their folder."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.core.archive import names
from worker.core.contract import JOB_ID

FIELDS = {
    "job_id": "job-1",
    "operation": "sonic.wav",
    "clip_id": "clip",
    "kind": "wav",
    "title": "Fermata",
    "date": "2026-11-22",
    "ext": ".wav",
}
EVERYTHING = "{date}/{operation}/{title}/{job_id}/{clip_id}-{kind}{ext}"
HOSTILE = [
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows\\x",
    "C:x",
    "a\x00b",
    "a\nb",
    "NUL",
    "con.mp3",
    "COM1",
    "lpt¹.txt",
    ".hidden",
    "...",
    " ",
    "",
    "x" * 5000,
    "é" * 400,
    "\u202egpj.mp3",
    "\ud800",
    "a/../../b",
    "..\\..\\b",
    "~root",
    "a:stream",
    "trailing. ",
    "\u2028",
]


def render(template: str, **fields: str) -> str:
    return names.render(template, FIELDS | fields)


def test_the_default_is_a_folder_for_each_job() -> None:
    assert render(names.DEFAULT_TEMPLATE) == "job-1/clip-wav.wav"
    assert render(EVERYTHING) == "2026-11-22/sonic.wav/Fermata/job-1/clip-wav.wav"


def test_a_name_keeps_what_is_harmless() -> None:
    assert render("{title}-{kind}", title="Für Elise, 2. Satz") == "Für Elise, 2. Satz-wav"
    assert render("{title}-{kind}", title="Fu\u0308r") == "Für-wav"


@given(st.text(max_size=400), st.sampled_from(["title", "clip_id", "kind", "operation"]))
@example("..", "title")
@example("\u1680", "title")
def test_no_value_leaves_the_folder(value: str, field: str) -> None:
    stays_inside(render(EVERYTHING, **{field: value}))
    stays_inside(render("{title}/{job_id}/{clip_id}", **{field: value}))


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("field", ["title", "clip_id", "kind", "operation"])
def test_no_hostile_value_leaves_the_folder(field: str, value: str) -> None:
    stays_inside(render(EVERYTHING, **{field: value}))


def stays_inside(name: str) -> None:
    root = Path("/archive")
    assert (root / name).resolve().is_relative_to(root)
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        assert not path.is_absolute()
        assert not path.drive
        assert ".." not in path.parts
    for segment in name.split("/"):
        assert 0 < len(segment.encode()) <= names.LIMIT_BYTES
        assert segment.isprintable()
        assert segment[0] not in ". "
        assert segment[-1] not in ". "
        assert segment.partition(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT¹"}


def test_a_long_name_keeps_its_suffix_and_stays_its_own() -> None:
    long = [render("{title}-{clip_id}{ext}", title="x" * 300, clip_id=each) for each in "ab"]
    assert all(name.endswith(".wav") for name in long)
    assert long[0] != long[1]
    assert render("{job_id}/{title}", title="ü" * 300).endswith(tuple("0123456789abcdef"))


def test_two_jobs_never_share_a_folder() -> None:
    ids = ["a:b", "a_b", "a~b", "a.b", "a-b", "a", "a.", "a..", "con", "a" + ":" * 127]
    spelled = [names.job_folder(each) for each in [*ids, "b" + ":" * 127]]
    assert len(set(spelled)) == len(spelled)
    for each in spelled:
        stays_inside(each)
        assert not set(each) & set(':\\/"')


@given(st.from_regex(JOB_ID, fullmatch=True))
def test_the_template_names_a_jobs_folder_as_its_manifest_does(job_id: str) -> None:
    folder = names.job_folder(job_id)
    stays_inside(folder)
    assert render("{job_id}/{clip_id}", job_id=job_id) == f"{folder}/clip"


def test_a_name_that_is_there_is_numbered() -> None:
    given_names = ["a/x.mp3", "a/X.mp3", "a/x.mp3", "a/y", "a/y", "a.b/z", "a.b/z"]
    assert list(names.unique(given_names, taken=["a/x.mp3"])) == [
        "a/x-2.mp3",
        "a/X-3.mp3",
        "a/x-4.mp3",
        "a/y",
        "a/y-2",
        "a.b/z",
        "a.b/z-2",
    ]


@pytest.mark.parametrize(
    "template", [names.DEFAULT_TEMPLATE, EVERYTHING, "{title}/{job_id}/x", "x/{job_id}/{date}.a"]
)
def test_a_good_template(template: str) -> None:
    names.check_template(template)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{job_id}/{artist}", "artist"),
        ("{job_id.__class__}", "none of"),
        ("{job_id!r}", "none of"),
        ("{job_id:>9}", "none of"),
        ("{job_id}{}", "none of"),
        ("{job_id", "expected"),
        ("{clip_id}{ext}", "job_id"),
        ("{job_id}", "alone"),
        ("{job_id}-{clip_id}{ext}", "alone"),
        ("{job_id}-{clip_id}/{kind}{ext}", "alone"),
        ("{date}/{job_id}{ext}", "alone"),
        ("{{job_id}}/{clip_id}", "alone"),
        ("../{job_id}/x", "relative"),
        ("/{job_id}/x", "relative"),
        ("a//{job_id}/x", "relative"),
        ("{job_id}/", "relative"),
        ("./{job_id}/x", "relative"),
        ("C:\\{job_id}", "unsafe"),
        ("{job_id}\n", "unsafe"),
        ("nul/{job_id}/x", "relative"),
        ("", "job_id"),
    ],
)
def test_a_bad_template_says_why(template: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        names.check_template(template)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("Take 1", "wav"), "Take 1 wav.wav"),
        (("Drums", "Drums"), "Drums.wav"),
        (("", "wav"), "wav.wav"),
        (("..", "../etc"), "_etc.wav"),
        (("a/b", "\x1b["), "a_b _[.wav"),
        (("con",), "_con.wav"),
    ],
)
def test_a_file_is_named_by_what_people_call_it(words: tuple[str, ...], name: str) -> None:
    assert names.file_name(*words, ext=".wav") == name
