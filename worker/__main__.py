"""``fermata`` and ``python -m worker``. From the very start, Ctrl-C ends it with one line."""

import sys


def main() -> None:
    """Run the command line. Its imports take a while, and Ctrl-C may come during them."""
    try:
        from worker.cli import console  # noqa: PLC0415

        console.prepare()
        from worker import log  # noqa: PLC0415
        from worker.cli.commands import main as command  # noqa: PLC0415

        log.answer_to_a_person()
        command()
    except KeyboardInterrupt:
        print("fermata: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)


if __name__ == "__main__":
    main()
