"""``petct``: what a person runs besides ``dvc``."""
