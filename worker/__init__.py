"""Fermata itself: it parks a Celery job, and resumes the job when the provider answers.

ARCHITECTURE.md shows the rooms of this package, and the order in which to read them.
"""
