"""The Celery application: ``celery -A worker.app worker``. Importing it reads and opens nothing.

Workers and beat import it, ``fermata doctor`` does, and so do applications that are built on it. On
import it mends the libraries, then makes the application, whose settings Celery reads when it first
needs one. A worker also gets the threads and commands of this room: sweep, admission, conductor,
revoke, and the look for risks before the first message.
"""

from typing import Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import import_modules, setup_logging

from worker import log, mends
from worker.app import startup
from worker.app.background import AdmissionStep, ConductorStep, SweepStep
from worker.core import redis_url
from worker.core.contract import QUEUE, SCHEDULE_TICK
from worker.core.job.timing import hard_time_limit, soft_time_limit
from worker.core.providers import chosen
from worker.messages import follow_ups
from worker.messages.press import PUBLISH_RETRIES
from worker.settings import Role, load
from worker.wiring import worker_process
from worker.wiring.producer import recording
from worker.wiring.results import result_settings
from worker.wiring.servers import AMQP_HEARTBEAT_SECONDS, broker_options


def _configuration() -> dict[str, Any]:
    settings = startup.client_settings()
    submit_seconds = settings.policy.submit_timeout_seconds
    return {
        **result_settings(settings),
        "broker_url": redis_url.celery_url(settings.broker_url),
        "broker_transport_options": broker_options(settings),
        "broker_heartbeat": AMQP_HEARTBEAT_SECONDS,
        "broker_connection_retry_on_startup": True,
        # By default Celery gives up after 100 attempts, and the worker ends. Here it tries on.
        "broker_connection_max_retries": None,
        # A Redis that restarts, or hands over to its replica, first answers with errors.
        "broker_channel_error_retry": True,
        "task_default_queue": QUEUE,
        "task_create_missing_queues": True,
        # A slow task would keep the messages that its worker has prefetched from idle workers.
        "worker_prefetch_multiplier": 1,
        # Only operations read these two (ProviderTask.from_config). A plain task has Celery's
        # limits, or its own.
        "fermata_soft_time_limit": soft_time_limit(submit_seconds),
        "fermata_time_limit": hard_time_limit(submit_seconds),
        "task_publish_retry_policy": PUBLISH_RETRIES,
        "worker_max_tasks_per_child": 2000,  # the children of a long-lived pool grow
        "worker_send_task_events": True,
        "enable_utc": True,
        "beat_schedule": _beat_schedule() if settings.timetable else {},
    }


def _beat_schedule() -> dict[str, Any]:
    """Tick every minute. If no worker takes a tick within 50 s, the next one makes up for it."""
    options = {"queue": QUEUE, "expires": 50}
    return {"fermata": {"task": SCHEDULE_TICK, "schedule": crontab(), "options": options}}


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    log.configure(load(Role.CLIENT))


@import_modules.connect
def _require_own_tasks(**_: Any) -> None:
    startup.own_tasks()


# Before the application: with other versions a process must refuse, and not run unmended.
with startup.one_line():
    mends.install()
follow_ups.install(lambda: (worker_process.parts().records, worker_process.parts().readings))
app = Celery(
    "fermata",
    task_cls="worker.app.plain_task:Step",
    include=[*chosen().task_modules, "tasks.archive", "tasks.notify", "tasks.schedule"],
    amqp=recording(lambda: load(Role.CLIENT)),
)
app.add_defaults(_configuration)
app.steps["worker"].update({SweepStep, AdmissionStep, ConductorStep})
app.steps["worker"].add("worker.app.revoke:RevokeStep")
app.steps["consumer"].add(startup.RiskStep)


@app.on_after_finalize.connect
def _declare_the_rest(sender: Celery, **_: Any) -> None:
    from worker.app.job_task import declare_undeclared  # noqa: PLC0415  (it needs this module)

    declare_undeclared(sender)
