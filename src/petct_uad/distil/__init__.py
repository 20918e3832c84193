"""The distil stage: the teacher that a model waits for."""
