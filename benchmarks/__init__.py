"""Figures of the whole system, each a ratio measured in one run on real processes."""
