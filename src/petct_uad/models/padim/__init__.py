"""PaDiM through anomalib, on the shared teacher."""
