"""What every room may use: errors, files, the terminal, params and provenance."""
