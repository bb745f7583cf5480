"""What the views of the desk share: the parts of this process, and the time."""

import time
from typing import cast

from flask import current_app

from worker.wiring.desk import Desk

EXTENSION = "fermata"


def desk() -> Desk:
    """Return the parts of the application that serves this request."""
    return cast(Desk, current_app.extensions[EXTENSION])


def now() -> float:
    """Return the time, in Unix seconds."""
    return time.time()
