"""Sans-IO core: no socket, clock, environment, randomness or logging."""
