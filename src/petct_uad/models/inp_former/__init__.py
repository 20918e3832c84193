"""INP-Former: prototypes of what is normal, drawn from the slice itself."""
