"""The engine of Fermata: it parks a Celery job, and resumes it when the provider answers."""
