"""An error survives the result backend and the record, and says nothing it should not."""

import json
import pickle
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import BaseBackend
from hypothesis import given
from hypothesis import strategies as st

from worker.core import errors
from worker.core.errors import FermataError, from_json

DETAILS = {"http_status": 403, "retry_after": 7.5, "refunded": False, "provider_type": "forbidden"}


def tree(root: type[FermataError] = FermataError) -> list[type[FermataError]]:
    """List every error of the tree that stands in worker.core.errors."""
    below = [each for child in root.__subclasses__() for each in tree(child)]
    return [each for each in [root, *below] if each.__module__ == errors.__name__]


@pytest.fixture(scope="module")
def backend() -> BaseBackend:
    app = Celery("errors", set_as_current=False, broker="memory://")
    return BaseBackend(app, serializer="json")


@pytest.mark.parametrize("details", [None, {}, DETAILS, {"fields": {"mv": ["Wrong."]}}], ids=str)
@pytest.mark.parametrize("error", tree(), ids=lambda cls: cls.__name__)
def test_an_error_survives_the_json_result_backend(
    backend: Any, error: type[FermataError], details: dict[str, Any] | None
) -> None:
    stored = json.loads(json.dumps(backend.prepare_exception(error("No.", details), "json")))
    rebuilt = backend.exception_to_python(stored)
    assert type(rebuilt) is error
    assert (str(rebuilt), rebuilt.message, rebuilt.details) == ("No.", "No.", details or {})


@pytest.mark.parametrize("details", [None, DETAILS], ids=["bare", "details"])
@pytest.mark.parametrize("error", tree(), ids=lambda cls: cls.__name__)
def test_its_arguments_are_all_it_knows(error: type[FermataError], details: Any) -> None:
    original = error("No.", details)
    for rebuilt in (error(*original.args), pickle.loads(pickle.dumps(original))):
        assert type(rebuilt) is error
        assert rebuilt.to_json() == original.to_json()


@pytest.mark.parametrize("details", [None, DETAILS], ids=["bare", "details"])
@pytest.mark.parametrize("error", tree(), ids=lambda cls: cls.__name__)
def test_an_error_survives_the_record(error: type[FermataError], details: Any) -> None:
    recorded = json.loads(json.dumps(error("No.", details).to_json()))
    rebuilt = from_json(recorded)
    assert type(rebuilt) is error
    assert rebuilt.to_json() == error("No.", details).to_json()


json_objects = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
)


@given(st.sampled_from(tree()), st.text(), json_objects)
def test_a_record_keeps_any_message_and_any_details(
    error: type[FermataError], message: str, details: dict[str, Any]
) -> None:
    rebuilt = from_json(json.loads(json.dumps(error(message, details).to_json())))
    assert (type(rebuilt), rebuilt.message, rebuilt.details) == (error, message, details)


def test_an_error_of_an_unknown_type_is_still_an_error() -> None:
    rebuilt = from_json({"type": "FromALaterVersion", "message": "No."})
    assert type(rebuilt) is FermataError
    assert rebuilt.message == "No."


def test_the_details_of_an_error_are_its_own() -> None:
    details = {"retry_after": 1.0}
    error = errors.RateLimited("No.", details)
    details["retry_after"] = 2.0
    assert error.retry_after == 1.0
    assert error.args[1] == {"retry_after": 1.0}


def test_a_provider_error_knows_what_it_was_told() -> None:
    error = errors.TaskFailed("No.", DETAILS)
    assert (error.http_status, error.retry_after, error.refunded) == (403, 7.5, False)
    silent = errors.TaskFailed("No.")
    assert (silent.http_status, silent.retry_after, silent.refunded) == (None, None, None)


def test_an_invalid_request_maps_fields_to_their_messages() -> None:
    assert errors.InvalidRequest("No.", {"fields": {"mv": ["Wrong."]}}).fields == {"mv": ["Wrong."]}
    assert errors.InvalidRequest("No.").fields == {}


def test_only_waiting_helps_against_two_errors() -> None:
    tells = [cls for cls in tree() if issubclass(cls, errors.ProviderError)]
    retryable = {cls for cls in tells if cls.retryable}
    assert retryable == {errors.RateLimited, errors.ProviderUnavailable}


def test_the_details_stay_out_of_the_text() -> None:
    assert str(errors.RequestRefused("No.", {"provider_type": "forbidden"})) == "No."


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawing = (errors.__doc__ or "").split("\n\n")[1]
    drawn = {word for word in drawing.replace("─", " ").split() if hasattr(errors, word)}
    assert drawn == {cls.__name__ for cls in tree()}
