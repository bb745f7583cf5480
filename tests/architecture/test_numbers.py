"""The numbers of the house stay what they are, or become better."""

import pytest

from tests.architecture.numbers import NUMBERS, Number


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.what)
def test_a_number_of_the_house_holds(number: Number) -> None:
    counted = number.count()
    assert number.holds(counted), f"{number.what}: {counted}, not {number.limit}"
