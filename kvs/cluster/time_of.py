"""The time of an event, as the shells give it to the cores."""

from typing import NamedTuple


class Now(NamedTuple):
    """Two clocks read at one moment, in ms.

    `mono_ms` never goes back and is for timers, deadlines and how long something lasted; its zero means nothing.
    `unix_ms` is the wall clock: it may jump either way and is for what people and other nodes read.
    """

    mono_ms: int
    unix_ms: int
