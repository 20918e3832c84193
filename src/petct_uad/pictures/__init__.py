"""Image benchmarks: folders of pictures that are already labelled and split.

They enter the pipeline at ingest; each picture is a study of one slice, and a patient of its own.
"""
