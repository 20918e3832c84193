"""The compare stage: every run in one table, and what may be said of it."""
