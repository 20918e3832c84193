"""What a value means where there is nothing to measure."""

from __future__ import annotations

AIR_HU = -1024  # the least value that a 12-bit CT stores: padding, and all that lies outside
