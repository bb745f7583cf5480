"""The public door: a minimal Flask app that accepts the provider's webhooks."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _require_own_worker() -> None:
    """End the process if the ``worker`` that it would import is not Fermata's.

    For other processes, worker/doctor/shadows.py does that. Gunicorn looks first into the folder in
    which it is started: a ``worker`` there hides that module as well.
    """
    ours = Path(__file__).resolve().parent.parent / "worker"
    found = find_spec("worker")
    if found and found.origin and Path(found.origin).resolve() == ours / "__init__.py":
        return
    theirs = found and (found.origin or list(found.submodule_search_locations or ()))
    print(  # noqa: T201
        f"fermata: {theirs} would be loaded in place of Fermata's own package, {ours}. "
        "Rename it, or start Fermata in another folder.",
        file=sys.stderr,
    )
    # 3 is gunicorn's own code for a worker that cannot boot: the master then ends too, instead of
    # starting the worker again and again.
    sys.exit(3)


_require_own_worker()
