"""What signals mean to a running node.

SIGTERM, SIGINT    end cleanly; a second one ends at once, as if the signal had not been caught
SIGHUP             reopen the log and reload the configuration
"""

import asyncio
import os
import signal
from collections.abc import Callable


class Signals:
    """`stop_asked` is set by the first SIGTERM or SIGINT; `reason` is then the name of the signal."""

    def __init__(self, on_hangup: Callable[[], None]) -> None:
        """Within a running event loop."""
        self.stop_asked = asyncio.Event()
        self.reason = ""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: signal.Signals) -> None:
        if self.stop_asked.is_set():
            # Acknowledged writes are on the disk already; what is cut off is only the tidying up.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.reason = number.name
        self.stop_asked.set()
