"""CFLOW-AD through anomalib, on the shared teacher."""
