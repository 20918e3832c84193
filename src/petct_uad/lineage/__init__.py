"""Tables that say which inputs made which outputs."""
