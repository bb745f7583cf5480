"""``gunicorn webhook_receiver.wsgi:app``: the one module that does something when imported."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn


def _refuse(why: str) -> NoReturn:
    # Gunicorn takes this code for a worker that cannot start, and ends as well.
    print(f"fermata: {why}", file=sys.stderr)  # noqa: T201
    sys.exit(3)


# Gunicorn looks first into the folder in which it is started. There, worker/shadows.py is hidden.
_ours = Path(__file__).resolve().parent.parent / "worker"
_found = find_spec("worker")
if _found is None or Path(_found.origin or "").resolve() != _ours / "__init__.py":
    _theirs = _found and (_found.origin or list(_found.submodule_search_locations or ()))
    _refuse(
        f"{_theirs} would be loaded in place of Fermata's own package, {_ours}. "
        "Rename it, or start Fermata in another folder."
    )

from webhook_receiver.app import create_app  # noqa: E402
from worker import log  # noqa: E402
from worker.core.errors import ConfigError  # noqa: E402
from worker.settings import Role, load  # noqa: E402

try:
    _settings = load(Role.RECEIVER)
except ConfigError as error:
    # Gunicorn takes this code for a worker that cannot start, and ends as well.
    log.refuse(error.message)
    sys.exit(3)
log.configure(_settings)
app = create_app(_settings)
