"""Folders of photographs: PATH/train/CLASS/IMAGE and PATH/test/CLASS/IMAGE, or val/ for test/.

PATH/unlabelled/ may hold further training images, without labels, in any folders below it. If there
is nothing else, there is no kNN accuracy and no linear probe.

read_folder() does everything; the rest of the file follows its order: list the files, choose the
sizes, decode the files on all cores. The decoded images stay in the folder, so that the next start
takes seconds: see cache.py.
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
import statistics
import sys
import threading
import warnings

import torch
from tqdm import tqdm

from utils import cache
from utils.console import counted

# The formats of IMG_EXTENSIONS. PIL looks at the contents, not at the name, and starts other
# programs for some formats: a PostScript file called x.jpg would run in Ghostscript.
FORMATS = "JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP"


def read_folder(path, image_size=None, skip_bad=False, stored_size=None):
    """All images of a folder, as the parts of a Data.

    train, test: (N, 3, C, C) uint8, mapped from the cache   labels: int64; the unlabelled images
    come last in train and have none   classes: the sorted folder names   view_size: S
    names: the file names of train and of test
    image_size, stored_size: S and C in pixels; by default as in default_sizes()
    skip_bad: leave out files that cannot be decoded, instead of stopping
    SystemExit: in one line, what is wrong and what to do
    """
    # A worker that runs a script without a guard (see START) would wait here for its own parent.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(1)
    path = pathlib.Path(path)
    train_files, test_files, classes = list_splits(path)
    files, n_train = train_files + test_files, len(train_files)
    S, C = default_sizes(files, image_size, stored_size)
    decode_from = lambda k: decode_all([entry.path for entry, _ in files], C, k)
    cached = cache.read_or_fill(path, fingerprint(path, files), len(files), C, decode_from)
    labels = torch.tensor([label for _, label in files])
    names = [os.path.relpath(entry.path, path) for entry, _ in files]
    if cached.bad:
        i, reason = cached.bad[0]
        if not skip_bad:
            raise SystemExit(f"{len(cached.bad)} of {len(files)} files cannot be decoded; the first"
                             f" is {files[i][0].path!r} ({reason}): repair or remove them, or leave"
                             " them out with --skip-bad-images")
        good = torch.ones(len(files), dtype=torch.bool)
        good[[i for i, _ in cached.bad]] = False
        labels, n_train = labels[good], int(good[:n_train].sum())
        names = [name for name, kept in zip(names, good) if kept]
        print(f"{path}: left out {counted(len(cached.bad), 'file')} that cannot be decoded")
    if not n_train:
        raise SystemExit(f"{path}: no training image can be decoded; repair some")
    train_labels, test_labels = (of[of >= 0] for of in (labels[:n_train], labels[n_train:]))
    for split in (train_labels, test_labels):
        if len(split.unique()) < len(classes):
            raise SystemExit(f"{path}: no image of one of the classes can be decoded; repair some,"
                             " or remove the class from both splits")
    images = cached.images()
    return (images[:n_train], train_labels, images[n_train:], test_labels, classes, S,
            cached, (names[:n_train], names[n_train:]))


# ------------------------------------------------------------------------------------------------
# Listing the files. A file is a pair: its os.DirEntry, which holds path and status, and its label,
# the number of its class in alphabetical order, or -1 if it has none.


def list_splits(path):
    """The files of train/ and unlabelled/, those of test/ or val/, and the classes.

    The classes must be the same in train/ and test/.
    """
    unlabelled = list_unlabelled(path)
    if unlabelled and not any((path / split).is_dir() for split in ("train", "test", "val")):
        return unlabelled, [], []
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
    return train_files + unlabelled, test_files, classes


def list_split(split):
    """The files of a folder of class folders, sorted by class and name, and the class names."""
    if not split.is_dir():
        raise SystemExit(f"{split}: no such folder; put labelled images into train/CLASS/ and"
                         " test/CLASS/, or only unlabelled ones into unlabelled/")
    # Names that start with a dot, such as .ipynb_checkpoints, belong to the system or an editor.
    classes = sorted(e.name for e in os.scandir(split)
                     if os.path.isdir(e.path) and not e.name.startswith("."))
    if not classes:
        raise SystemExit(f"{split}: no class folders; put the images of each class into a folder")
    files, other = [], []
    for label, name in enumerate(classes):
        entries = [e for e in os.scandir(split / name) if not e.name.startswith(".")]
        images = [e for e in entries if is_image(e)]
        other += {*entries} - {*images}
        if not images:
            raise SystemExit(f"{split / name}: no images directly in it; remove the folder or put"
                             " some into it")
        # Disks list files in different orders, which would change the batches of a run.
        files += [(image, label) for image in sorted(images, key=lambda e: e.name)]
    folders = sorted(e.path for e in other if e.is_dir())
    if folders:
        print(f"{split}: left out {counted(len(folders), 'folder')} inside class folders, such as"
              f" {folders[0]}")
    print_left_out(split, len(other) - len(folders))
    return files, classes


def list_unlabelled(path):
    """The files of unlabelled/, or unlabeled/, and of all folders below it, sorted by path."""
    found = [path / name for name in ("unlabelled", "unlabeled") if os.path.lexists(path / name)]
    if len(found) > 1:
        raise SystemExit(f"{path}: has both unlabelled/ and unlabeled/; move all images into one of"
                         " them")
    if not found:
        return []
    split, entries = found[0], list(walk(found[0]))
    images = [(e, -1) for e in sorted(entries, key=lambda e: e.path) if is_image(e)]
    if not images:
        raise SystemExit(f"{split}: no images in it; remove it or put some into it")
    print_left_out(split, len(entries) - len(images))
    return images


def walk(folder):
    """All files in a folder and below it, through links to folders, too; each folder only once."""
    waiting, seen = [folder], set()
    while waiting:
        here = waiting.pop()
        if (real := os.path.realpath(here)) not in seen:  # links may lead in circles
            seen.add(real)
            entries = [e for e in os.scandir(here) if not e.name.startswith(".")]
            inner = [e for e in entries if os.path.isdir(e.path)]
            # Sorted, so that a folder with two links is always listed under the same one.
            waiting += sorted((e.path for e in inner), reverse=True)
            yield from {*entries} - {*inner}


def is_image(entry):
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return entry.name.lower().endswith(IMG_EXTENSIONS)


def print_left_out(split, n):
    """Say how many files are left out because of their names, if there are any."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if n:
        print(f"{split}: left out {counted(n, 'file')} with none of the endings"
              f" {' '.join(IMG_EXTENSIONS)}")


def fingerprint(path, files):
    """A digest of all files: their names below path, sizes, and times of last change."""
    # Not of their contents: every start would have to read the whole folder.
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


# ------------------------------------------------------------------------------------------------
# Sizes: views have S px and are cropped from photographs that are kept at C px.


def default_sizes(files, image_size, stored_size):
    """S and C. S is by default the images' own size, at most 224; C is 8/7 of S, or what they have.

    Up to 64 px C is S, and it is never less. SystemExit: C is smaller than S
    """
    native = native_size(files)
    S = image_size or min(native, 224)
    # The official code evaluates photographs of 256 px at 224 px. A view that shows 20 % of the
    # area then has 114 true pixels along its side, not 100, for a third more memory.
    C = stored_size or (max(S, min(native, round(S * 8 / 7))) if S > 64 else S)
    if C < S:
        raise SystemExit(f"--stored-size {C}: must be at least --image-size, {S}")
    return S, C


def native_size(files):
    """The median shorter side of at most a hundred of the images."""
    from PIL import Image

    sides = []
    for entry, _ in files[:: math.ceil(len(files) / 100)]:
        with contextlib.suppress(Exception):  # decode() will say which file and why
            if os.path.isfile(entry.path):  # opening a pipe would wait for ever
                with Image.open(entry.path, formats=FORMATS) as image:  # reads the header only
                    sides.append(min(image.size))
    return statistics.median_high(sides or [224])


# ------------------------------------------------------------------------------------------------
# Decoding.

# Without fork, as on macOS and by default since Python 3.14, each worker would import torch again
# and run the user's script, down to `if __name__ == '__main__':`, before it decodes.
START = "fork" if sys.platform == "linux" else None
UNGUARDED = "; if your script has no `if __name__ == '__main__':`, add it" * (START is None)


def decode_all(paths, size, first=0):
    """Decode image files on all cores, from number `first` on: yields what decode() returns."""
    with contextlib.ExitStack() as stack:
        try:
            # Processes, not threads: a file that crashes the decoder or exhausts the memory kills
            # only a worker, raising an exception here. A thread would take the whole program with
            # it.
            pool = start_workers(len(paths) - first)
            stack.callback(pool.shutdown, cancel_futures=True)  # also if a signal ends the loop
            decode_some = lambda some: pool.map(decode, some, itertools.repeat(size), chunksize=16)
        except (OSError, NotImplementedError, RuntimeError, AssertionError):
            # There is no shared memory (/dev/shm may be read-only or full), the system allows no
            # more processes or threads, or this process is itself a worker, which may start none.
            decode_some = lambda some: map(decode, some, itertools.repeat(size))
        # Not all at once: results that are waiting to be written would fill the memory.
        some = (paths[k : k + cache.CHUNK] for k in range(first, len(paths), cache.CHUNK))
        results = itertools.chain.from_iterable(map(decode_some, some))
        try:
            yield from tqdm(results, "decoding", len(paths), initial=first, unit=" images",
                            mininterval=1, disable=None)
        except concurrent.futures.process.BrokenProcessPool:
            raise SystemExit("decoding was killed, probably because memory ran out: choose a"
                             " smaller --image-size, or remove huge images" + UNGUARDED)


def start_workers(n):
    """A pool of processes for n files: one for each core, or fewer if the files are few.

    If not all can be started, those already running are ended and the error is raised.
    """
    # Cores that this process may use: a cluster's job has only some of the machine's.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = concurrent.futures.ProcessPoolExecutor(
        min(cores, math.ceil(n / 16)), multiprocessing.get_context(START), prepare_worker)
    others = multiprocessing.active_children()
    try:
        pool.submit(int)  # starts them
    except BaseException:
        # A pool that has only partly started cannot be shut down: Python would wait for its
        # workers.
        for worker in {*multiprocessing.active_children()} - {*others}:
            worker.terminate()
        raise
    return pool


def prepare_worker():
    """Leave signals to the parent, end with it however it ends, and hide PIL's warnings."""
    # The terminal sends Ctrl-C to the parent and to all workers, and each would print its own
    # traceback. The parent ends them anyway, by SIGTERM if necessary.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A worker whose parent is killed would wait for work for ever; here join() returns instead.
    wait = lambda: (multiprocessing.parent_process().join(), os._exit(1))
    threading.Thread(target=wait, daemon=True).start()
    # PIL warns of oddities, such as damaged EXIF data, in images that it can decode.
    warnings.simplefilter("ignore")


def decode(path, size):
    """The central square of an image file, resized: (size, size, 3) uint8 array in RGB.

    If the file cannot be decoded, the reason as a string: an exception would end pool.map().
    here: views are later cropped from this square; the paper crops them from the whole image.
    """
    import numpy
    from PIL import Image, ImageOps

    try:
        if not os.path.isfile(path):  # opening a pipe would wait for ever
            return "it is not a file"
        with Image.open(path, formats=FORMATS) as image:
            # PIL stretches the levels of a PGM with more than 8 bits to 16 bits.
            pgm = image.format == "PPM" and image.mode == "I"
            sixteen_bits = pgm or image.mode.startswith("I;16")
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, much faster than in full. PIL
            # takes the smallest whose sides are still twice as long as needed, so that the resizing
            # below has something to average. draft() leaves other formats as they are.
            image.draft("RGB", (2 * size, 2 * size))
            # Cameras store the pixels as the sensor sees them, and the rotation in EXIF.
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
