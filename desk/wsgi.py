"""``gunicorn desk.wsgi:app``: the one module that does something when imported."""

import sys

import structlog

from desk.app import create_app
from desk.server import Worker
from worker import log
from worker.core.errors import ConfigError
from worker.settings import Role, load

try:
    _settings = load(Role.DESK)
    app = create_app(_settings, this_run=Worker.this_run)
except ConfigError as error:
    # 3 is gunicorn's own code for a worker that cannot boot: the master then ends too.
    log.refuse(error.message)
    sys.exit(3)
log.configure(_settings)
if Worker.link:
    structlog.get_logger().warning("desk_open_on_this_machine", url=Worker.link)
