"""The evaluate stage: figures of merit from scores and maps."""
