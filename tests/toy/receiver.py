"""``gunicorn tests.toy.receiver:app``: the receiver, on the toy provider."""

from tests.toy.provider import Toy
from worker.core import providers

providers.choose(Toy())

from webhook_receiver.wsgi import app  # noqa: E402  (it asks which provider was chosen)

__all__ = ["app"]
