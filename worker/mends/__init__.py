"""What Fermata changes in Celery, kombu and billiard. Read it before you raise a version pin.

Each row of ``MENDS`` names a place in a library that Fermata replaces, wraps or relies on, though
the library does not promise to keep it. The row says what is wrong there, which module of ours
mends it, and which test fails without the mend. ``worker.app`` calls ``install`` when it is
imported, before it makes the application. ``install`` first compares the table with the installed
versions: the process refuses to start on another minor version, or if a name in the table is gone.

To move a pin: read each place in the new version, run its test without the mend, and delete the
mend if the test passes. Otherwise carry the mend over. Then write the new version into ``READ_AT``.
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from worker.core.errors import ConfigError
from worker.mends import redelivery, slots, untraced

READ_AT: Final[Mapping[str, str]] = {"celery": "5.7", "kombu": "5.7", "billiard": "4.3"}
"""The minor versions at which the places were read."""


@dataclass(frozen=True, slots=True)
class Mend:
    """One place in a library."""

    hook: str
    """Where it is: ``module:name``, with dots between the parts of the name; of a class, the one
    that defines the name itself."""
    fault: str
    ours: str
    """The module that mends it, below ``worker``."""
    test: str
    """What fails without the mend: ``file::test``, below ``tests``."""


MENDS: Final = (
    Mend(
        "kombu.transport.redis:Channel._brpop_start",
        "A worker that dies between popping a message and noting it loses the message.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_a_message_popped_for_a_connection_that_is_gone_comes_again",
    ),
    Mend(
        "kombu.transport.redis:Channel._brpop_read",
        "The same: our pop also notes the message, so our read must go with it.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_a_message_popped_for_a_connection_that_is_gone_comes_again",
    ),
    Mend(
        "kombu.transport.redis:Channel._flush_brpop_reauth",
        "No fault: our wait must end as kombu's pop does, with a pending AUTH sent.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_a_consumer_that_waits_gets_messages_of_every_priority",
    ),
    Mend(
        "kombu.transport.redis:QoS.append",
        "If the note of a popped message fails, the message is lost.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_a_message_that_was_popped_and_could_not_be_noted_comes_again",
    ),
    Mend(
        "kombu.transport.redis:QoS.ack",
        "An acknowledgement that fails holds its prefetch slot for ever.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_an_acknowledgement_that_did_not_reach_redis_holds_no_slot_and_is_written_later",
    ),
    Mend(
        "kombu.transport.redis:QoS.reject",
        "A rejection that fails holds its prefetch slot for ever.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::test_so_does_a_rejection",
    ),
    Mend(
        "kombu.transport.virtual:QoS.restore_unacked_once",
        "A channel that closes while Redis is away ends the worker with an AttributeError.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_a_message_that_a_closing_channel_could_not_give_back_comes_again",
    ),
    Mend(
        "kombu.transport.redis:QoS.restore_visible",
        "A message in hand for longer than the visibility timeout goes to a second worker.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_a_message_stays_in_hand_past_the_visibility_timeout_while_its_worker_lives",
    ),
    Mend(
        "kombu.transport.virtual:Message.__init__",
        "A body that cannot be decoded ends the worker.",
        "mends/redelivery.py",
        "integration/test_redelivery.py::"
        "test_a_body_that_cannot_be_decoded_reaches_the_consumer_as_it_is",
    ),
    Mend(
        "celery.concurrency.thread:apply_target",
        "A task that ends its thread keeps its slot, and its message is never acknowledged.",
        "mends/slots.py",
        "integration/test_own_tasks.py::"
        "test_a_task_that_exits_each_time_fails_in_the_end_and_gives_its_slot_back",
    ),
    Mend(
        "celery.concurrency.solo:apply_target",
        "A task that ends its thread ends a worker without a pool.",
        "mends/slots.py",
        "integration/test_own_tasks.py::"
        "test_a_task_that_exits_each_time_fails_in_the_end_and_gives_its_slot_back",
    ),
    Mend(
        "celery.app.trace:ExceptionInfo",
        "A task that ends with Ignore costs two copies of a traceback that nobody reads.",
        "mends/untraced.py",
        "unit/test_untraced.py::test_a_leg_that_parks_has_no_traceback_and_is_still_an_ignore",
    ),
    Mend(
        "celery.backends.base:Backend.chord_error_from_stack",
        "A chord whose body cannot be published is failed, although its header succeeded.",
        "app/accidents.py",
        "integration/test_chords.py::test_a_job_that_runs_again_publishes_the_body_that_it_could_not",
    ),
    Mend(
        "celery.backends.redis:CHORD_CLEANUP_LUA",
        "The same: the chord is dropped, and its body is never published.",
        "app/accidents.py",
        "integration/test_chords.py::test_a_job_that_runs_again_publishes_the_body_that_it_could_not",
    ),
    Mend(
        "celery.backends.base:Backend._call_task_errbacks",
        "One errback that cannot be published keeps the others from being called.",
        "app/accidents.py",
        "integration/test_follow_up_failures.py::"
        "test_an_errback_that_cannot_be_called_harms_neither_the_other_nor_the_job",
    ),
    Mend(
        "celery.canvas:Signature.apply_async",
        "A follow-up that has no message fails the task before it, whose result was paid for.",
        "messages/follow_ups.py",
        "integration/test_follow_up_failures.py::"
        "test_a_parameter_that_there_is_not_fails_the_step_that_names_it",
    ),
    Mend(
        "celery.app.amqp:AMQP._retry_publish",
        "A broker that is away while the next step is published fails the task before it.",
        "messages/recording.py",
        "chaos/test_kill_points.py::test_a_death_at_the_point_costs_nothing",
    ),
    Mend(
        "celery.app.amqp:AMQP.flush_routes",
        "No fault: our route sends a task that our workers lack to the backend's queue.",
        "messages/recording.py",
        "integration/test_follow_ups.py::test_a_backends_own_task_reaches_its_own_worker",
    ),
    Mend(
        "celery.worker.state:revoked_stamps",
        "No fault: a command that revokes tasks by stamps also cancels parked jobs.",
        "app/revoke.py",
        "integration/test_own_tasks.py::"
        "test_a_parked_job_is_cancelled_by_a_stamp_that_a_task_in_a_thread_has_too",
    ),
    Mend(
        "celery.app.trace:build_tracer",
        "No fault: a conductor runs resumed legs with Celery's own tracer.",
        "app/conductor.py",
        "integration/test_canvas.py::test_a_shape_ends_as_it_would_without_parking",
    ),
    Mend(
        "celery.backends.base:Backend._get_result_meta",
        "No fault: the results of many legs are stored in one round trip.",
        "app/settler.py",
        "unit/test_settler.py::test_a_result_is_what_celery_would_have_stored",
    ),
)


def install() -> None:
    """Mend this process.

    Raises ConfigError, as :func:`require` does, before anything is changed.
    """
    require()
    try:
        redelivery.install()
    except OSError as error:
        raise ConfigError(f"this installation of Fermata lacks a file: {error}") from None
    slots.install()
    untraced.install()


def require() -> None:
    """Compare the table with the installed libraries.

    Raises ConfigError, which names every difference.
    """
    if differing := [*_other_versions(), *_missing()]:
        said = "; ".join(differing)
        raise ConfigError(
            f"Fermata mends its libraries (worker/mends), and these are not the ones: {said}. "
            "Install what requirements.lock names."
        )


def _other_versions() -> Iterator[str]:
    for package, read_at in READ_AT.items():
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield f"{package} is not installed"
            continue
        minor = read_at.split(".")
        if installed.split(".")[: len(minor)] != minor:
            yield f"{package} is {installed}, not {read_at}"


def _missing() -> Iterator[str]:
    for mend in MENDS:
        module, _, name = mend.hook.partition(":")
        # A renamed hook would not fail by itself: to assign to a name that is gone just adds one.
        try:
            found: object = importlib.import_module(module)
            for part in name.split("."):
                # A class that merely inherits the name does not have the code that was read.
                found = vars(found)[part] if isinstance(found, type) else getattr(found, part)
        except (ImportError, AttributeError, KeyError):
            yield f"there is no {mend.hook}"
