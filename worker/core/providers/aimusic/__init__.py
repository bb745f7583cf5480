"""The AI music service: its operations, its words, its signature."""
