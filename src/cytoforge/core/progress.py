"""Progress for whoever watches a terminal, nothing for a log file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_quiet = ContextVar("quiet", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """No bars: another process, or a bar around this one, already shows how far the work is."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields a function that is told how many more are done.

    Where one bar is shown already, work inside it shows none of its own.

    Example:
        >>> with progress("cells", 2) as advance:
        ...     advance(1)
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = _quiet.get() or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar, silent():
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


def tell(message: str) -> None:
    """One line on standard error, also where no bar is shown."""
    Console(stderr=True, highlight=False).print(message, soft_wrap=True, markup=False)
