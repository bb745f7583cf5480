"""A job as a Celery message: how it is kept, recorded and published."""
