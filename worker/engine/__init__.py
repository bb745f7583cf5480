"""The life of one job, as use cases: receive, submit, settle, sweep, admit, cancel, adopt.

Nothing here imports Celery or opens a socket. What reaches the world comes in by constructors.
"""
