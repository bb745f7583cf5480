"""What ``fermata dev`` shows while its processes run.

It shows each process when it is up, then how to try the system, and the events of jobs as the
processes log them. If a process ends by itself, it says why, and ends.
"""

import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.cli.dev import premises
from worker.cli.dev.crew import Crew
from worker.cli.dev.screen import Log, Screen, link_of_the_desk, shown, summary

_LOOK_EVERY_SECONDS: Final = 0.1
_SLOW_SECONDS: Final = 30

_TRY: Final = (
    "submit sonic.create_music -p custom_mode=false -p gpt_description_prompt=waltz --wait"
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process to start, the text to show when it is up, and the port that was opened for it."""

    name: str
    command: Sequence[str]
    place: str
    is_up: Callable[[], bool]
    door: socket.socket | None = None


class Watch:
    """Watches the processes of one run.

    Args:
        processes: those to wait for, in this order.
        desk_url: where the desk is; '' without the desk.
    """

    def __init__(
        self,
        crew: Crew,
        screen: Screen,
        folder: Path,
        processes: Sequence[Process],
        *,
        desk_url: str,
    ) -> None:
        self._crew = crew
        self._screen = screen
        self._folder = folder
        self._processes = processes
        self._desk_url = desk_url
        self._logs = [Log(each.name, crew.log(each.name)) for each in processes]
        self._full = False

    def run(self, began: float) -> None:
        """Show what happens, until nobody reads the output any more.

        Args:
            began: when the system began to start (monotonic).

        Raises ConfigError or Unwritable if a process has ended: none should end by itself.
        """
        starting, slow_at = [*self._processes], began + _SLOW_SECONDS
        while not self._is_left_alone():
            self._show_news(started=not starting)
            self._require_all()
            self._warn_of_a_full_disk()
            if starting and starting[0].is_up():
                self._screen.show(starting[0].name, starting[0].place)
                starting.pop(0)
                if not starting:
                    self._say_ready(time.monotonic() - began)
            elif starting and time.monotonic() > slow_at:
                slow_at = float("inf")
                log = self._crew.log(starting[0].name)
                self._screen.tell(f"Still waiting for the {starting[0].name}; see {shown(log)}")
            time.sleep(_LOOK_EVERY_SECONDS)

    def _is_left_alone(self) -> bool:
        """Say whether the reader of the output has gone; under nohup, a closed terminal may."""
        stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and self._screen.is_terminal
        return self._screen.gone and not stays

    def _show_news(self, *, started: bool) -> None:
        now = time.strftime("%H:%M:%S")
        for log in self._logs:
            for line in log.lines():
                if news := summary(log.name, line, started=started):
                    self._screen.tell(f"{now} {news}")

    def _require_all(self) -> None:
        fallen = self._crew.fallen()
        if fallen is None:
            return
        self._show_news(started=True)
        name, code = fallen
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        log = self._crew.log(name)
        cause = f": {said}" if log.exists() and (said := Log(name, log).cause()) else ""
        said = f"the {name} ended by itself ({how}){cause}; see {shown(log)}"
        raise premises.failure(self._folder, said)

    def _warn_of_a_full_disk(self) -> None:
        full = premises.is_full(self._folder)
        if full and not self._full:
            self._screen.tell(
                "The disk is full: nothing is kept, and jobs wait until there is room."
            )
        self._full = full

    def _say_ready(self, seconds: float) -> None:
        logs = shown(self._crew.log("worker").parent)
        page = ("The page:", "", f"  {url}", "") if (url := self._page()) else ()
        for line in (
            f"Ready after {seconds:.1f} s.",
            *page,
            "Try, in another terminal in this folder:",
            "",
            f"  {_this_command()} {_TRY}",
            "",
            f"Jobs show here as they move; all that the processes say is in {logs}.",
            "Ctrl-C ends it.",
        ):
            self._screen.tell(line)

    def _page(self) -> str:
        """Return the URL of the desk's page; without tokens, the desk has written its own link."""
        if not self._desk_url:
            return ""
        # Without tokens the desk makes one when it starts, and only its log has it.
        said = self._crew.log("desk").read_text("utf-8", "replace")
        links = map(link_of_the_desk, said.splitlines())
        return next(filter(None, links), f"{self._desk_url}/")


def _this_command() -> str:
    """Write the command by which another terminal in this folder runs ``fermata``."""
    script = Path(sys.argv[0]).absolute()
    command = f"{shlex.quote(shown(Path(sys.executable)))} -m worker"
    if script.name == "fermata":
        on_every_path = "VIRTUAL_ENV" not in os.environ and shutil.which("fermata") == str(script)
        command = "fermata" if on_every_path else shlex.quote(shown(script))
    given = os.environ.get("FERMATA_DATA_DIR")
    return f"FERMATA_DATA_DIR={shlex.quote(given)} {command}" if given else command
