"""The rules by which a system is judged, from facts that ``worker.doctor`` collects."""
