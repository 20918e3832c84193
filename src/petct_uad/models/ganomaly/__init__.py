"""GANomaly."""
