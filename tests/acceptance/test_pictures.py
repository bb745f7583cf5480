"""The pictures of the documentation are those that ``make pictures`` takes."""

import re

from tests.acceptance.pictures import FOLDER, PICTURES
from tests.system import ROOT


def test_every_picture_that_is_shown_is_taken_and_the_other_way_round() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {name for page in pages for name in re.findall(r"desk/([\w-]+)\.png", page.read_text())}
    assert shown == set(PICTURES)
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)
