"""What a run shows in the terminal while it trains: a progress bar, and how long it will take."""

import contextlib
import time

from tqdm import tqdm


@contextlib.contextmanager
def progress_bar(total, done, status):
    """A bar of `total` steps, `done` of them already; yields the function to call after each step.

    status: a function that returns what to show beside the bar
    """
    with tqdm(total=total, initial=done, unit=" steps", disable=None) as bar:
        shown = time.time()

        def advance():
            nonlocal shown
            bar.update()
            if time.time() - shown > 1:  # not at every step: status() may wait for the device
                bar.set_postfix_str(status(), refresh=False)
                shown = time.time()

        yield advance


def duration(seconds):
    """Seconds as 02:05 or 1:02:05."""
    return tqdm.format_interval(seconds)
