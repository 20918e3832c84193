"""Brings PET and labels onto the CT-anchored grid."""
