"""The ports by which the engine reaches the world around it."""

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns the time now, in Unix seconds."""
