"""The cache of a folder of photographs: the decoded images in one file, mapped into memory.

    .simsiam-256px.u8      the images, (n, 3, 256, 256) uint8, one after another
    .simsiam-256px.json    a digest of the folder, the SHA-256 of the images of every 500 files, and
                           which files could not be decoded
    .simsiam-lock          locked while somebody decodes; always empty

A mapped tensor takes no memory of its own: the system reads parts of the file when they are used
and drops them when memory runs short. So a set may be larger than memory, and decoding it takes
constant memory. Interrupted decoding continues where it stopped. A complete cache is never written
to: it is only read, or removed and rebuilt, because another run may have mapped it.

Every start checks all checksums, in one process per machine, at 1.6 GB/s per core (AMD EPYC) if
the disk keeps up: ImageNet kept at 128 px, 65 GB, takes 41 s on one core. (For the digest in a
run's config train.py then reads all images once more.)
"""

import contextlib
import errno
import hashlib
import json
import math
import mmap
import os
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

import torch

from utils import parallel, runs
from utils.console import counted

CHUNK = 500  # files per checksum; after a kill at most this many are decoded again


@dataclass
class Cache:
    """An open file of images and its record."""

    n_files: int
    size: int  # side of the images, in pixels
    file: BinaryIO
    sums: list = field(default_factory=list)  # checksums of the images of each chunk of files
    bad: list = field(default_factory=list)  # [number, reason] of each file that is left out
    mapped: mmap.mmap | None = None  # the images that images() returned last

    @property
    def done(self):
        """How many files have been decoded, or found to be bad."""
        return min(self.n_files, len(self.sums) * CHUNK)

    def images(self):
        """The images that have been decoded, mapped: (n, 3, size, size) uint8."""
        shape = self.done - len(self.bad), 3, self.size, self.size
        if not shape[0]:  # an empty file cannot be mapped
            return torch.empty(shape, dtype=torch.uint8)
        # Read-only and shared: a private mapping, such as torch.load(mmap=True) makes, counts as
        # memory that the process may need, and the system refuses one larger than all its memory.
        self.mapped = mmap.mmap(self.file.fileno(), math.prod(shape), access=mmap.ACCESS_READ)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that the tensor is not writable
            return torch.frombuffer(self.mapped, dtype=torch.uint8).view(shape)

    def is_intact(self):
        """Whether the images are still as they were decoded: disks damage files."""
        bad, images = {i for i, _ in self.bad}, self.images()
        good = [sum(i not in bad for i in range(k, min(k + CHUNK, self.done)))
                for k in range(0, self.done, CHUNK)]
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            return list(pool.map(checksum, images.split(good))) == self.sums

    def read_ahead(self, numbers):
        """Ask the system to read these images; returns before it has."""
        # If all are requested at once, a disk reads them in the order that suits it. Otherwise a
        # step would wait for one image after another, at the first use of each.
        image = 3 * self.size**2
        for i in numbers:
            os.posix_fadvise(self.file.fileno(), i * image, image, os.POSIX_FADV_WILLNEED)


def checksum(images):
    return hashlib.sha256(images.numpy()).hexdigest()


# ------------------------------------------------------------------------------------------------
# Reading and filling it.


def read_or_fill(folder, digest, n_files, size, decode):
    """The Cache of all files of a folder; whatever is missing is decoded first.

    digest: of the files; a cache with another digest is rebuilt
    decode: a function of k that yields, for each file from number k on, a uint8 array (size, size,
    3) or the reason why it cannot be decoded
    """
    path = folder / f".simsiam-{size}px.u8"
    cache = read(path, digest, n_files, size)
    if cache and cache.done == n_files:
        return cache
    waiting = f"{folder}: another process is decoding it; waiting"
    with runs.locked(folder, lambda: print(waiting)):
        try:
            # Another process may have filled it while this one waited for the lock.
            cache = read(path, digest, n_files, size) or Cache(n_files, size, new_file(path))
            if cache.done < n_files:
                fill(cache, decode, lambda record: runs.replace_file(
                    path.with_suffix(".json"), json.dumps(dict(record, digest=digest)).encode()))
            return cache
        except OSError as error:
            if parallel.world_size() > 1:
                raise SystemExit(f"{folder}: the decoded images cannot be written there ({error}),"
                                 " and each process would decode its own: instead of this folder"
                                 " use one of your own, with links to the folders in it")
            print(f"no cache: cannot write to {folder} ({error}); the images go into a file in"
                  f" {tempfile.gettempdir()}, and the next start decodes them again")
    try:
        cache = Cache(n_files, size, tempfile.TemporaryFile())  # deleted when the process ends
        fill(cache, decode, lambda record: None)
        return cache
    except OSError as error:
        raise SystemExit(f"{n_files} images of {size} px fit neither into {folder} nor into"
                         f" {tempfile.gettempdir()} ({error}): choose smaller or fewer images,"
                         " make room, or set the variable TMPDIR to another folder")


def read(path, digest, n_files, size):
    """The intact cache, complete or not, of files with this digest; None if there is none."""
    try:
        # JSON, in which no code can hide: the cache may have come with a downloaded folder.
        record = json.loads(runs.read_regular(path.with_suffix(".json")))
        whole = len(record["sums"]) * CHUNK >= n_files
        # Do not follow a link or wait for a pipe.
        flags = os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_RDONLY if whole else os.O_RDWR)
        file = open(os.open(path, flags), "rb" if whole else "r+b")
        cache = Cache(n_files, size, file, record["sums"], record["bad"])
        numbers = [i for i, _ in cache.bad]
        fits = (record["digest"] == digest and numbers == sorted(set(numbers))
                and all(type(i) is int and 0 <= i < cache.done and isinstance(reason, str)
                        for i, reason in cache.bad))
        # Under torchrun one process of a machine has just checked them for the others.
        return cache if fits and (not parallel.is_first() or cache.is_intact()) else None
    except Exception:  # missing, truncated, not a cache at all: decode again
        return None


def new_file(path):
    """A new, empty file. An old one is unlinked, not truncated: another run may have mapped it."""
    for old in (path.with_suffix(".json"), path):
        old.unlink(missing_ok=True)
    return open(path, "x+b")  # x does not follow a link


def fill(cache, decode, save):
    """Decode what is missing.   save: called with the record after each chunk"""
    start, image = cache.done, 3 * cache.size**2
    # A log file has no progress bar, and decoding may take an hour.
    print(f"decoding {counted(cache.n_files - start, 'image')}, kept at {cache.size} px")
    disk = os.fstatvfs(cache.file.fileno())
    # Better to fail now than after hours.
    if (needed := (cache.n_files - start) * image) > disk.f_bavail * disk.f_frsize:
        raise OSError(errno.ENOSPC, f"no room for {needed / 1e9:.1f} GB")
    # Not to the end: a kill may have left half a chunk.
    cache.file.seek((start - len(cache.bad)) * image)
    digest = hashlib.sha256()
    with contextlib.closing(decode(start)) as results:
        for i, result in enumerate(results, start):
            if isinstance(result, str):
                cache.bad.append([i, result])
            else:
                pixels = torch.from_numpy(result).permute(2, 0, 1).contiguous().numpy()
                digest.update(pixels)
                cache.file.write(pixels)
            if (i + 1) % CHUNK == 0 or i + 1 == cache.n_files:
                cache.file.flush()
                cache.sums.append(digest.hexdigest())
                save({"sums": cache.sums, "bad": cache.bad})
                digest = hashlib.sha256()
