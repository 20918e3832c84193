"""Public cohorts: what they hold, how large, under which licence, from their archive's index.

No stage of the pipeline uses this room.
"""
