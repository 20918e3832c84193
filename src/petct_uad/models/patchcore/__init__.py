"""PatchCore on the shared teacher, with our own search."""
