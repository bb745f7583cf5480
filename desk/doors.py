"""Who may enter, and what they may do.

Every request is made by a :class:`Visitor`. A view asks ``visitor()`` what the visitor may see, and
is marked with ``requires`` if it changes something. A visitor with a tenant sees the jobs, batches
and files of that tenant alone: what belongs to another one does not exist for them (404).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, Final, TypeVar

from flask import abort, g

View = TypeVar("View", bound=Callable[..., Any])


class Role(StrEnum):
    """What a visitor may do; each role may do what the one before it may."""

    READ = "read"
    ENQUEUE = "enqueue"
    """Enqueue jobs, flows and batches, and cancel them."""
    OPERATE = "operate"
    """Change what happens to jobs, deliveries and the gate."""


_RANK: Final = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who makes a request."""

    name: str
    role: Role
    tenant: str | None = None
    """The one tenant whose jobs they see; None: all."""

    def may(self, role: Role) -> bool:
        """Say whether the visitor has at least this role."""
        return _RANK[self.role] >= _RANK[role]

    def sees(self, tenant: str) -> bool:
        """Say whether what belongs to a tenant exists for this visitor."""
        return self.tenant in {None, tenant}


def visitor() -> Visitor:
    """Return who makes this request. Before a view runs, the doors have let them in."""
    found: Visitor = g.visitor
    return found


def requires(role: Role) -> Callable[[View], View]:
    """Mark a view that needs a role; anybody else is answered 403."""

    def mark(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if not visitor().may(role):
                abort(403, f"This needs the role {role}; yours is {visitor().role}.")
            return view(*args, **kwargs)

        return guarded  # type: ignore[return-value]

    return mark
