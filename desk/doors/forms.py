"""The CSRF token of forms: what a session must send with everything that it changes.

A browser sends the session's cookie with each request, also with those that a strange page makes it
send. Such a page cannot read the token. Requests with a token in ``Authorization`` need none: no
browser adds that header by itself.
"""

import hmac
import secrets
from typing import Final

from flask import abort, request, session

FIELD: Final = "csrf_token"
HEADER: Final = "X-CSRF-Token"
_KEPT: Final = "csrf"


def csrf_token() -> str:
    """Return the CSRF token of this session: a form's field, or the header ``X-CSRF-Token``."""
    token: str = session.setdefault(_KEPT, secrets.token_urlsafe(32))
    return token


def check_csrf() -> None:
    """Answer 403 unless the request has the session's CSRF token."""
    given = request.headers.get(HEADER) or request.form.get(FIELD, "")
    kept = session.get(_KEPT, "")
    if not kept or not hmac.compare_digest(kept.encode(), given.encode(errors="replace")):
        abort(403, "The form has expired, or another page has sent it: load its page again.")
