"""Folders of photographs: PATH/train/CLASS/IMAGE and PATH/test/CLASS/IMAGE, or val/ for test/.

read_folder() does everything; the rest of the file is in the order in which it needs it: list the
files, decode them on all cores, and cache the result in the folder, so that the next start takes
seconds. What it returns are plain tensors; data.py wraps them in its class Data.
"""

import concurrent.futures
import contextlib
import hashlib
import itertools
import math
import multiprocessing
import os
import pathlib
import signal
import threading
import warnings

import torch
from tqdm import tqdm

# Those of IMG_EXTENSIONS. PIL looks at the contents, not at the name, and would start another
# program for some others: a PostScript file called x.jpg would run in Ghostscript.
FORMATS = "JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP"


def read_folder(path, image_size=None, skip_bad=False):
    """All images of a folder: train, train_labels, test, test_labels, classes, (names, test names).

    train, test: (N, 3, S, S) uint8   labels: (N,) int64   classes: the sorted folder names
    image_size: S in pixels; by default the size of the images, 224 at most
    skip_bad: leave out files that cannot be decoded   SystemExit: in one line, what is wrong and
    what to do, also for the first such file without skip_bad
    """
    path = pathlib.Path(path)
    train_files, test_files, classes = list_splits(path)
    files, n_train = train_files + test_files, len(train_files)
    size = image_size or native_size(files)
    check_memory(len(files), size)
    images, bad = decode_or_cached(path, files, size, skip_bad)
    labels = torch.tensor([label for _, label in files])
    names = [os.path.relpath(entry.path, path) for entry, _ in files]
    if bad:
        good = torch.ones(len(files), dtype=torch.bool)
        good[[i for i, _ in bad]] = False
        images, labels, n_train = images[good], labels[good], int(good[:n_train].sum())
        names = [name for name, kept in zip(names, good) if kept]
        print(f"{path}: left out {len(bad)} files that cannot be decoded")
    for split in (labels[:n_train], labels[n_train:]):
        if len(split.unique()) < len(classes):
            raise SystemExit(f"{path}: no image of one of the classes can be decoded; repair some,"
                             " or remove the class from both splits")
    return (images[:n_train], labels[:n_train], images[n_train:], labels[n_train:], classes,
            (names[:n_train], names[n_train:]))


# ------------------------------------------------------------------------------------------------
# Listing the files. A file is a pair: its os.DirEntry, which remembers path and status, and its
# label, the number of its class in alphabetical order.


def list_splits(path):
    """The files of train/ and of test/ or val/, and the classes, which must be the same in both."""
    train_files, classes = list_split(path / "train")
    test = path / ("test" if (path / "test").is_dir() or not (path / "val").is_dir() else "val")
    test_files, test_classes = list_split(test)
    if test_classes != classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise SystemExit(f"{path}: the class {odd!r} is in only one of train/ and {test.name}/; add"
                         " it to the other, or remove it")
    if len(classes) < 2:
        raise SystemExit(f"{path}: only one class, {classes[0]!r}; kNN and the linear probe need at"
                         " least two")
    return train_files, test_files, classes


def list_split(split):
    """The files of a folder of class folders, sorted by class and name, and the class names."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not split.is_dir():
        raise SystemExit(f"{split}: no such folder; images are looked for in train/CLASS/ and"
                         " test/CLASS/")
    # Names with a dot in front belong to the system or to an editor, such as .ipynb_checkpoints.
    classes = sorted(e.name for e in os.scandir(split)
                     if os.path.isdir(e.path) and not e.name.startswith("."))
    if not classes:
        raise SystemExit(f"{split}: no class folders; put the images of each class into a folder")
    files, other = [], 0
    for label, name in enumerate(classes):
        entries = [e for e in os.scandir(split / name) if not e.name.startswith(".")]
        images = [e for e in entries if e.name.lower().endswith(IMG_EXTENSIONS)]
        other += len(entries) - len(images)
        if not images:
            raise SystemExit(f"{split / name}: no images; remove the folder or put some into it")
        # The disk lists files in an order of its own, which would change the batches of a run.
        files += [(image, label) for image in sorted(images, key=lambda e: e.name)]
    if other:
        print(f"{split}: left out {other} files whose names do not end in one of"
              f" {' '.join(IMG_EXTENSIONS)}")
    return files, classes


def native_size(files, largest=224):
    """The median shorter side of about a hundred of the images, but at most `largest`."""
    from PIL import Image

    sides = []
    for entry, _ in files[:: math.ceil(len(files) / 100)]:
        with contextlib.suppress(Exception):  # decode() will say which file and why
            if os.path.isfile(entry.path):  # opening a pipe would wait for ever
                with Image.open(entry.path, formats=FORMATS) as image:  # reads the header only
                    sides.append(min(image.size))
    sides.sort()
    return min(largest, sides[len(sides) // 2]) if sides else largest


def check_memory(n, size):
    """Refuse n images that would take more than half of the machine's memory."""
    # Half, because training needs memory too. Without this check the system would kill the
    # process, or start to swap, after minutes of decoding and without a word about the reason.
    needed, has = 3 * n * size**2, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > has / 2:
        raise SystemExit(f"{n} images of {size} px take {needed / 1e9:.0f} GB, over half of this"
                         " machine's memory: choose a smaller --image-size, or fewer images")


# ------------------------------------------------------------------------------------------------
# Decoding.


def decode_all(paths, size):
    """Decode image files on all cores: images (n, 3, size, size) uint8, and a list of failures.

    A failure is a pair (number of the file, reason); its image stays black.
    """
    images, bad = torch.zeros(len(paths), 3, size, size, dtype=torch.uint8), []
    with contextlib.ExitStack() as stack:
        try:
            # Processes, not threads: a file that crashes the decoder, or exhausts the memory, kills
            # only a worker, and that is an exception here. A thread would take the whole program
            # with it.
            pool = concurrent.futures.ProcessPoolExecutor(initializer=prepare_worker)
            stack.callback(pool.shutdown, cancel_futures=True)  # also if a signal ends the loop
            arrays = pool.map(decode, paths, itertools.repeat(size), chunksize=32)
        except OSError:  # no shared memory: /dev/shm may be read-only or full
            arrays = map(decode, paths, itertools.repeat(size))
        bar = tqdm(arrays, "decoding", len(paths), unit=" images", mininterval=1, disable=None)
        try:
            for i, array in enumerate(bar):
                if isinstance(array, str):
                    bad.append((i, array))
                else:
                    images[i] = torch.from_numpy(array).permute(2, 0, 1)  # (3, size, size)
        except concurrent.futures.process.BrokenProcessPool:
            raise SystemExit("decoding was killed, probably because memory ran out: choose a"
                             " smaller --image-size, or remove huge images")
    return images, bad


def prepare_worker():
    """Leave signals to the parent, end with it however it ends, and hide PIL's warnings."""
    # The terminal sends Ctrl-C to the parent and to all workers; each of them would print a
    # traceback of its own. The parent ends them anyway: by SIGTERM, if need be.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # If its parent was killed, a worker would wait for work for ever; but then join() returns.
    wait = lambda: (multiprocessing.parent_process().join(), os._exit(1))
    threading.Thread(target=wait, daemon=True).start()
    # PIL warns of oddities, such as damaged EXIF data, in images that it decodes all the same.
    warnings.simplefilter("ignore")


def decode(path, size):
    """The central square of an image file, resized: (size, size, 3) uint8 array in RGB.

    If the file cannot be decoded, the reason as a string: an exception would end the whole map.
    here: views are later cropped from this square; the paper crops them from the whole image.
    """
    import numpy
    from PIL import Image, ImageOps

    try:
        if not os.path.isfile(path):  # opening a pipe would wait for ever
            return "it is not a file"
        with Image.open(path, formats=FORMATS) as image:
            # PIL stretches the levels of a PGM with more than 8 bits to those of 16.
            pgm = image.format == "PPM" and image.mode == "I"
            sixteen_bits = pgm or image.mode.startswith("I;16")
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, much faster than in full. PIL
            # takes the smallest that still has twice the pixels needed, so that the resizing below
            # has something to average. draft() leaves other formats as they are.
            image.draft("RGB", (2 * size, 2 * size))
            # Cameras store the pixels as the sensor lies, and in EXIF how to turn them upright.
            # Without this line, portrait photographs would lie on their sides.
            image = ImageOps.exif_transpose(image)
            if image.mode in ("I", "F") and not sixteen_bits:
                return f"the brightest value is not known in mode {image.mode}"
            if sixteen_bits:  # convert() would clip its values at 255
                image = Image.fromarray((numpy.asarray(image) >> 8).astype(numpy.uint8))
            image = image.convert("RGB")
            return numpy.array(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # PIL raises half a dozen kinds
        return " ".join(str(error).split()) or type(error).__name__


# ------------------------------------------------------------------------------------------------
# The cache: a file of torch.save in the folder itself, one for each image size.


def decode_or_cached(path, files, size, skip_bad):
    """What decode_all() returns, from the cache if no file has changed since."""
    cache, digest = path / f".simsiam-{size}px.pt", fingerprint(path, files)
    cached = read_cache(cache, digest, len(files), size)
    images, bad = cached or decode_all([entry.path for entry, _ in files], size)
    if bad and not skip_bad:
        i, reason = bad[0]
        raise SystemExit(f"{len(bad)} of {len(files)} files cannot be decoded; the first is"
                         f" {files[i][0].path!r} ({reason}): repair or remove them, or leave them"
                         " out with --skip-bad-images")
    if not cached:
        write_cache(cache, digest, images, bad)
    return images, bad


def fingerprint(path, files):
    """A digest of the names, below path, the sizes and the times of last change of all files."""
    # Not of the contents: every start would have to read the whole folder.
    lines = []
    for entry, _ in files:
        try:
            status = entry.stat()
            status = status.st_size, status.st_mtime_ns
        except OSError as error:  # decode() will say which file and why
            status = error.errno
        lines.append(f"{os.path.relpath(entry.path, path)}\0{status}\n")
    # surrogateescape: on Linux a file's name may be any bytes, not only valid UTF-8
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_cache(cache, digest, n, size):
    """What decode_all() returned, from an intact cache file with this digest; else None."""
    try:
        if cache.is_symlink() or not cache.is_file():  # opening a pipe would wait for ever
            return None
        # mmap: the images are read from the file when they are used, not all at once.
        # weights_only: the cache may have come with a downloaded folder, and an ordinary pickle
        # can run any code while it is loaded.
        saved = torch.load(cache, mmap=True, weights_only=True)
        images, bad = saved["images"], saved["bad"]
        fits = (images.shape == (n, 3, size, size) and images.dtype == torch.uint8
                and all(i in range(n) and isinstance(reason, str) for i, reason in bad))
        # The disk may have changed what it holds, and anybody may have written the rest.
        intact = saved["digest"] == digest and fits and saved["sum"] == checksum(images)
        return (images, bad) if intact else None
    except Exception:  # missing, truncated, not a cache at all: decode again
        return None


def checksum(images):
    return hashlib.sha256(images.numpy()).hexdigest()


def write_cache(cache, digest, images, bad):
    """Write a cache file atomically; if the folder cannot be written to, say so and do without."""
    # Not runs.atomic_write(): the bytes it takes would be a second copy of all images in memory.
    # The process's number keeps two runs that start together from writing to the same file.
    part = cache.with_suffix(f".{os.getpid()}")
    try:
        part.unlink(missing_ok=True)  # of a killed process with the same number
        for leftover in cache.parent.glob(f"{cache.stem}.*"):
            if leftover.suffix[1:].isdigit() and not is_running(int(leftover.suffix[1:])):
                leftover.unlink()  # its writer was killed
        with open(part, "xb") as file:  # x: a link is not followed
            torch.save({"digest": digest, "images": images, "bad": bad, "sum": checksum(images)},
                       file)
        os.replace(part, cache)
    except (OSError, RuntimeError) as error:
        print(f"no cache: cannot write to {cache.parent} ({error}); the next start decodes again")
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def is_running(process):
    try:
        os.kill(process, 0)  # only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
