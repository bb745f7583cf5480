"""Files that stay: Fermata fetches, checks and stores the files that a result links to."""
