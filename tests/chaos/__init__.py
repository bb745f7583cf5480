"""Chaos: the real processes, killed at the worst moments."""
