"""CMAD, the PET/CT benchmark's cross-modality network."""
