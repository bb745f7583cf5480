"""The rules of one job: its states, its record, its due times, its lane."""
