"""Reads DICOM: series, geometry, SUV and labels."""
