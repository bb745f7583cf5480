"""What is judged to be right or wrong about a system, from facts that others collect."""
