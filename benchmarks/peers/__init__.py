"""Fermata beside its peers: the same work on each of them, in turn, in one run.

A job submits to the provider, waits for a webhook, and ends with a result. ``make bench-peers``
installs what the peers need into temporary folders, and removes them at the end.
"""
