"""Files that stay: the links of a result are fetched, checked and stored."""
