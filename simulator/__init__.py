"""A stand-in for the AI music provider: its HTTP protocol, its webhooks, and real audio and MIDI.

Written from `provider-api.md` and `provider-api-2.md` alone, so that it can disagree with the
worker. It imports nothing of the rest of the project. Begin with `table.py`.
"""
