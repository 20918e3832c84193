"""Where data and numbers come from, what depends on what, and whether bytes are what was recorded.

Apart from ``lineage``, which every stage imports, so that auditing better rebuilds nothing.
"""

NAME = "petct-uad"
DESCRIPTION = (
    "A data-versioned, leak-free benchmark of unsupervised anomaly detection on paired PET/CT"
)
