"""Which slice is normal, and which patient trains, validates or tests."""
