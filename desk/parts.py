"""What the views of the desk share: the parts of this process, the time, and whether it stops."""

import threading
import time
from typing import Final, cast

from flask import current_app

from worker.wiring.desk import Desk

EXTENSION = "fermata"
STOPPING: Final = threading.Event()
"""Set when this process is asked to end: live pages end too, and come again to the next one."""


def desk() -> Desk:
    """Return the parts of the application that serves this request."""
    return cast(Desk, current_app.extensions[EXTENSION])


def now() -> float:
    """Return the time, in Unix seconds."""
    return time.time()
