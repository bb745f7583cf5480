"""Adapter: the Lua scripts of worker/lua."""

from importlib import resources
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis import Redis

_PRELUDES: Final = {
    "transition": ("record", "gate", "tally"),
    "claim": ("record", "gate", "ready"),
    "admit": ("record", "gate"),
    "release": ("record", "gate"),
    "open": ("gate",),
    "lease": ("record", "ready"),
    "renew": ("ready",),
    "late": ("record",),
    "due": ("tally", "ready"),
}


def load_script(redis: "Redis", name: str) -> Any:
    """Load a script of worker/lua, with what is common to some of them before it."""
    lua = resources.files("worker") / "lua"
    parts = (*_PRELUDES.get(name, ()), name)
    sources = ((lua / f"{part}.lua").read_text("utf-8") for part in parts)
    return redis.register_script("".join(sources))
