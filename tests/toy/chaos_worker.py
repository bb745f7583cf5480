"""The workers of a chaos run, on the toy provider."""

from tests.toy.provider import Toy
from worker.core import providers

providers.choose(Toy())

from tests.chaos.app import app  # noqa: E402  (it asks which provider was chosen)

__all__ = ["app"]
