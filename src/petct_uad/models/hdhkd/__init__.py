"""HDHKD: hybrid dual-heterogeneous knowledge distillation."""
