"""A worker refuses to start with a wrong setting, or if data would be at risk.

It then says one clear line, and ends with exit code 3. ``worker.app`` asks here for its settings,
and Celery starts ``RiskStep`` when the worker has its broker. Celery prints a traceback for an
ordinary exception, so each function here ends the process in the way that suits its caller: a
click exception before the worker runs, ``SystemExit`` once it does. In a backend that imports the
application there is no command line to end, and ConfigError goes to the backend.
"""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import click
import structlog
from celery import bootsteps
from celery.signals import worker_shutting_down

from worker import log as logs
from worker.core.errors import ConfigError
from worker.doctor import facts, shadows
from worker.settings import Role, Settings, load
from worker.wiring import worker_process
from worker.wiring.worker_process import Parts

log = structlog.get_logger()

EXIT_SETTINGS: Final = 3
"""The command line's exit code for wrong settings."""


_SERVING: Final = frozenset({"worker", "beat"})
"""Celery's commands whose output is a log. The output of any other command is an answer."""


class _Refusal(click.ClickException):
    exit_code = EXIT_SETTINGS

    def show(self, file: Any = None) -> None:
        logs.refuse(self.message)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Turn a ConfigError into the end of a command line, without a traceback.

    Raises the ConfigError itself if there is no command line: a backend imports the application.
    """
    try:
        yield
    except ConfigError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise _Refusal(error.message) from None


def client_settings() -> Settings:
    """Return the settings of this process; a wrong one ends a command line, or raises ConfigError.

    A worker's own settings are checked here too: Celery asks before it prints its banner, so that
    the reason is the last thing on the screen.
    """
    context = click.get_current_context(silent=True)
    command = context.find_root().invoked_subcommand if context else None
    with one_line():
        settings = load(Role.WORKER if command == "worker" else Role.CLIENT)
    if command in _SERVING:
        logs.configure(settings)
        if settings.log_format == "json":
            logs.take_over()
    return settings


@worker_shutting_down.connect
def _tell_the_end(how: str, sig: str, **_: Any) -> None:
    if logs.taken_over():
        logs.say("worker_shuts_down", how=how.lower(), signal=sig)


def own_tasks() -> None:
    """End the process if the ``tasks`` package about to be loaded is not ours.

    Celery calls this by a signal, and would log an exception of ours with its traceback.
    """
    try:
        with one_line():
            shadows.require_own("tasks")
    except _Refusal as refusal:
        refusal.show()
        raise SystemExit(EXIT_SETTINGS) from None


def parts() -> Parts:
    """Return this process's parts, or end it."""
    try:
        return worker_process.parts()
    except ConfigError as error:
        refuse(error.message)


def refuse(why: str) -> NoReturn:
    """End the worker. Celery prints a traceback for any exception but SystemExit."""
    log.critical("worker_refuses_to_start", why=why)
    # Honcho terminates this process if another one has refused. Then the worker would go on to log
    # its shutdown, and the reason would no longer be its last line.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(EXIT_SETTINGS)


class RiskStep(bootsteps.StartStopStep):
    """Looks for risks once Redis is there, and before the worker takes its first message.

    If Redis is away, the worker waits for it as Celery does, and looks after the next connect.
    """

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._looked = False

    def start(self, parent: Any) -> None:
        # Celery starts this step again after each reconnect. Then a refusal would do harm: the jobs
        # in hand are safer with a worker than without.
        if self._looked:
            return
        found = facts.risks(parts().settings, parent.app)
        self._looked = not any(each.name == facts.AWAY for each in found)
        for each in found:
            tell = log.critical if each.refused else log.warning
            tell("data_at_risk", risk=each.name, said=each.said, do=each.do)
        if any(each.refused for each in found):
            names = dict.fromkeys(each.name for each in found if each.name != facts.AWAY)
            refuse(f"data is at risk; to start all the same: FERMATA_ALLOW_RISKS={','.join(names)}")
