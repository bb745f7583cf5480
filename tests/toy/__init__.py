"""A second provider, which proves that the port ``Provider`` assumes nothing of the first.

It has field names, states and a signature scheme of its own (Standard Webhooks). Fermata knows it
by ``provider`` alone. ``server`` is the provider itself: it translates for the simulator, so the
tests use the same scenarios and books. ``test_toy`` runs tests of other modules on it.
"""
