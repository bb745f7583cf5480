"""Manifests: every mistake is named with its line, and what is right is read as it was meant."""

import itertools
import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batch import manifest
from worker.batch.manifest import Format, format_of
from worker.core.batch import Row, RowError, row_id

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "tests/samples/manifests"
FORMATS = list(Format)


def read(text: str | bytes, form: Format) -> list[Row | RowError]:
    return list(manifest.read([text.encode() if isinstance(text, str) else text], form=form))


def rows(text: str | bytes, form: Format) -> list[Row]:
    found = read(text, form)
    assert not [each for each in found if isinstance(each, RowError)]
    return [each for each in found if isinstance(each, Row)]


def errors(text: str | bytes, form: Format) -> list[tuple[int, str | None, str]]:
    found = read(text, form)
    return [(e.line, e.column, e.reason) for e in found if isinstance(e, RowError)]


def given_to(row: Row) -> dict[str, Any]:
    return dict(row.plan.parameters)


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_mistake_is_named_with_its_line_its_column_and_the_reason(form: Format) -> None:
    found = errors((SAMPLES / f"mistakes.{form}").read_bytes(), form)
    wanted = json.loads((SAMPLES / f"mistakes.{form}.json").read_text())
    assert [list(each[:2]) for each in found] == [each[:2] for each in wanted]
    for (_, _, reason), (line, column, start) in zip(found, wanted, strict=True):
        assert reason.startswith(start), (line, column)


def test_one_sample_holds_fifty_kinds_of_mistakes() -> None:
    wanted = json.loads((SAMPLES / "mistakes.jsonl.json").read_text())
    assert len({reason for _, _, reason in wanted}) >= 50


def test_what_is_right_among_mistakes_is_still_a_row() -> None:
    for form in FORMATS:
        found = read((SAMPLES / f"mistakes.{form}").read_bytes(), form)
        assert [row.name for row in found if isinstance(row, Row)][:1] == ["sonic.wav"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("nothing", ["", "\n\n", "\ufeff"])
def test_an_empty_manifest_is_an_error(form: Format, nothing: str) -> None:
    assert errors(nothing, form) == [(1, None, "the manifest has no rows")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("operation;source\nsonic.wav;abc", (1, None, "the cells are separated by semicolons")),
        ('"operation";"source"\n"a";"b"', (1, None, "the cells are separated by semicolons")),
        ("\ufeff\noperation;source;a,b\nc;d;e", (2, None, "the cells are separated by semicolons")),
        ("operation\tsource\nsonic.wav\tabc", (1, None, "the cells are separated by tabs")),
        ("operation|source", (1, None, "the cells are separated by bars")),
        ("sep=;\noperation;source", (1, None, "the cells are separated by semicolons")),
        ("sep=\t\noperation\tsource", (1, None, "the cells are separated by tabs")),
        ("sep=,\noperation,source", (1, None, "'sep=,' is a line for Excel: delete it")),
        ('\ufeff"SEP=,"\r\noperation', (1, None, "'sep=,' is a line for Excel: delete it")),
        ("sonic.wav,abc\nsonic.wav,abc", (1, None, "there is no header")),
        ("source\nabc", (1, None, "there is no column 'operation'")),
        ("operation,Source\nsonic.midi,", (1, "Source", "no operation takes it; did you mean 'so")),
        ('operation,"source\nsonic.wav,abc', (1, "character 11", "a quote that is never closed")),
        ("operation\nsonic.wav,abc\xff", (2, None, "2 cells")),
        ("operation", (1, None, "the manifest has no rows")),
    ],
)
def test_a_header_that_is_wrong_says_how(text: str, wanted: tuple[int, str | None, str]) -> None:
    line, column, reason = errors(text, Format.CSV)[0]
    assert (line, column) == wanted[:2]
    assert reason.startswith(wanted[2])


@pytest.mark.parametrize("form", FORMATS)
def test_utf_16_is_named_once(form: Format) -> None:
    found = errors("operation\nsonic.wav\n".encode("utf-16"), form)
    assert found == [(1, None, "the manifest is UTF-16: save it as UTF-8")]


OTHER_KINDS = {
    b"PK\x03\x04\x14\0\x06\0\x08\0!\n\xff": "a workbook, or a ZIP: save it as CSV, in UTF-8",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\n\0\n": "an old workbook: save it as CSV, in UTF-8",
    b"\x1f\x8b\x08\0\n\xff\n": "packed with gzip: unpack it first",
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("begins", OTHER_KINDS)
def test_what_is_no_text_at_all_is_named_once(form: Format, begins: bytes) -> None:
    assert errors(begins, form) == [(1, None, f"the manifest is {OTHER_KINDS[begins]}")]


RETURNS = "the lines end in carriage returns alone: save the manifest with line feeds (LF or CRLF)"


@pytest.mark.parametrize("rows_", [2, 20_000])
@pytest.mark.parametrize("form", FORMATS)
def test_lines_that_end_in_carriage_returns_alone_are_named_once(form: Format, rows_: int) -> None:
    first = {"csv": "operation,source\r", "jsonl": "", "yaml": ""}[form]
    row = {
        "csv": "sonic.wav,abc\r",
        "jsonl": '{"operation": "sonic.wav", "source": "abc"}\r',
        "yaml": "- operation: sonic.wav\r  source: abc\r",
    }[form]
    assert errors(first + row * rows_, form) == [(1, None, RETURNS)]


def test_a_carriage_return_too_many_before_a_line_feed_changes_nothing() -> None:
    (found,) = rows("operation,source\r\r\nsonic.wav,abc\r\r\n", Format.CSV)
    assert found.plan.source == "abc"


def test_a_cell_may_hold_a_carriage_return() -> None:
    text = 'operation,custom_mode,prompt\r\nsonic.create_music,true,"la\rla"\r\n'
    assert given_to(rows(text, Format.CSV)[0])["prompt"] == "la\rla"


def test_an_array_of_json_is_named_once() -> None:
    found = errors('[\n{"operation": "account.credits"}\n]', Format.JSONL)
    assert found == [(1, None, "a JSON array: write one object to a line")]


def test_a_row_nested_without_end_is_an_error() -> None:
    deep = '{"operation": "sonic.wav", "source": ' + "[" * 100_000
    assert errors(deep, Format.JSONL) == [(1, None, "nested too deeply")]
    yaml = "- operation: sonic.wav\n  source: " + "[" * 5_000
    assert errors(yaml, Format.YAML)[-1][0] == 3


@pytest.mark.parametrize("form", FORMATS)
def test_an_over_long_line_is_an_error_and_the_next_ones_are_read(form: Format) -> None:
    first = {"csv": "operation\n", "jsonl": "", "yaml": ""}[form]
    line = {"csv": "{}", "jsonl": '{{"operation": "{}"}}', "yaml": "- operation: {}"}[form]
    text = f"{first}{line.format('x' * 300_000)}\n{line.format('account.credits')}\n"
    found = read(text, form)
    assert isinstance(found[0], RowError)
    assert found[0].reason == "the line is longer than 262,144 bytes"
    # What follows a line of YAML that was not read has no certain form.
    assert len(found) == (1 if form is Format.YAML else 2)


def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_after_it() -> None:
    text = 'operation,source\nsonic.wav,"abc\n' + "sonic.wav,abc\n" * 3000
    found = read(text, Format.CSV)
    assert isinstance(found[0], RowError)
    assert (found[0].line, found[0].column) == (2, "character 11")
    assert [row.line for row in found[1:]] == list(range(3, 3003))


def test_a_line_that_is_no_text_ends_the_cell_that_it_stands_in() -> None:
    text = b'operation,source\nsonic.wav,"a\nb\xff"\nsonic.wav,abc\n'
    assert [each.line for each in read(text, Format.CSV)] == [2, 3, 4]


def test_yaml_that_ends_in_the_middle_is_an_error_at_its_line() -> None:
    found = read("- operation: account.credits\n- operation: [", Format.YAML)
    assert isinstance(found[0], Row)
    assert found[1] == RowError(3, "character 1", found[1].reason)  # type: ignore[union-attr]


def test_a_character_that_yaml_forbids_is_an_error() -> None:
    found = errors("- operation: account.credits\n- operation: \ufffe\n", Format.YAML)
    assert found[-1][2] == "a character that YAML does not allow"


@pytest.mark.parametrize("character", ["\r", "\x85", "\u2028", "\u2029"])
def test_what_only_yaml_takes_for_a_line_break_is_an_error_at_its_place(character: str) -> None:
    text = f'- operation: account.credits\n- operation: sonic.wav\n  source: "a{character}b"\n'
    ((line, column, why),) = [each for each in errors(text, Format.YAML) if each[0] == 3]
    assert (line, column) == (3, "character 13")
    # What it says to write instead is right, and the lines after it are numbered as they stand.
    escaped = re.search(r"\\u[0-9A-F]{4}", why)
    assert escaped
    text = text.replace(character, escaped[0]) + "- operation: sonic.wav\n"
    assert errors(text, Format.YAML)[0][0] == 4


def test_a_row_of_yaml_that_does_not_end_is_not_read_to_its_end() -> None:
    line, numbers = b"    " + b"la " * 30 + b"\n", itertools.count()
    scalar = (line for _ in itertools.takewhile(lambda n: n < 200_000, numbers))
    rows = [b"- operation: account.credits\n", b"- operation: sonic.wav\n  source: |\n"]
    found = list(manifest.read(itertools.chain(rows, scalar), form=Format.YAML))
    assert isinstance(found[0], Row)
    assert found[1:] == [RowError(2, None, "the row is longer than 262,144 characters")]
    assert next(numbers) < 4_000


def test_rows_of_yaml_may_each_be_as_long_as_a_row_may_be() -> None:
    words = "".join(f"    {'la ' * 30}\n" for _ in range(2_700))
    text = f"- operation: sonic.create_music\n  custom_mode: true\n  prompt: |\n{words}" * 3
    assert {each[1] for each in errors(text, Format.YAML)} == {"prompt"}


def test_a_row_of_yaml_that_is_cut_off_is_no_row() -> None:
    whole = "- operation: sonic.wav\n  source: abc\n  key: |\n    one\n"
    assert isinstance(read(whole, Format.YAML)[0], Row)
    assert [each.line for each in read(f"{whole}    \x01\n", Format.YAML)] == [5]


def test_a_row_of_yaml_has_an_end() -> None:
    many = "\n".join(f"  n{number}: 1" for number in range(5_000))
    found = errors(f"- operation: account.credits\n{many}\n", Format.YAML)
    assert [each[0] for each in found if "more than 1,000 values" in each[2]] == [1000]
    several = f"- operation: sonic.download\n  source: abc\n  formats: [{'mp3, ' * 5000}]"
    assert "more than 1,000 values" in errors(several, Format.YAML)[0][2]


def test_no_error_repeats_more_of_a_value_than_forty_characters() -> None:
    secret = "hold this note for me, until the conductor says so"
    for name in ("operation", "then", "priority", "tenant", "key", "source", "mv", secret):
        row = {"operation": "sonic.remaster", "source": "abc", name: secret * 9}
        found = errors(json.dumps(row), Format.JSONL)
        assert found or name == "source"
        assert not [each for each in found if secret in f"{each[1]} {each[2]}"]


# -- what is right ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_the_examples_are_the_same_rows_in_every_format(form: Format) -> None:
    def described(name: str, form: Format) -> list[Any]:
        found = rows((ROOT / "examples" / name).read_bytes(), form)
        return [
            (r.key, r.plan, r.plan.parameters, r.plan.then, r.priority, r.tenant) for r in found
        ]

    wanted = described("songs.jsonl", Format.JSONL)
    assert described(f"songs.{form}", form) == wanted
    assert [each[0] for each in wanted] == ["waltz", "hymn", "remaster", "files"]


def test_the_same_row_has_the_same_ids_in_every_format() -> None:
    texts = {
        Format.CSV: "continue_at,operation,source,custom_mode\n5,sonic.extend,abc,TRUE\n",
        Format.JSONL: '{"operation": "sonic.extend", "continue_at": 5.0, "mv": null,'
        ' "custom_mode": true, "source": "abc"}',
        Format.YAML: "operation: sonic.extend\nsource: abc\ncontinue_at: 5\ncustom_mode: true",
    }
    found = {row_id("b", rows(text, form)[0]) for form, text in texts.items()}
    assert len(found) == 1


def test_a_cell_may_hold_commas_quotes_and_lines() -> None:
    lyrics = 'She said "hold", then\nheld\n\nit'
    cell = lyrics.replace('"', '""')
    song_row = f'sonic.create_music,true,"{cell}"'
    song, credits_ = rows(
        f"operation,custom_mode,prompt\r\n{song_row}\r\naccount.credits,,\n", Format.CSV
    )
    assert given_to(song)["prompt"] == lyrics
    assert (song.line, credits_.line) == (2, 6)


def test_blank_lines_and_empty_rows_of_a_spreadsheet_are_passed_over() -> None:
    found = rows("\ufeffoperation,source\n\n,\naccount.credits,\n , \n", Format.CSV)
    assert [row.line for row in found] == [4]


def test_lines_may_come_in_pieces() -> None:
    text = (ROOT / "examples/songs.csv").read_bytes()
    pieces = (text[at : at + 1] for at in range(len(text)))
    assert list(manifest.read(pieces, form=Format.CSV)) == rows(text, Format.CSV)


def test_yaml_may_be_a_stream_of_documents() -> None:
    text = "# songs\noperation: account.credits\n---\n---\n- operation: account.credits\n...\n"
    assert [row.line for row in rows(text, Format.YAML)] == [2, 5]


AS_WRITTEN = [
    "007", "7", "+7", "-0", "1.10", "1e3", ".5", "1e400", ".nan", "-.inf", "0x1F", "0o17", "1_000",
    "12345678901234567890", "true", "False", "yes", "no", "on", "off", "y", "2026-11-28", "12:30",
    "=", "5 5",
]  # fmt: skip


@pytest.mark.parametrize("word", AS_WRITTEN)
def test_a_word_of_yaml_is_the_same_text_as_in_a_cell(word: str) -> None:
    for quoted in (word, f'"{word}"', f"'{word}'"):
        text = f"- operation: sonic.upsample_tags\n  key: {quoted}\n  tags: {quoted}\n"
        (found,) = rows(text, Format.YAML)
        (cell,) = rows(f"operation,key,tags\nsonic.upsample_tags,{word},{word}", Format.CSV)
        assert (found.key, given_to(found)) == (word, {"tags": word})
        assert (found.identity, found.plan.parameters) == (cell.identity, cell.plan.parameters)


def test_every_text_of_a_row_of_yaml_is_as_it_was_written() -> None:
    text = "- {operation: sonic.download, source: 007, tenant: 0x1F, formats: [mp3, 1.0]}\n"
    text += "- operation: sonic.mashup\n  source: [007, 1e3]\n  custom_mode: true\n"
    text += "  prompt: 12:30\n  title: |\n    1999\n"
    found = read(text, Format.YAML)
    assert isinstance(found[0], RowError)
    assert found[0].reason.startswith("Must be one of")  # 1.0 is no format, but is a text
    assert isinstance(found[1], Row)
    assert found[1].plan.source == ["007", "1e3"]
    assert given_to(found[1]) == {"custom_mode": True, "prompt": "12:30", "title": "1999\n"}


@pytest.mark.parametrize("word", ["", "~", "null", "Null", "NULL"])
def test_a_null_of_yaml_is_a_value_that_is_not_given(word: str) -> None:
    text = f"- operation: account.credits\n  key: {word}\n  tags: {word}\n  bpm: {word}\n"
    (found,) = rows(text, Format.YAML)
    assert (found.key, given_to(found)) == (None, {})


def test_a_source_that_is_an_object_is_read_as_json_is() -> None:
    clip = '{clip_id: "007", state: succeeded, duration: 5, mine: [true, 1.10, no]}'
    text = f"- operation: sonic.wav\n  source: {clip}\n"
    json_clip = clip.replace("no]", '"no"]').replace("succeeded", '"succeeded"')
    json_clip = re.sub(r"(\w+):", r'"\1":', json_clip)
    (found,) = rows(text, Format.YAML)
    (wanted,) = rows(f'{{"operation": "sonic.wav", "source": {json_clip}}}', Format.JSONL)
    assert (found.plan.source, found.identity) == (wanted.plan.source, wanted.identity)


@pytest.mark.parametrize(("word", "value"), [("true", True), ("FALSE", False)])
def test_a_flag_of_yaml_is_a_flag(word: str, value: bool) -> None:
    text = f"operation: sonic.extend\nsource: a\ncontinue_at: 5\ncustom_mode: {word}"
    assert given_to(rows(text, Format.YAML)[0])["custom_mode"] is value


@pytest.mark.parametrize("word", ["yes", "on", '"true"'])
def test_a_flag_of_yaml_that_is_spelt_otherwise_is_refused(word: str) -> None:
    text = f"operation: sonic.extend\nsource: a\ncontinue_at: 5\ncustom_mode: {word}"
    assert errors(text, Format.YAML) == [(4, "custom_mode", "Must be true or false")]


@pytest.mark.parametrize("number", ["1.10", "1e3", "7.0"])
def test_a_key_of_json_with_a_point_says_to_put_it_in_quotes(number: str) -> None:
    row = f'{{"operation": "account.credits", "key": {number}}}'
    assert errors(row, Format.JSONL) == [
        (1, "key", "must be text or a whole number: write it in quotes, as it stands")
    ]


@pytest.mark.parametrize(
    ("word", "value"), [("5", 5), ("5.5", 5.5), (".5", 0.5), ("1e1", 10.0), ("+7", 7)]
)
def test_a_plain_number_of_yaml_is_a_number(word: str, value: float) -> None:
    text = f"operation: sonic.extend\nsource: a\ncustom_mode: true\ncontinue_at: {word}"
    assert given_to(rows(text, Format.YAML)[0])["continue_at"] == value


def test_the_format_is_told_by_the_suffix() -> None:
    assert format_of("a/songs.CSV") is Format.CSV
    assert format_of("songs.ndjson") is Format.JSONL
    assert format_of("songs.yml") is Format.YAML
    assert format_of("-") is None


# -- whatever it is ---------------------------------------------------------------------------

_WORDS = st.sampled_from([
    "operation", "source", "then", "key", "formats", "continue_at", "sonic.wav", "sonic.extend",
    "flows.master_pack", "account.credits", "true", "5", ".nan", "NaN", "\\ud800", "null", "é",
    ",", ",,", '"', "\n", "\n- ", ": ", "{", "}", "[", "]", '{"operation": "', '"}', "- ", "  ",
    "&a", "*a", "!!str", "? ", "---\n", "|\n", "<<", "#", "\r", "\t", "\0", "\x85", "\u2028", "%",
])  # fmt: skip
_BYTES = st.one_of(
    st.binary(max_size=200),
    st.lists(_WORDS, max_size=40).map(lambda words: "".join(words).encode()),
    st.lists(st.one_of(_WORDS.map(str.encode), st.binary(max_size=3)), max_size=30).map(b"".join),
)


@pytest.mark.parametrize("form", FORMATS)
@given(text=_BYTES, header=st.booleans())
def test_no_bytes_make_a_manifest_raise(form: Format, text: bytes, header: bool) -> None:
    if header and form is Format.CSV:
        text = b"operation,source,then,key,formats,continue_at\n" + text
    found = read(text, form)
    assert found
    assert all(isinstance(each, Row | RowError) for each in found)
    last = text.count(b"\n") + 1
    assert all(1 <= each.line <= last for each in found if form is not Format.YAML)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=9,
)
_NAMES = st.sampled_from(
    ["operation", "source", "then", "key", "priority", "tenant", "mv", "prompt", "continue_at"]
)
_OPERATIONS = st.sampled_from(["sonic.extend", "sonic.mashup", "flows.song_from_idea"])


@given(row=st.dictionaries(_NAMES, _JSON), operation=_OPERATIONS | _JSON)
def test_no_values_make_a_row_raise(row: dict[str, Any], operation: Any) -> None:
    found = read(json.dumps({**row, "operation": operation}), Format.JSONL)
    assert all(isinstance(each, Row | RowError) for each in found)


# -- memory -----------------------------------------------------------------------------------


def _chunks(count: int, form: Format) -> Iterator[bytes]:
    line = {
        Format.CSV: "sonic.wav,clip-{}\n",
        Format.JSONL: '{{"operation": "sonic.wav", "source": "clip-{}"}}\n',
        Format.YAML: "- operation: sonic.wav\n  source: clip-{}\n",
    }[form]
    if form is Format.CSV:
        yield b"operation,source\n"
    yield from (line.format(number).encode() for number in range(count))


def _peak(count: int, form: Format) -> int:
    tracemalloc.start()
    try:
        assert sum(1 for _ in manifest.read(_chunks(count, form), form=form)) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", FORMATS)
def test_a_row_that_was_read_leaves_its_digest_and_nothing_else(form: Format) -> None:
    _peak(10, form)
    few, many = 200, 2_000
    assert (_peak(many, form) - _peak(few, form)) / (many - few) < 250
