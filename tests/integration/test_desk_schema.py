"""The API does as its own ``openapi.json`` says, whatever it is asked: Schemathesis asks.

A short run by default. ``SCHEMATHESIS_EXAMPLES=2000`` makes the long one of a release.
"""

import os
from collections import Counter
from typing import Any, Final

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks as openapi

from tests.integration import desk
from tests.integration.test_desk_routes import Things, things

EXAMPLES: Final = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "8"))
CHECKS: Final = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.negative_data_rejection,
    openapi.unsupported_method,
]
"""Not that every request that fits the schema is accepted: an operation has rules of its own, which
the schema does not know."""
CONFIG: Final = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
ENDLESS: Final = "/events$"
"""Streams: test_desk_live.py follows them."""


@pytest.fixture
def app(valkey: Any, redis: Any) -> Flask:
    # In memory: Schemathesis closes no answer, and that with a file of a folder holds it open.
    return desk.build(valkey.url, FERMATA_ARCHIVE_URL="memory://schema")


def test_every_answer_is_one_that_the_schema_describes(app: Flask) -> None:
    answered = attack_all(app, GenerationMode.POSITIVE, None)
    answered += attack_all(app, GenerationMode.POSITIVE, things(app, "acme"))
    # It has not only been turned away.
    assert all(answered[status] for status in (200, 204, 404, 409, 422)), answered


def test_what_the_schema_does_not_allow_is_refused(app: Flask) -> None:
    answered = attack_all(app, GenerationMode.NEGATIVE, None)
    assert answered[400] + answered[422] > 5 * EXAMPLES, answered


def attack_all(app: Flask, mode: GenerationMode, known: Things | None) -> Counter[int]:
    token = dict(desk.bearer("operator"))
    loaded = schemathesis.openapi.from_wsgi(
        "/api/v1/openapi.json", app, config=CONFIG, headers=token
    )
    answered: Counter[int] = Counter()
    found: Any
    for found in loaded.exclude(path_regex=ENDLESS).get_all_operations():
        operation = found.ok()
        # A request with neither query nor body cannot be wrong.
        if mode is GenerationMode.POSITIVE or operation.query or operation.body:
            answered += attack(operation, mode, token, known)
    return answered


def attack(
    operation: Any, mode: GenerationMode, token: dict[str, str], known: Things | None
) -> Counter[int]:
    """Ask for an operation again and again; returns how often each status was answered."""
    answered: Counter[int] = Counter()
    names = [parameter.name for parameter in operation.path_parameters]
    ids = {name: known.ids[name] for name in names} if known and names else None

    @given(case=operation.as_strategy(mode, path_parameters=ids))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        answered[case.call_and_validate(checks=CHECKS, headers=token).status_code] += 1

    ask()
    return answered
