"""Great Expectations over every table."""
