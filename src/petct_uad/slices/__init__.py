"""Labels, splits, crops, filters and stores axial slices."""
