"""Shows how far a long work has come, on a terminal only: neither a log nor a pipe is to be full of it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(text: str, total: int | None, *, unit: str = "") -> Iterator[Callable[[int], None]]:
    """What is yielded is to be told how far the work has come: in bytes of `total`; or, where nobody knows the end
    (`total` None), in numbers of `unit`."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if total is None:
        columns.append(TextColumn("{task.completed:,} " + unit))
    else:
        columns += (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(text, total=total)
        yield lambda done: shown.update(task, completed=done)
        if total is not None:
            shown.update(task, completed=total)
