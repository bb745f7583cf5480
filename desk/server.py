"""The desk's gunicorn worker: ``gunicorn --worker-class desk.server.Worker --threads 128``.

Whoever enters the desk can spend credits. So without FERMATA_DESK_TOKENS it is open on this machine
alone, with a token that is made at start and printed as a link. On any other address, gunicorn's
master refuses to start. Each live page keeps a thread of its own, so one worker with many threads
serves the desk.
"""

import secrets
import sys
from typing import Any, ClassVar

from desk import parts
from worker import log
from worker.core.errors import ConfigError
from worker.core.visitors import Role as VisitorRole
from worker.core.visitors import Token, Visitor
from worker.settings import Role, is_loopback, load
from worker.wiring.limited_worker import LimitedWorker


class Worker(LimitedWorker):
    """gunicorn's threaded worker, which knows on which addresses the desk may be open."""

    request_seconds: ClassVar[float] = 30
    """A long manifest needs more than a webhook."""
    has_tokens: ClassVar[bool] = False
    this_run: ClassVar[Token | None] = None
    """The token of this run, if the settings have none: the master makes it before it forks."""
    link: ClassVar[str] = ""
    """Where a person enters with it."""

    @classmethod
    def setup(cls) -> None:
        """Refuse wrong settings, and make the server log as we do.

        Gunicorn calls this in the master, before it opens a port or logs anything.
        """
        try:
            cls.has_tokens = bool(load(Role.DESK).desk_tokens)
        except ConfigError as error:
            log.refuse(error.message)
            sys.exit(3)
        log.take_over_gunicorn()

    def __init__(self, age: int, ppid: int, sockets: list[Any], *others: Any) -> None:
        super().__init__(age, ppid, sockets, *others)
        # In the master, before it forks: every worker takes the token of this run.
        if not (self.has_tokens or self.this_run):
            self._open_to_this_machine([_url(each.getsockname()) for each in sockets])

    @classmethod
    def _open_to_this_machine(cls, urls: list[str]) -> None:
        """Make the token of this run; refuse to start if others can reach one of the addresses."""
        if not all(map(is_loopback, urls)):
            log.refuse(
                "without FERMATA_DESK_TOKENS the desk opens on this machine alone: set them, or "
                "bind it to 127.0.0.1"
            )
            sys.exit(3)
        visitor = Visitor("this-machine", VisitorRole.OPERATE)
        cls.this_run = Token(visitor, secrets.token_urlsafe(32))
        cls.link = f"{urls[0]}/login?token={cls.this_run.secret}"

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """End the live pages, which would otherwise keep their threads for ever."""
        parts.STOPPING.set()
        super().handle_exit(sig, frame)

    def is_parent_alive(self) -> bool:
        """Say whether the master lives; if it was killed, this process ends, and its live pages."""
        lives = bool(super().is_parent_alive())
        if not lives:
            parts.STOPPING.set()
        return lives


def _url(address: tuple[Any, ...] | str) -> str:
    """Write the address of a socket as a URL; '' if it is a socket of another kind."""
    if not isinstance(address, tuple):
        return ""
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
