"""Where data and numbers come from, what depends on what, and whether bytes are what was recorded.

Apart from ``core.provenance``, which every stage imports, so that auditing better rebuilds nothing.
"""
