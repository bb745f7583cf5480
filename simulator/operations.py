"""A row of the table: all that the simulator knows about one operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .fields import Body, Field, Rule, is_old
from .replies import JSON
from .settings import Settings


class Result(StrEnum):
    """The kind of `data` that a finished task shows."""

    SONGS = "songs"  # or stems
    VOICE = "voice"
    UPLOAD = "upload"
    LYRICS = "lyrics"
    VIDEO = "video"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. It starts a task, unless it is `sync`; `when` tells rows of one path apart."""

    path: str
    name: str
    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    price: float = 1
    old_price: float | None = None  # in custom mode with the models before v4-5
    when: Mapping[str, object] = field(default_factory=dict)
    clips: int = 0
    stems: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()  # the fields that name clips
    result: Result = Result.SONGS
    webhook: bool = False
    sync: bool = False
    fresh: bool = False  # its clips are from the last 24 h
    sung: bool = False  # its clip has lyrics, or is not found
    may_wait: bool = False  # can answer 202 first
    free_again: bool = False  # costs once for each clip
    section: str = ""  # what `auto_concat` pairs with the joined song (§3.5)
    step: str = ""  # what follows the upload inside the submit (part 2 §3.2)
    lyrics_is_prompt: bool = False
    missing: str = ""  # the provider's words for a required field that is not there
    retired: bool = False

    @property
    def family(self) -> str:
        return self.path.split("/")[1]

    def answers_at_once(self, body: Body) -> bool:
        return self.sync and not body.get("callback_url")

    def pairs(self, body: Body) -> bool:
        return bool(self.section and body.get("auto_concat"))

    def uploads(self, body: Body) -> bool:
        """Say whether a file is fetched while the submit waits (§3.2)."""
        return bool("url" in self.fields and body.get("url"))

    def price_of(self, body: Body) -> float:
        old = is_old(body) and body.get("custom_mode") is not False
        return self.old_price if old and self.old_price is not None else self.price

    def show(self, settings: Settings) -> JSON:
        """Describe the row, for tests that compare it with their own."""
        return {
            "path": self.path,
            "name": self.name,
            "task_type": self.when.get("task_type"),
            "fields": list(self.fields),
            "required": list(self.required),
            "webhook": self.webhook,
            "sync": self.sync,
            "price": self.price,
            "old_price": self.price if self.old_price is None else self.old_price,
            "retired": self.retired or settings.retires(self.path),
        }
