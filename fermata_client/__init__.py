"""A client for backends that use Fermata; it needs Celery and Redis, and nothing else of ours.

``job = Fermata("redis://…/0").enqueue("sonic.remaster", clip_id, mv="chirp-v5")``
"""

from fermata_client.client import Fermata
from fermata_client.errors import (
    ClientError,
    JobFailed,
    StillRunning,
    Unavailable,
    UnknownJob,
    WrongCall,
)
from fermata_client.jobs import Flow, Job
from fermata_client.status import Clip, Result, Status, Update

__all__ = [
    "ClientError",
    "Clip",
    "Fermata",
    "Flow",
    "Job",
    "JobFailed",
    "Result",
    "Status",
    "StillRunning",
    "Unavailable",
    "UnknownJob",
    "Update",
    "WrongCall",
]
