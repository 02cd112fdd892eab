"""The run folder: a kill, a full disk or a power cut costs no more than the steps since the last
checkpoint, and a damaged or hostile file is refused.

    config.json      the options in effect, for people; a resumed run reads those in checkpoint.pt
    checkpoint.pt    weights, momentum, random state, step: a run resumed from it ends bit for bit
                     (on a CPU) as if it had never stopped
    metrics.jsonl    an object an epoch; epoch 0 is the untrained network
    views.png, curves.png

Every file is whole at every moment: it is written under another name, forced to the disk, and only
then renamed. train.py writes these files, lineval.py and the experiments read them. Linux, macOS.
"""

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import os
import pathlib
import re
import signal
import time

import torch

# ------------------------------------------------------------------------------------------------
# The folder.


@contextlib.contextmanager
def claimed(args):
    """Make the folder, --out or the first free one of runs/, and keep other runs out of it.

    SystemExit: it cannot be written to, another process trains in it, or it holds a run (which
    --resume goes on with). The lock goes with the process, however that ends.
    """
    name = os.path.basename(os.path.abspath(args.data))
    if args.method != "simsiam":
        name += f"-{args.method}"
    elif args.stopgrad is False:
        name += "-no-stopgrad"
    name = "runs/" + re.sub(r"[^\w.-]+", "-", name)
    names = [args.out] if args.out else [name, *(f"{name}-{i}" for i in range(2, 1000))]
    for out in names:
        try:
            os.makedirs(out, exist_ok=bool(args.out))
            break
        except OSError as error:
            if args.out or not os.path.isdir(out):
                raise SystemExit(f"--out {out}: cannot be made ({error.strerror}); name another")
    lock = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"--out {out}: another run is training there; name another")
    except OSError:  # a file system without locks
        pass
    try:
        if not args.resume and os.path.exists(os.path.join(out, "checkpoint.pt")):
            raise SystemExit(f"--out {out}: holds a run; --resume goes on with it, or name another")
        yield pathlib.Path(out)
    finally:
        os.close(lock)


def write_whole(path, content):
    """Put bytes or text into a file at once or not at all, even if the power fails."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise SystemExit(f"{path}: cannot be written ({error.strerror}); what was written before is"
                         " whole, and --resume can go on from it")


def write_json(path, content):
    write_whole(path, json.dumps(content, indent=1) + "\n")


def write_metrics(out, records):
    write_whole(out / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def read_metrics(out):
    """The records of a run folder, an object an epoch."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------
# The checkpoint: a file of torch.save whose zip comment, which torch passes over, is its SHA-256.

DIGEST = hashlib.sha256().digest_size  # 32 bytes


def write_checkpoint(path, content):
    """torch.save with a checksum; content: a dict of tensors, numbers, strings, lists and dicts."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getvalue()[:-2] + DIGEST.to_bytes(2, "little")  # a zip ends with its comment's
    write_whole(path, body + hashlib.sha256(body).digest())  # length, which was 0, and the comment


def load_checkpoint(path, device="cpu"):
    """What write_checkpoint() wrote; weights_only, so that a file from elsewhere runs no code.

    path: a run folder or a file   SystemExit: it is missing, damaged, or something else
    """
    path = pathlib.Path(path)
    path = path / "checkpoint.pt" if path.is_dir() else path
    try:
        content = path.read_bytes()
        body, digest = content[:-DIGEST], content[-DIGEST:]
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("it is damaged, or something else: its checksum does not fit")
        saved = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if not (isinstance(saved, dict) and {"config", "model"} <= saved.keys()):
            raise ValueError("it lacks config and model")
        return saved
    except FileNotFoundError:
        raise SystemExit(f"{path}: no such checkpoint; train.py writes one into its run folder")
    except Exception as error:  # torch raises half a dozen kinds
        raise SystemExit(f"{path}: no checkpoint of train.py ({str(error).splitlines()[0]})")


# ------------------------------------------------------------------------------------------------
# When to save, and when to stop.


def interval(text):
    """An argparse type, "5" for every fifth epoch or "10m" for every ten minutes."""
    if not re.fullmatch(r"[1-9]\d*m?", text):
        raise argparse.ArgumentTypeError(f"{text} is neither epochs, as 5, nor minutes, as 10m")
    return text


def is_due(every, epoch, saved_at):
    """Whether to save: epoch: the one that has just ended, None within one; saved_at: when last."""
    if every.endswith("m"):
        return time.time() - saved_at >= 60 * int(every[:-1])
    return epoch is not None and epoch % int(every) == 0


@contextlib.contextmanager
def interruptions():
    """A list that collects Ctrl-C and SIGTERM, so that the step in hand can be finished first."""
    noted = []

    def note(number, _):
        if noted:
            raise KeyboardInterrupt
        noted.append(number)
        os.write(2, b"\nstopping after this step, or the kNN; the next signal stops at once\n")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heeded:  # a shell's background job ignores Ctrl-C, and shall
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number in heeded:
            signal.signal(number, before[number])


# ------------------------------------------------------------------------------------------------


def line(i, n):
    """How the i-th of n lines of a figure is drawn: they differ in print without colours too."""
    from matplotlib import cm

    return dict(color=cm.viridis(0.85 * i / max(1, n - 1)), marker="osv^DxP*"[i % 8], markersize=4,
                linestyle=("-", "--", ":", "-.")[i % 4])


def plot(columns, width):
    """An empty figure of panels side by side, drawn into a file: figure, axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(width, 3), layout="constrained")


def write_figure(figure, path):
    """Put a figure, with a legend of its first panel's lines if it has some, into a PNG file."""
    from matplotlib import pyplot

    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)
    write_whole(path, picture.getvalue())


def plot_curves(path, runs, dim):
    """Draw the panels of Fig. 2 and the effective rank; runs: {label: records}; dim: d, or 0."""
    panels = {  # key of the records: title, limits of the y axis
        "loss": ("training loss", (-1.05, 0.05)),
        "std": (r"std of $z/\|z\|_2$, times $\sqrt{d}$", (0, 1.05)),
        "knn": ("kNN accuracy (%)", (0, 100)),
        "rank": ("effective rank of $z$" + f" (d = {dim})" * bool(dim), (0, None)),
    }
    figure, axes = plot(4, width=14)
    for i, (label, records) in enumerate(runs.items()):
        for axis, key in zip(axes, panels):
            points = [(r["epoch"], r[key]) for r in records if r[key] is not None]
            axis.plot(*zip(*points), label=label, **line(i, len(runs)))
    for axis, (key, (title, limits)) in zip(axes, panels.items()):
        axis.set(title=title, xlabel="epoch")
        if key != "loss" or axis.get_ylim()[1] < 1:  # the cross-entropy is about ln d
            axis.set(ylim=limits)
        axis.xaxis.get_major_locator().set_params(integer=True)
    write_figure(figure, path)
