"""A job as a Celery message: how it is kept, recorded, published and routed.

No message of a job leaves Fermata in any other way. A producer enqueues a flow (``flow``), or any
process of the application calls ``apply_async``: Celery publishes through ``recording``, which
writes the job's record first. ``press`` gives that record the job's message, and publishes it again
when the engine asks for another submit leg. ``follow_ups`` and ``routing`` see to the messages that
Celery publishes after a task, and ``answer`` writes a result for a job that nobody runs any more.
"""
