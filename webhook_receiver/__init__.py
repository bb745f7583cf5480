"""The public door: a minimal Flask app that accepts the provider's webhooks."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _require_own_worker() -> None:
    """Refuse to go on with a stranger's ``worker``.

    For other processes, worker/doctor/shadows.py does that. Gunicorn looks first into the folder in
    which it is started. There, that module is hidden too.
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
    # Gunicorn takes this code for a worker that cannot start, and ends as well.
    sys.exit(3)


_require_own_worker()
