"""How the parts of each kind of process are put together: one root for each.

``receiver`` is the root of the web process, ``worker_process`` of a worker, ``producer`` of a
process that only publishes, ``batches`` of one that runs batches. ``servers`` opens the clients
that they share. ``limited_worker`` is the gunicorn worker of those that serve HTTP.
"""
