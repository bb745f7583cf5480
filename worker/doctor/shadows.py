"""Finds files of a user's that would be loaded in place of Fermata's packages.

The packages have plain names. ``celery``, ``gunicorn`` and ``python -m`` first look into the folder
in which they are started: with a ``tasks.py`` there, a worker would load that file in place of
Fermata's tasks.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final

from worker.core.errors import ConfigError

NAMES: Final = ("worker", "tasks", "webhook_receiver", "desk", "simulator")
_ROOT: Final = Path(__file__).resolve().parent.parent.parent


DO: Final = "Rename it, or start Fermata in another folder."


def require_own(name: str) -> None:
    """Raise ConfigError if a package that is loaded, or would be now, is not Fermata's."""
    loaded = sys.modules.get(name)
    _refuse(_shadow(name, loaded.__spec__ if loaded else _first(name)))


def require_none() -> None:
    """Raise ConfigError if processes that start in this folder would load other packages."""
    _refuse(next(iter(in_this_folder()), None))


def in_this_folder() -> list[str]:
    """Name the files that processes that start in this folder would load in place of ours."""
    said = (_shadow(name, _first(name)) for name in NAMES)
    return [each for each in said if each]


def _refuse(said: str | None) -> None:
    if said:
        raise ConfigError(f"{said} {DO}")


def _first(name: str) -> ModuleSpec | None:
    return PathFinder.find_spec(name, [str(Path.cwd()), *sys.path])


def _shadow(name: str, found: ModuleSpec | None) -> str | None:
    if found is None:  # an editable installation's packages are not on the path
        return None
    theirs = found.origin or next(iter(found.submodule_search_locations or ()), "")
    ours = _ROOT / name
    if Path(theirs).resolve() in {ours, ours / "__init__.py"}:
        return None
    return f"{theirs} would be loaded in place of Fermata's own package, {ours}."
