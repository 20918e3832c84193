"""Makes a digital thorax and writes it as real DICOM."""
