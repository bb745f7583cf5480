"""Pictures of jobs, flows and counters: where each mark goes, in numbers.

The functions here are pure. Templates write what they return as SVG, so a page needs no script to
show a picture. Positions are in the units of the SVG's own ``viewBox``.
"""
