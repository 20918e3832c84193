"""Frozen networks whose features the students reconstruct."""
