"""The Q-Former autoencoder."""
