"""What all models share: their interface, their params, maps, batches, and where they compute."""
