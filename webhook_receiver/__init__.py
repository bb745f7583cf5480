"""The public door: a minimal Flask app that accepts the provider's webhooks."""
