"""The state of Fermata in Redis or Valkey.

Each change of a record is one Lua script (``lua/``), because several processes decide about one job
at once, and Redis runs a script in one step. The engine sees these modules as the ports of
``core/ports.py``.
"""
