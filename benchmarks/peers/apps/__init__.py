"""What each peer runs: its workflow, and the view that takes the webhooks."""
