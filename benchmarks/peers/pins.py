"""The versions that are measured. Renew them here, and nowhere else."""

from typing import Final

DBOS: Final = "3.4.0"
"""dbos, from PyPI."""
RESTATE_SDK: Final = "1.2.0"
"""restate-sdk, from PyPI."""
RESTATE_SERVER: Final = "1.7.12"
"""@restatedev/restate-server, from npm."""
