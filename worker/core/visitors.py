"""Who may enter the desk, and what they may do: tokens, roles, tenants."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from worker.core.job.lanes import TENANT, TENANT_FORM

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SECRET_LENGTH: Final = 32
_SECRET_VARIETY: Final = 10
"""Different characters: a long secret may still be a single repeated word."""


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


@dataclass(frozen=True, slots=True)
class Token:
    """What a visitor shows at the door."""

    visitor: Visitor
    secret: str = field(repr=False)


def read_token(text: str) -> Token:
    """Read ``name:role:secret``, or ``name:role@tenant:secret``.

    Raises ValueError with every mistake and no part of the token: any may be the secret.
    """
    name, role, tenant, secret = _parts(text)
    if wrong := list(_mistakes(name, role, tenant, secret)):
        raise ValueError(", ".join(wrong))
    return Token(Visitor(name, Role(role), tenant), secret)


def _parts(text: str) -> tuple[str, str, str | None, str]:
    parts = text.split(":", 2)
    if len(parts) < 3:
        raise ValueError("it must be name:role:secret, or name:role@tenant:secret")
    role, at, tenant = parts[1].partition("@")
    return parts[0], role, tenant if at else None, parts[2]


def _mistakes(name: str, role: str, tenant: str | None, secret: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"its name must match {_NAME.pattern}"
    if role not in set(Role):
        yield f"its role must be one of {', '.join(Role)}"
    if tenant is not None and not TENANT.fullmatch(tenant):
        yield f"its tenant must be {TENANT_FORM}"
    if len(secret) < _SECRET_LENGTH or len(set(secret)) < _SECRET_VARIETY:
        yield f"its secret must be {_SECRET_LENGTH} random characters or more"
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        yield "its secret must be visible ASCII"


def wrong_tokens(texts: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with a list of tokens; each is named by its place, from 1."""
    names: dict[str, int] = {}
    secrets: dict[str, int] = {}
    for place, text in enumerate(texts, start=1):
        try:
            token = read_token(text)
        except ValueError as error:
            yield f"Token {place}: {error}."
            continue
        if (first := names.setdefault(token.visitor.name, place)) != place:
            yield f"Token {place}: its name is that of token {first}."
        if (first := secrets.setdefault(token.secret, place)) != place:
            yield f"Token {place}: its secret is that of token {first}."
