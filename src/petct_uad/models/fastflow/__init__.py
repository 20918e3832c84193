"""FastFlow through anomalib, on the shared teacher."""
