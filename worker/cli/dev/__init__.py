"""The whole system on one machine, for development: ``fermata dev``."""
