"""What must hold of every table: one file per table, each expectation Great Expectations' own."""
