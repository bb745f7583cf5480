"""``gunicorn webhook_receiver.wsgi:app``: the one module that does something when imported."""

from webhook_receiver.app import create_app
from worker import log
from worker.settings import Role, load

_settings = load(Role.RECEIVER)
log.configure(_settings)
app = create_app(_settings)
