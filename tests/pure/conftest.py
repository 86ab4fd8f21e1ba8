"""Settings of the tests that need neither Spark nor an engine."""

from hypothesis import settings

# Tests share two cores with engines: how long one example takes says nothing.
settings.register_profile("burnish", deadline=None)
settings.load_profile("burnish")
