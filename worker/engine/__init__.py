"""The life of one job, as use cases: receive, submit, settle, sweep, admit, cancel, adopt.

Nothing here imports Celery or opens a socket. The constructors take the ports to the world.
"""
