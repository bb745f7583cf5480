"""The tokens that open the desk. Memory holds their digests, and not the secrets."""

import hashlib
import hmac
from collections.abc import Iterable

from worker.core.visitors import Token, Visitor


class Tokens:
    """Finds the visitor who shows a token."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._known = [(_digest(token.secret), token.visitor) for token in tokens]

    def visitor_of(self, secret: str) -> Visitor | None:
        """Return whose secret this is; None if it is nobody's."""
        given, found = _digest(secret), None
        for digest, visitor in self._known:
            # No early end: the time that this takes must not say which token was nearly right.
            if hmac.compare_digest(digest, given):
                found = visitor
        return found

    def named(self, name: str | None) -> Visitor | None:
        """Return the visitor of a token by its name; None if there is no such token any more."""
        return next((visitor for _, visitor in self._known if visitor.name == name), None)

    def session_key(self) -> bytes:
        """Derive the key that signs sessions.

        If a token is added, changed or removed, the key is another one, and every session ends.
        """
        return hashlib.sha256(
            b"fermata desk sessions" + b"".join(d for d, _ in self._known)
        ).digest()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
