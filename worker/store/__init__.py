"""What stands in Redis or Valkey. Each change of a record is one Lua script (``lua/``)."""
