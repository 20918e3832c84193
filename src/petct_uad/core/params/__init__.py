"""params.yaml as frozen, strict types: what every section is made of, and how the file is read."""
