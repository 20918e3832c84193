"""params.yaml as frozen, strict types, a module per section; those of a model lie in its folder.

A stage imports only the sections that it reads, so that a new key reruns nothing else. The stage
``params`` checks the whole file before any other.
"""
