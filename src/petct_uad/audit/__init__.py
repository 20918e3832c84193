"""Where data and numbers come from, what depends on them, whether bytes are what was recorded, and
how much the numbers can say: what the split leaks, how many patients, how small a lesion.

Apart from ``core.provenance``, which every stage imports, so that auditing better rebuilds nothing.
"""
