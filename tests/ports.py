"""Ports of this process: as long as it lives, nobody else gets one of them.

Tests run side by side, in several processes and perhaps in several clones. A port that was only
looked up could be taken by another before its server listens there, or while the server is down.
"""

import atexit

from worker.store.embedded import hold_port


def take_port() -> int:
    """Take a loopback port for good: ours to listen at, or one where nothing ever listens."""
    port, held = hold_port()
    atexit.register(held.close)
    return port
