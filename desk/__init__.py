"""The desk: a page, an HTTP API and metrics, for the people and programs that run Fermata.

It is private, and apart from the public receiver: another process, another port. ``app`` builds the
Flask application, ``doors`` decides who may enter and what they may do, ``api/`` answers programs,
``pages/`` answers people, ``metrics`` answers Prometheus. All of them go through the use cases of
``worker``, which ``worker/wiring/desk.py`` puts together: nothing is decided here a second time.
"""
