"""What a stage records: which inputs, params, code and packages made which outputs."""
