"""Where data and numbers come from, what depends on them, and whether bytes are what was recorded.

Apart from ``core.provenance``, which every stage imports, so that asking better rebuilds nothing.
"""
