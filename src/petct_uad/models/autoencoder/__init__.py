"""A plain and a variational autoencoder of the image."""
