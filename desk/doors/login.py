"""``/login`` and ``/logout``: a person shows a token once, and a signed cookie stands for it."""

import math
import re
from typing import Final

import structlog
from flask import Blueprint, redirect, render_template, request, session
from flask.typing import ResponseReturnValue

from desk.doors.entrance import NAME, doors

log = structlog.get_logger()
blueprint = Blueprint("doors", __name__)

_LOCAL: Final = re.compile(r"/(?![/\\])[!-~]*")
"""A path of ours. Browsers take ``//host`` and ``/\\host`` for another site's address."""


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Show the form, or take the token that it sends and go on to ``next``.

    A link with the token of this run logs in at once.
    """
    if request.method == "POST":
        return _enter(request.form.get("token", ""))
    if doors().takes_links and "token" in request.args:
        return _enter(request.args["token"])
    return _form()


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """End the session."""
    session.clear()
    return redirect("/login", 303)


def _enter(secret: str) -> ResponseReturnValue:
    found = doors().tokens.visitor_of(secret.strip())
    if found is None:
        return _refuse()
    session.clear()  # the CSRF token too: another one counts from here on
    session[NAME] = found.name
    return redirect(_wanted(), 303)


def _refuse() -> ResponseReturnValue:
    """Answer a wrong token. Whoever has a right one gets in, however many others guess."""
    address = request.remote_addr or ""
    if wait := doors().throttle.wait_seconds(address):
        said = "Too many failed logins from this address. Try again in a minute."
        return _form(said), 429, {"Retry-After": str(math.ceil(wait))}
    doors().throttle.note_failure(address)
    log.warning("login_refused", address=address)
    return _form("This is no token of the desk."), 401


def _form(wrong: str = "") -> str:
    takes_links = doors().takes_links
    return render_template("login.html", next=_wanted(), wrong=wrong, takes_links=takes_links)


def _wanted() -> str:
    """Return the path that the visitor wanted; anything but a path of ours is ``/``."""
    wanted = request.values.get("next", "/")
    return wanted if _LOCAL.fullmatch(wanted) else "/"
