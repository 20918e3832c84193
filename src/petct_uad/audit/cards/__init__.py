"""Datasheets and model cards, from tables, metrics and lineage alone."""
