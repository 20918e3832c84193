"""EfficientAD through anomalib, on the shared teacher."""
