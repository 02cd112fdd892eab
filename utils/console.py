"""What a program shows in the terminal, and how it ends when it cannot continue.

plain_errors() is around every main(): a fault outside the program (a file, the memory, a signal)
ends it with one plain line and the right exit code, and an unwritable message does not end it.
"""

import contextlib
import functools
import math
import os
import re
import signal
import sys
import textwrap
import threading
import time

from tqdm import tqdm

# ------------------------------------------------------------------------------------------------
# Messages.


class Stream:
    """A stream that may be lost. Then its messages are lost too, but not the run that writes them.

    The reader of a pipe may be gone (`| head -3`; `| tee` dies of the same Ctrl-C as the run), and
    the disk on which a log is written may be full.
    """

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        with contextlib.suppress(OSError, ValueError):  # ValueError: it has been closed
            self.stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()


def protect_streams():
    """From here on, writing to stdout or stderr never raises an exception."""
    # The system gives the number of a closed stream (`2>&-`) to the next file that is opened:
    # messages would end up inside a checkpoint.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")
        if not isinstance(stream, Stream):
            with contextlib.suppress(AttributeError):  # a notebook's has no such method
                # `python train.py | tee log` shows each epoch at once; names may be any bytes.
                stream.reconfigure(line_buffering=True, errors="backslashreplace")
            setattr(sys, name, Stream(stream))


@contextlib.contextmanager
def progress_bar(total, done, status):
    """A bar of `total` steps, `done` of them already; yields the function to call after each step.

    status: a function that returns what to show beside the bar
    """
    with tqdm(total=total, initial=done, unit=" steps", disable=None) as bar:
        shown = time.monotonic()

        def advance():
            nonlocal shown
            bar.update()
            if time.monotonic() - shown > 1:  # not at every step: status() may wait for the device
                bar.set_postfix_str(status(), refresh=False)
                shown = time.monotonic()

        yield advance


def counted(n, noun):
    """A number and what it counts: "1 file", "2 files"."""
    return f"{n} {noun}{'s' * (n != 1)}"


def wrapped(line):
    """A line in pieces of at most 80 columns, unless a word is longer; all but the first indented.
    """
    return textwrap.fill(line, 80, subsequent_indent="  ", break_long_words=False,
                         break_on_hyphens=False)


def print_eta(run, seconds):
    """Print how long the run will take; seconds: of one batch without its backward pass."""
    images, batch = run.images, 2 * run.args.batch_size  # two views
    evaluations = 1 + math.ceil(run.last_step / run.steps_per_epoch / run.args.knn_every)
    knn = evaluations * (len(images.labelled) + len(images.test)) / batch
    total = seconds * (3 * run.last_step + knn)  # a backward pass costs two forward passes
    eager = ", not compiled" * run.args.compile
    print(f"this will take about {tqdm.format_interval(total)}, estimated from one batch{eager}")


# ------------------------------------------------------------------------------------------------
# Signals.


@contextlib.contextmanager
def signal_handler(handler):
    """A context in which Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) call a function."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers
        return
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = {number: signal.getsignal(number) for number in numbers}
    # A shell starts background jobs with Ctrl-C ignored, so that it stops the foreground job only,
    # and nohup ignores SIGHUP.
    caught = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def interrupt(number, _):
    raise KeyboardInterrupt(number)


@contextlib.contextmanager
def interruptions():
    """A context in which the first signal only goes into a list; yields the list.

    So the caller can finish the current step and save. The second one raises KeyboardInterrupt,
    but not under torchrun, which forwards signals that the system may have sent already.
    """
    received, alone = [], "TORCHELASTIC_RUN_ID" not in os.environ

    def receive(number, _):
        if received and (number == signal.SIGHUP or not alone):
            return  # SIGHUP: the system and the shell both send it
        if received:
            raise KeyboardInterrupt(number)
        received.append(number)
        if alone:
            # Not print(): a signal may arrive in the middle of another print(), which would raise.
            with contextlib.suppress(OSError):
                os.write(2, b"\nstopping after this step or evaluation; a second signal stops"
                            b" at once\n")

    with signal_handler(receive):
        yield received


# ------------------------------------------------------------------------------------------------
# Errors.


def plain_errors(main):
    """A decorator of a main(): it ends with one plain line where a traceback would help nobody."""

    @functools.wraps(main)
    def guarded(*args, **kwargs):
        protect_streams()
        try:
            with signal_handler(interrupt):
                return main(*args, **kwargs)
        except KeyboardInterrupt as stop:
            number = signal.Signals(*stop.args or [signal.SIGINT])
            print(f"\n{number.name}: interrupted; what was saved before is intact", file=sys.stderr)
            raise SystemExit(128 + number) from None
        except Exception as error:
            line = explain(error)
            if not line:
                raise  # a bug in the program, which needs a traceback to fix
            raise SystemExit(line) from None

    return guarded


def explain(error):
    """One line on an error that is not the program's fault; None for any other."""
    reason = " ".join(str(error).split()) or type(error).__name__
    # "an illegal memory access" of a GPU is another matter, and a bug.
    full = re.search("(out of|not enough|allocate) memory", reason)
    if isinstance(error, MemoryError) or isinstance(error, RuntimeError) and full:
        return f"not enough memory ({reason[:200]}): choose a smaller network, batch or image size"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else reason
    if isinstance(error, (UnicodeError, RecursionError)) or "embedded null" in reason:
        return f"a name that cannot be used ({reason[:200]}): choose another"
    if isinstance(error, NotImplementedError) and reason.startswith("exercise "):
        return reason  # a function that a student has still to write: see exercises/make.py
    return None
