"""What stands in the way of a working Fermata: facts are collected here, and judged by the core."""
