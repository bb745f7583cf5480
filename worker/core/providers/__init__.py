"""One folder for each provider: everything that only this provider says or does."""
