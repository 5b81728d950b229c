"""`kvs` and `python -m kvs`."""

import sys

from kvs.daemon import streams
from kvs.daemon.cli import main as run_command_line


def main() -> None:
    streams.set_up()
    sys.exit(run_command_line())


if __name__ == "__main__":
    main()
