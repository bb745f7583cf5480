"""``fermata``, and ``python -m worker``: from its first moment, Ctrl-C ends it in one line."""

import sys


def main() -> None:
    """Run the command line; what it needs takes a moment to import, and Ctrl-C may come in it."""
    try:
        from worker.cli import console  # noqa: PLC0415

        console.prepare()
        from worker.cli.commands import main as command  # noqa: PLC0415

        command()
    except KeyboardInterrupt:
        print("fermata: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)


if __name__ == "__main__":
    main()
