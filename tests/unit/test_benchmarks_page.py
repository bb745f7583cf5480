"""A run of the benchmark writes its tables into the page, and nothing else."""

from pathlib import Path

import pytest

from benchmarks import page

PLACE = "before\n<!-- rows -->\nold\n\nolder\n<!-- end of rows -->\nafter\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    copy = tmp_path / "README.md"
    copy.write_text(PLACE)
    return copy


def test_what_stands_between_the_comments_is_replaced_and_no_more(copy: Path) -> None:
    for figures in ("new ÷\n", "newer\n"):
        page.renew("rows", figures, copy)
        expected = f"before\n<!-- rows -->\n{figures}<!-- end of rows -->\nafter\n"
        assert copy.read_text(encoding="utf-8") == expected


def test_a_page_without_the_place_is_left_as_it_is(copy: Path) -> None:
    with pytest.raises(ValueError, match="no place for batch"):
        page.renew("batch", "new\n", copy)
    assert copy.read_text() == PLACE


@pytest.mark.parametrize("name", ["figures", "batch", "rows"])
def test_the_page_of_the_benchmarks_has_a_place_for_each_table(tmp_path: Path, name: str) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    page.renew(name, "new\n", copy)
    assert f"<!-- {name} -->\nnew\n<!-- end of {name} -->\n" in copy.read_text(encoding="utf-8")


def test_a_table_has_its_words_on_the_left_and_its_numbers_on_the_right() -> None:
    table = page.table(("what", "figure"), [("rate", "20.0")])
    assert table == "| what | figure |\n| --- | ---: |\n| rate | 20.0 |\n"
