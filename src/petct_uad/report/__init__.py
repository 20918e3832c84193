"""The merged table and the self-contained HTML report."""
