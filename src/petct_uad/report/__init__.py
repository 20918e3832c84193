"""One self-contained HTML page over everything that the pipeline measured."""
