"""A second provider, to prove that the port is one: it speaks otherwise in everything.

It has field names, states and a signature scheme of its own (Standard Webhooks). ``provider`` is
all that Fermata is told of it. ``server`` is the provider itself: it translates for the simulator,
whose scenarios and books the tests use as ever. ``test_toy`` runs tests of other modules on it.
"""
