"""Which files of a result are archived, under which names, and from which addresses."""
