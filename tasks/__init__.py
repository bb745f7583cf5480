"""The Celery tasks: one declaration for each operation, and the flows over them."""
