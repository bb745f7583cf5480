"""Collects facts about a set-up. The rules in ``core/health`` judge them."""
