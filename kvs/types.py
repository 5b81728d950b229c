"""Names for the plain values that cross module borders."""

from typing import NewType

Millis = NewType("Millis", int)
"""A duration in milliseconds."""
