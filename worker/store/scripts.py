"""The Lua scripts in ``lua/``: one dialect, one loader.

Redis knows a script's keys and arguments by position alone, and a position that slips writes to a
wrong field in silence. So our scripts have names instead. A script declares itself in the lines
that begin with ``--!``: what it ``uses`` of ``lua/common``, its ``keys`` and its ``args``. The
loader binds each name to a local: a key in capitals, an argument as a string. A call gives them by
name too, and if a name is missing or misspelt, it raises a TypeError before Redis hears of it. The
last argument may end with ``...``: it is a list.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError

from worker.core.job.states import TERMINAL

if TYPE_CHECKING:
    from redis import Redis

_LUA: Final = resources.files("worker.store") / "lua"
_MORE: Final = "..."
_ENDS: Final = "ends"
"""A script that uses this gets the table ``ENDS``: the states in which a job has ended."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a script declares: the parts it uses, its keys and its arguments."""

    uses: tuple[str, ...]
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str | None
    """The name of the list that follows the arguments."""

    @property
    def bindings(self) -> str:
        """Lua that gives each key and argument its name."""
        return "".join(
            (
                *(f"local {name} = KEYS[{n}]\n" for n, name in enumerate(self.keys, 1)),
                *(f"local {name} = ARGV[{n}]\n" for n, name in enumerate(self.args, 1)),
                _list(self.rest, after=len(self.args)) if self.rest else "",
            )
        )


class Script:
    """A script that Redis runs in one step; called with all of its keys and arguments by name."""

    def __init__(self, redis: "Redis", name: str) -> None:
        self._redis: Any = redis
        self._name = name
        declared = declaration(name)
        self._keys = len(declared.keys)
        self._order = (*map(str.lower, declared.keys), *declared.args)
        self._rest = declared.rest
        self._names = {*self._order, *({declared.rest} if declared.rest else ())}
        self._sha = hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()

    def __call__(self, **given: Any) -> Any:
        """Run it; a key is named in lower case here.

        Raises TypeError if a name is missing or misspelt; StoreUnavailable.
        """
        command = self._command(given)
        try:
            return self._redis.execute_command(*command)
        except NoScriptError:
            self._load()
            return self._redis.execute_command(*command)

    def many(self, calls: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Run it once for each of many calls, in one round trip.

        Returns what each returned, or the error by which the server refused it.

        Raises as a single call does; StoreUnavailable if the server cannot be reached.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            for given in calls:
                pipe.execute_command(*self._command(given))
            replies: list[Any] = pipe.execute(raise_on_error=False)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            self._load()
            return self.many(calls)
        return replies

    def _command(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        if given.keys() != self._names:
            wrong = ", ".join(sorted(given.keys() ^ self._names))
            raise TypeError(f"{self._name}.lua: missing or unknown: {wrong}")
        values = map(given.__getitem__, self._order)
        rest: Iterable[Any] = given[self._rest] if self._rest else ()
        return ("EVALSHA", self._sha, self._keys, *values, *rest)

    def _load(self) -> None:
        """Tell the script to a server that was restarted, or has taken over."""
        self._redis.script_load(source(self._name))


@cache
def declaration(name: str) -> Declaration:
    """Read what a script declares."""
    said: dict[str, list[str]] = {"uses": [], "keys": [], "args": []}
    for line in _read(name).splitlines():
        if line.startswith("--! "):
            kind, *names = line.removeprefix("--! ").split()
            said[kind] += names
    args = said["args"]
    rest = args.pop().removesuffix(_MORE) if args and args[-1].endswith(_MORE) else None
    keys = [key for key in said["keys"] if key != _MORE]
    return Declaration(tuple(said["uses"]), tuple(keys), tuple(args), rest)


@cache
def source(name: str) -> str:
    """Return a script as Redis gets it: its bindings, what it uses, and its own lines."""
    declared = declaration(name)
    used = (_ends() if part == _ENDS else _read(f"common/{part}") for part in declared.uses)
    return "".join((declared.bindings, *used, _read(name)))


def _read(name: str) -> str:
    return (_LUA / f"{name}.lua").read_text("utf-8")


def _list(name: str, *, after: int) -> str:
    # Copy the values in a loop: Lua's unpack fails at some 8,000 of them.
    return f"local {name} = {{}}\nfor n = {after + 1}, #ARGV do {name}[n - {after}] = ARGV[n] end\n"


def _ends() -> str:
    return f"local ENDS = {{{', '.join(f'{state} = true' for state in sorted(TERMINAL))}}}\n"
