"""Settings of the unit tests: properties are searched, not timed."""

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=50)
settings.load_profile("unit")
