"""The checks of every request, before its view runs."""

from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import quote, urlsplit

from flask import abort, current_app, g, redirect, request, session
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from desk.doors.forms import check_csrf
from desk.doors.throttle import Throttle
from desk.doors.tokens import Tokens
from worker.core.visitors import Role, Visitor
from worker.settings import is_loopback

EXTENSION: Final = "doors"
NAME: Final = "name"
"""The session's field with the name of its token."""

_OPEN: Final = frozenset({"doors.login", "static", "health.healthz"})
"""Endpoints for everybody: they say nothing about any job."""
_SHOW_ONE: Final = "Show a token: `Authorization: Bearer TOKEN`."
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Doors:
    """What the doors know."""

    tokens: Tokens
    throttle: Throttle
    hosts: tuple[str, ...]
    """The names by which the desk may be reached, besides those of this machine itself."""
    takes_links: bool
    """A link may hold the token: it ends with this process, and was printed on this machine."""


def doors() -> Doors:
    """Return the doors of the application that serves this request."""
    return cast(Doors, current_app.extensions[EXTENSION])


def admit() -> ResponseReturnValue | None:
    """Let a request in, or answer it."""
    if not _is_ours(request.host):
        abort(400, "The desk does not go by this name: see FERMATA_DESK_HOSTS.")
    shown = _token()
    found = _by_session() if shown is None else doors().tokens.visitor_of(shown)
    if found is None and request.endpoint not in _OPEN:
        return _ask_to_log_in(shown)
    g.visitor = found
    if request.method in _SAFE:
        return None
    if found is None or shown is None:
        check_csrf()
    if found and found.role is Role.READ and request.blueprint != "doors":
        abort(403, "The role read changes nothing.")
    return None


def _is_ours(host: str) -> bool:
    """Say whether the desk goes by this name.

    A stranger's page can make a browser reach this machine under a name of its own, by DNS
    rebinding, and would then be of the same origin as the desk.
    """
    url = f"http://{host}"
    return is_loopback(url) or urlsplit(url).hostname in doors().hosts


def _token() -> str | None:
    """Return the token that a program shows; None if there is none, and the session counts."""
    given = request.authorization
    return given.token or "" if given and given.type == "bearer" else None


def _by_session() -> Visitor | None:
    return doors().tokens.named(session.get(NAME))


def _ask_to_log_in(shown: str | None) -> ResponseReturnValue:
    if is_for_programs(request.path) and not _is_followed_link():
        challenge = WWWAuthenticate("bearer", {"realm": "fermata desk"})
        wrong = "This is no token of the desk." if shown is not None else _SHOW_ONE
        raise Unauthorized(wrong, www_authenticate=challenge)
    return redirect(f"/login?next={quote(_wanted(), safe='/')}", 303)


def _wanted() -> str:
    """Return the path to go on to, as it stands in a URL: a file's name may have spaces in it."""
    if request.method not in _SAFE:
        return "/"
    query = request.query_string.decode("ascii", "replace")
    return quote(request.path) + (f"?{query}" if query else "")


def _is_followed_link() -> bool:
    """Say whether a person has followed a link, as to a file of a job, and sees the answer."""
    looks = request.method in _SAFE and "Authorization" not in request.headers
    # By its name: a script and a player take any type.
    return looks and "text/html" in request.accept_mimetypes.values()


def is_for_programs(path: str) -> bool:
    """Say whether programs ask for a path; they get problem documents, and no login form."""
    return path.startswith("/api/") or path == "/metrics"
