"""How the parts of each kind of process are put together: one root for each.

``receiver`` for the web process, ``worker_process`` for a worker, ``producer`` for whatever only
publishes, ``batches`` for runs of many jobs; ``servers`` opens what they share.
"""
