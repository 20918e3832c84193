"""Scores, statistics and trivial baselines: what a trained run is worth on unseen patients."""
