"""What a pause is about: everything, a tenant, or an operation."""

from typing import Any

import pytest

from worker.core.errors import InvalidRequest
from worker.core.job.lanes import EVERYTHING
from worker.core.pauses import part


def test_a_part_is_named_as_the_gate_names_it() -> None:
    assert part() == EVERYTHING
    assert part(tenant="acme") == "tenant:acme"
    assert part(operation="sonic.wav") == "operation:sonic.wav"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"tenant": "acme", "operation": "sonic.wav"}, "not both"),
        ({"tenant": "a:b"}, "a tenant must be 1 to 64 letters"),
        ({"tenant": ""}, "a tenant must be 1 to 64 letters"),
        ({"operation": "sonic.wave"}, "there is no operation 'sonic.wave'"),
        ({"operation": ""}, "there is no operation"),
    ],
)
def test_what_there_cannot_be_is_no_part_and_not_everything(given: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        part(**given)
