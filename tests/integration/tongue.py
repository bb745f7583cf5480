"""What tests say in the provider's name: where its webhooks go, how they are signed and worded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.core.providers.aimusic.signing import SCHEME
from worker.core.signing import Scheme


@dataclass(frozen=True, slots=True)
class Tongue:
    """A provider's way to call back."""

    name: str
    scheme: Scheme
    word: Callable[[Any], Any]
    """Says in the provider's words what a test has in those of the AI music service."""

    @property
    def door(self) -> str:
        """The path of its webhooks; the job id follows."""
        return f"/webhooks/{self.name}/"


current = Tongue("aimusic", SCHEME, lambda content: content)
"""The one that is spoken; ``test_toy`` puts another in its place."""
