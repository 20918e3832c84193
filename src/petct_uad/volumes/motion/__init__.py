"""How the PET lies on the CT: rigid motions, and transforms as files hold them."""
