"""Types of options for argparse: functions that turn a word of the command line into a value.

They raise ArgumentTypeError with a reason, which argparse prints; or ValueError, at which argparse
prints that the value is invalid.
"""

import argparse
import pathlib
import re


def positive(text):
    """A whole number from 1 to a billion."""
    if not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and a billion")
    return int(text)


def seed(text):
    """A whole number from 0 to 2³² - 1: of a larger one torch's generator ignores the rest."""
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**32 - 1}")
    return int(text)


def interval(text):
    """"5" for every fifth epoch or "10m" for every ten minutes."""
    if not re.fullmatch(r"[1-9]\d{0,8}m?", text):
        raise argparse.ArgumentTypeError(f"{text} is neither epochs, such as 5, nor minutes, such"
                                         " as 10m")
    return text


def device(text):
    """A device that torch can use on this machine."""
    import torch  # here, so that scripts without such an option start sooner

    if text.startswith("mps"):  # BN silently, for images in the channels_last layout
        raise argparse.ArgumentTypeError("mps: there PyTorch's gradients of BN were wrong and those"
                                         " of pooling crashed (pytorch#175189, #175190); choose"
                                         " cpu")
    try:
        # Compute something: on a GPU that is too old for this torch, empty() would succeed.
        torch.ones(1, device=text).add_(1)
    except Exception as error:  # torch raises half a dozen kinds
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"{text} cannot be used here ({reason}); try cpu")
    return "cpu" if torch.device(text).type == "cpu" else text  # cpu:0 is the same


def ending(suffix):
    """A name with this ending. Another might overwrite a script or run."""
    def name(text):
        if pathlib.Path(text).suffix != suffix:  # ".png" alone has none
            raise argparse.ArgumentTypeError(f"{text} must end in {suffix}, after a name")
        return pathlib.Path(text)

    return name
