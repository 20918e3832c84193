"""HDHKD's teacher, which the stage ``distil`` makes."""
