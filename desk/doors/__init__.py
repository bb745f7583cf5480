"""Who may enter, and what they may do.

Every request is made by a :class:`Visitor`, who shows a token: a program in its ``Authorization``
header, a person once in the login form. ``entrance`` checks each request before its view runs: the
name by which the desk was reached, the token, and for forms the CSRF token. A view asks
``visitor()`` what the visitor may see, and is marked with ``requires`` if it changes something. A
visitor with a tenant sees the jobs, batches and files of that tenant alone: what belongs to another
one does not exist for them (404).
"""

import time
from collections.abc import Callable
from typing import Final

from flask import Flask, request
from flask.sessions import SecureCookieSessionInterface

from desk.doors import entrance, headers, login
from desk.doors.entrance import EXTENSION, Doors, is_for_programs
from desk.doors.forms import csrf_token
from desk.doors.guards import requires, system_wide, visitor
from desk.doors.throttle import Throttle
from desk.doors.tokens import Tokens
from worker.core.visitors import Role, Token, Visitor
from worker.settings import Settings, is_loopback

__all__ = [
    "Role",
    "Visitor",
    "csrf_token",
    "install",
    "is_for_programs",
    "requires",
    "system_wide",
    "visitor",
]

_SESSION_SECONDS: Final = 7 * 86400


def install(
    app: Flask,
    settings: Settings,
    *,
    this_run: Token | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Put the doors before every view of an application.

    Args:
        this_run: the token that was made at start; it counts if the settings have none.
        clock: for the throttle of the login; returns seconds that never go back.
    """
    tokens = Tokens(settings.desk_tokens or ((this_run,) if this_run else ()))
    app.extensions[EXTENSION] = Doors(
        tokens, Throttle(clock), settings.desk_hosts, takes_links=not settings.desk_tokens
    )
    app.secret_key = tokens.session_key()
    app.session_interface = _Sessions()
    app.config.update(
        SESSION_COOKIE_NAME="fermata_desk",
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=_SESSION_SECONDS,
    )
    app.jinja_env.globals["csrf_token"] = csrf_token
    app.before_request(entrance.admit)
    headers.install(app, settings)
    app.register_blueprint(login.blueprint)


class _Sessions(SecureCookieSessionInterface):
    """Marks the cookie ``Secure``, unless the desk was reached on this machine without TLS.

    A proxy may end TLS, and the request then looks as if there had been none.
    """

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure or not is_loopback(request.host_url)
