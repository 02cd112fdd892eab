"""Check an exercise in your copy: the first law that your functions break, with an example.

    python exercises/check.py 3        exercise 3
    python exercises/check.py          all exercises, one line each
"""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import textwrap

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the laws use small tensors
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from exercises import exercise
from utils.console import plain_errors

SECONDS = 20  # for one exercise; the laws themselves take about one


@contextlib.contextmanager
def time_limit():
    """A context that raises OutOfTime if its block takes too long."""

    def stop(*_):
        raise exercise.OutOfTime(f"your function did not return within {SECONDS:g} s: an"
                                 " endless loop?")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def outcome(number):
    with time_limit():
        return exercise.outcome(number)


def check(number):
    """Print the result of one exercise; returns whether it passes."""
    status, text = outcome(number)
    print(f"Exercise {number}, {exercise.title(number)}: {status}.")
    for line in text.splitlines():
        print(textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="  "))
    if status != "passed":
        print(textwrap.fill(f"Read: {exercise.about(number).READ}", 80, subsequent_indent="  "))
    else:
        if number in exercise.HAVE_HIDDEN_LAWS and f"hidden_{number}" not in exercise.MODULES:
            print("  The grader has further laws.")
        print(f'Next: "Then run" in {exercise.within(exercise.sheet(number))}')
    return status == "passed"


@plain_errors
def main(argv=None):
    every = exercise.numbers()
    p = argparse.ArgumentParser(description="Check an exercise: print the first broken law.")
    p.add_argument("number", nargs="?", type=int, choices=every, metavar="N",
                   help=f"one of {', '.join(map(str, every))} (default: one line for each)")
    number = p.parse_args(argv).number
    if number is not None:
        sys.exit(0 if check(number) else 1)
    for number in every:
        status, _ = outcome(number)
        print(f"{number:3}  {exercise.title(number):50}  {status}", flush=True)


if __name__ == "__main__":
    main()
