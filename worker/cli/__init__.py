"""The command line, ``fermata``: what a person runs."""
