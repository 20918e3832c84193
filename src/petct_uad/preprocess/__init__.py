"""Native volumes to model input: one resampling, one shard per study."""
