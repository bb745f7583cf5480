"""Ports of this process: as long as it lives, no other process gets one of them.

Tests run side by side, in several processes and perhaps in several clones. If a process only looks
a free port up, another one can take it before the server listens there, or while it is down.
"""

import atexit

from worker.store.embedded import hold_port


def take_port() -> int:
    """Reserve a loopback port: a server of ours listens there, or nothing ever does."""
    port, held = hold_port()
    atexit.register(held.close)
    return port
