"""What is archived of a result, under which name, from which address."""
