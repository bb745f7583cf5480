"""What stands in Redis or Valkey: records, gate, quarantine. Each change is one Lua script."""
