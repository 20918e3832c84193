"""The nearest normal slice: what a reader does who holds a normal study beside the new one."""
