"""Scores, statistics and pictures of a trained model."""
