"""The tables of benchmarks/README.md: each stands between two comments, where a run writes it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).with_name("README.md")


def renew(name: str, text: str, page: Path = PAGE) -> None:
    """Write a text between ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises ValueError where the page has no such place.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    if not end:
        raise ValueError(f"{page} has no place for {name}")
    page.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Return a Markdown table: its first columns are words, the others numbers."""
    kinds = ["---"] * words + ["---:"] * (len(columns) - words)
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (columns, kinds, *rows))
