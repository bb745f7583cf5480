"""``gunicorn webhook_receiver.wsgi:app``: the one module that does something when imported."""

import sys

from webhook_receiver.app import create_app
from worker import log
from worker.core.errors import ConfigError
from worker.core.providers import chosen
from worker.settings import Role, load

try:
    _settings = load(Role.RECEIVER)
except ConfigError as error:
    # 3 is gunicorn's own code for a worker that cannot boot: the master then ends too.
    log.refuse(error.message)
    sys.exit(3)
log.configure(_settings)
app = create_app(_settings)
# Now, and not with the first song that comes too late: by then the files may be those of another
# version, and the song would be answered 500.
_ = chosen().operations
