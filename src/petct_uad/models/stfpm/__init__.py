"""STFPM through anomalib, on the shared teacher."""
