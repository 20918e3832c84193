"""The train stage: the rows of one model, from shards to weights."""
