"""Account operations."""

from worker.app import app
from worker.core.models import JSONObject
from worker.provider_task import provider_task


@provider_task(app, "account.credits")
def credits() -> JSONObject:  # noqa: A001  (the provider's word)
    """Ask how many credits are left; free.

    ``credits.delay().get()["data"]`` is ``{"credits": …, "extra_credits": …}``.
    """
