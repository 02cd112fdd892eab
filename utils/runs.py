"""The run folder: the files that a run leaves, and how they survive kills and full disks.

    config.json      the options in effect, for people; --resume reads those in checkpoint.pt
    checkpoint.pt    weights, momentum, random state, step (see checkpoint.py): on a CPU, a run
                     resumed from it ends bit for bit as if it had never stopped
    metrics.jsonl    one JSON object per epoch; epoch 0 is the network at the start, and has the
                     kNN accuracy of raw pixels, too
    views.png        some images above two views of each
    curves.png       loss, std, kNN accuracy and rank by epoch
    lineval.json     what lineval.py measured; on other data or with a share of the labels:
                     lineval-*.json
    .simsiam-lock    locked while a run uses the folder; always empty

Every file is written atomically, so it is always complete. A kill or a full disk costs no more
than the steps since the last checkpoint, and after a power cut each file is there, with or
without its last change. A damaged or hostile checkpoint is refused. Linux and macOS only (flock).
"""

import contextlib
import fcntl
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import stat
import subprocess
import zipfile

import torch

from utils import parallel

# ------------------------------------------------------------------------------------------------
# The folder.


@contextlib.contextmanager
def lock_run_dir(args):
    """A context in which the run folder exists and no other run can use it; yields its path.

    The folder is --out, or else the first of runs/DATA, runs/DATA-2, ... that does not exist yet
    (for another method runs/DATA-METHOD, and so on).
    SystemExit: it cannot be made, another process trains in it, or --resume is not given and it
    holds a run or other files already
    """
    if parallel.rank():  # rank 0 has the folder
        yield pathlib.Path(args.out or "")
        return
    out = make_run_dir(args)
    checkpoint = out / "checkpoint.pt"
    if not args.resume and not os.path.exists(checkpoint) and not is_ours(out):
        raise SystemExit(f"--out {out}: holds files that are not those of a run; choose another"
                         " folder")

    def refuse():
        raise SystemExit(f"--out {out}: another run is training there; choose another folder")

    with locked(out, refuse):
        # Under the lock, so that of two runs started at once the second sees what the first did.
        if not args.resume and os.path.exists(checkpoint):
            raise SystemExit(f"--out {out}: holds a run; continue it with --resume, or choose"
                             " another folder")
        LOCKED[out] = os.stat(out)
        try:
            yield out
        finally:
            del LOCKED[out]


@contextlib.contextmanager
def locked(folder, busy):
    """A context in which no other process is in such a context with the same folder.

    busy: called if one is; if it returns, wait for the other process
    """
    with contextlib.ExitStack() as stack:
        try:
            lock = open_lock(folder)
            stack.callback(os.close, lock)
            # flock, not a file with the process's number in it: the system releases the lock when
            # the process ends, however it ends. A number left behind by a killed run would have to
            # be removed by hand, and might by then belong to another process.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # no locks, or no new files, in this file system: go on unprotected
            pass
        yield


def open_lock(folder):
    """The descriptor of the hidden file by which a folder is locked."""
    # Other machines would not see a lock on the folder itself if it is on NFS, nor one on a file
    # that is open only for reading.
    path, flags = folder / ".simsiam-lock", os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's
        return os.open(path, flags | os.O_RDONLY)


LOCKED = {}  # the folders that runs of this process use: name -> status of the folder itself


def is_ours(out):
    """Whether a folder is empty, or holds a run that was killed before its first checkpoint."""
    if {name for name in os.listdir(out) if name[0] != "."} <= {"config.json.part"}:
        return True
    try:
        return "data_digest" in json.loads(read_regular(out / "config.json"))
    except (OSError, ValueError, TypeError, RecursionError):  # none, or somebody else's
        return False


def make_run_dir(args):
    """Make the run folder; returns its path."""
    if args.out:
        names = [args.out]
    else:
        name = os.path.basename(os.path.abspath(args.data))
        if args.method != "simsiam":
            name += f"-{args.method}"
        elif args.stopgrad is False:
            name += "-no-stopgrad"
        name = "runs/" + re.sub(r"[^\w.-]+", "-", name)
        names = [name, *(f"{name}-{i}" for i in range(2, 1000))]
    for out in names:
        try:
            # Without --out, whoever makes the folder owns it: of two runs only one succeeds.
            os.makedirs(out, exist_ok=bool(args.out))
            break
        except OSError as error:
            if args.out or not os.path.isdir(out):
                raise SystemExit(f"--out {out}: cannot be made ({error.strerror}); choose another"
                                 " folder")
    return pathlib.Path(out)


# ------------------------------------------------------------------------------------------------
# Its files.


def atomic_write(path, content):
    """Write bytes or text to a file so that at every moment it is complete: either old or new."""
    if parallel.rank():
        return  # rank 0 alone writes
    folder = path.parent
    if folder in LOCKED and not (
            folder.exists() and os.path.samestat(LOCKED[folder], os.stat(folder))):
        raise SystemExit(f"{folder}: the folder of this run was moved; nothing is written into"
                         " what is there now")
    try:
        replace_file(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        resume = path.with_name("checkpoint.pt").exists()
        again = "try again (train.py: with --resume)" if resume else "start again"
        raise SystemExit(f"{path}: cannot be written ({error.strerror}); what was there before is"
                         f" intact: make room, or make the folder writable, then {again}")


def replace_file(path, content):
    """Write bytes to a file, as atomic_write() does; OSError: it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)  # a leftover or a link, at which "x" would fail
        with open(part, "xb") as file:
            file.write(content)
            # Renaming is atomic, but a disk may carry it out before it has stored the contents.
            # Without fsync, a power cut in between would leave an empty or half-written file under
            # the real name, and the old one would be gone.
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def read_regular(path):
    """The bytes of a file; OSError for a pipe, which would wait for ever, and for a link."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError("it is a link, a pipe or a device")
    return path.read_bytes()


def write_json(path, content):
    atomic_write(path, json.dumps(content, indent=1) + "\n")


def write_metrics(out, records):
    atomic_write(out / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def read_metrics(out):
    """The records of a run folder, one per epoch."""
    return [json.loads(line) for line in read_regular(out / "metrics.jsonl").splitlines()]


# ------------------------------------------------------------------------------------------------
# The checkpoint: a file of torch.save with a checksum. Such a file is a zip archive, and a zip may
# end with a comment, which readers skip: our comment is the SHA-256 of all bytes before it.

DIGEST = hashlib.sha256().digest_size  # 32 bytes


def write_checkpoint(path, content):
    """torch.save with a checksum; content: a dict of tensors, numbers, strings, lists and dicts."""
    if parallel.rank():
        return  # atomic_write() would write nothing: spare the time and memory of serialising
    file = io.BytesIO()
    torch.save(content, file)
    # In place: a file may have hundreds of megabytes, and copying it takes longer than its SHA-256.
    file.seek(-2, io.SEEK_END)
    file.write(DIGEST.to_bytes(2, "little"))  # the length of the comment, so far 0
    file.write(hashlib.sha256(file.getbuffer()).digest())
    atomic_write(path, file.getbuffer())


def load_checkpoint(path, device="cpu"):
    """What write_checkpoint() wrote, with its tensors on a device.

    path: a run folder or a file   SystemExit: it is missing, damaged, or something else
    """
    path = pathlib.Path(path)
    path = path / "checkpoint.pt" if path.is_dir() else path
    try:
        content = read_regular(path)
        body, digest = content[:-DIGEST], content[-DIGEST:]
        # torch.load does not check what it reads: with one bit flipped on the disk, a weight of 1
        # would become 0.25, and the run would continue from there without a word.
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("its checksum is wrong: it is damaged, or something else")
        saved = load(content, device)
        if not (isinstance(saved, dict) and isinstance(saved.get("config"), dict)
                and isinstance(saved.get("model"), dict)):
            raise ValueError("it lacks config and model")
        bad = [name for name, w in saved["model"].items() if not w.isfinite().all()]
        if bad:
            raise ValueError(f"its {bad[0]} is not finite")
        return saved
    except FileNotFoundError:
        raise SystemExit(f"{path}: no such checkpoint; train.py writes one into its run folder")
    except (MemoryError, PermissionError):
        raise  # plain_errors() has a line for each
    except Exception as error:  # torch raises half a dozen kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SystemExit(f"{path}: not a checkpoint of train.py ({reason}); choose another, or"
                         " start a new run")


def load(content, device="cpu"):
    """The tensors, numbers and containers in the bytes of a file of torch.save.

    ValueError: they would take far more memory or time than their file suggests
    """
    file = io.BytesIO(content)
    if zipfile.is_zipfile(file) and any(e.compress_type for e in zipfile.ZipFile(file).infolist()):
        raise ValueError("it is compressed, which torch.save never does")
    file.seek(0)
    # weights_only: tensors, numbers and containers. An ordinary pickle can run any code while it is
    # loaded, and a file may come from anywhere, a checkpoint with a checksum that fits.
    saved = torch.load(file, map_location=device, weights_only=True)
    for i, part in enumerate(parts(saved)):
        if i == 10**6:
            raise ValueError("it has more than a million parts")
        if isinstance(part, int) and abs(part) >= 2**63:
            raise ValueError("a number in it is too large")
        if torch.is_tensor(part) and part.nbytes > part.untyped_storage().nbytes():
            raise ValueError("a tensor in it is larger than its numbers")
    return saved


def parts(of):
    """A container and all that is in it, however deep; what it holds twice comes twice."""
    yield of
    inner = of.values() if isinstance(of, dict) else of if isinstance(of, (list, tuple)) else ()
    for part in inner:
        yield from parts(part)


@functools.cache
def commit():
    """The commit of this code; "" if it is in no git repository."""
    home = pathlib.Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(home), "rev-parse", "--short", "HEAD"]
    # If this code lies inside another repository, that one's commit does not count.
    only = {**os.environ, "GIT_CEILING_DIRECTORIES": str(home.parent)}
    try:
        return subprocess.run(git, capture_output=True, text=True, env=only).stdout.strip()
    except OSError:  # there is no git
        return ""
