"""PatchCore through anomalib, on the shared teacher."""
