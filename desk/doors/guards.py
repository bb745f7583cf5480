"""What a view asks of the doors: who the visitor is, and whether they may do this."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import abort, g

from worker.core.visitors import Role, Visitor

View = TypeVar("View", bound=Callable[..., Any])


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


def system_wide(view: View) -> View:
    """Mark a view about all tenants together; a visitor with one tenant is answered 403."""

    @wraps(view)
    def of_all_tenants(*args: Any, **kwargs: Any) -> Any:
        if visitor().tenant is not None:
            abort(403, f"This is about all tenants; your token is for {visitor().tenant} alone.")
        return view(*args, **kwargs)

    return of_all_tenants  # type: ignore[return-value]
