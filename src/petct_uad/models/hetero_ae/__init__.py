"""Hetero-AE: a CNN encoder, a hybrid CNN-Transformer decoder."""
