"""A study's native volumes, and the motion between its CT and its PET."""
