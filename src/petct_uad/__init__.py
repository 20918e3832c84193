"""Unsupervised anomaly detection on paired PET/CT: a data-versioned, leak-free benchmark."""
