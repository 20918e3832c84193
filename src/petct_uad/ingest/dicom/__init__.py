"""DICOM studies: from any tree of files to one CT and one PET per study."""
