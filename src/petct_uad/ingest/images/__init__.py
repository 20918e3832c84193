"""Image benchmarks: folders of pictures that are already labelled and split."""
