"""One Gaussian of pooled deep features: the simplest model that has learnt anything."""
