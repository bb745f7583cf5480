"""``python -m worker`` is ``fermata``."""

from worker.cli import main

main()
