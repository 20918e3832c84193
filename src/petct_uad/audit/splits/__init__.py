"""Anybody's train, validation and test split: read in any layout, and audited by patient."""
