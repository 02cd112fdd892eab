"""The images: generated shapes, CIFAR or STL-10, or any folder of photographs.

    shapes            generated images of ten shapes, nothing to download (the default)
    shapes-tinted     the same, but each image has a tint of its own, a shortcut for SimSiam
    cifar10, cifar100, stl10
                      downloaded by torchvision into --root unless they are there already
    PATH              PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or PATH/val/...), and
                      images without labels anywhere below PATH/unlabelled/

load() returns the whole set as uint8 tensors; those of a folder are mapped from a file and may be
larger than memory (cache.py). SimSiam itself never sees labels: only kNN, the linear probe and
fine-tuning use them.
"""

import hashlib
import math
import mmap
import os
import threading
from typing import NamedTuple

import torch

from utils.cache import Cache
from utils.folders import read_folder


class Data(NamedTuple):
    """A set of square images, split in two. Without labels it has no test images or classes."""

    train: torch.Tensor  # (N, 3, C, C) uint8
    train_labels: torch.Tensor  # (M,) int64, of the first M ≤ N images; the rest have no label
    test: torch.Tensor  # (n, 3, C, C) uint8
    test_labels: torch.Tensor  # (n,) int64
    classes: list  # the names of the labels
    view_size: int | None = None  # S ≤ C, the side of views; None: C
    cache: Cache | None = None  # its file holds the mapped images, train first
    names: tuple = ([], [])  # file names of the training and test images, if they have any

    @property
    def labelled(self):
        """The training images that have a label."""
        return self.train[: len(self.train_labels)]

    def to(self, device):
        """The set on a device. Images that do not fit stay where they are; labels always move."""
        moved = self._replace(train_labels=self.train_labels.to(device),
                              test_labels=self.test_labels.to(device))
        if self.train.nbytes + self.test.nbytes > room(device):
            return moved
        return moved._replace(train=self.train.to(device), test=self.test.to(device))

    def prefetch(self, indices):
        """Start to read these training images from their file, so that the next step finds them."""
        # On a GPU they are already in its memory; macOS has no such call.
        if self.cache and self.train.device.type == "cpu" and hasattr(os, "posix_fadvise"):
            # Otherwise the system reads the images around each one, too, which are not needed now:
            # with a set three times the size of free memory, steps took 5 % longer.
            self.cache.mapped.madvise(mmap.MADV_RANDOM)
            threading.Thread(
                target=self.cache.read_ahead, args=(indices.tolist(),), daemon=True).start()

    def read_in_order(self):
        """From now on expect images to be read one after another, until the next prefetch()."""
        if self.cache:
            self.cache.mapped.madvise(mmap.MADV_NORMAL)

    def held_out(self):
        """The labelled images alone, every tenth of each class as a test image instead.

        For choosing settings. The last training images would not do: folders are sorted by class.
        A class of fewer than ten may have no test image. The images are copied, so a set larger
        than memory does not fit.
        """
        by_class = self.train_labels.argsort(stable=True)
        held = torch.zeros_like(self.train_labels, dtype=torch.bool)
        held[by_class[::10]] = True
        x, y = self.labelled, self.train_labels
        there = held.to(x.device)  # the images may not have fitted into the GPU's memory
        return self._replace(train=x[~there], train_labels=y[~held], test=x[there],
                             test_labels=y[held], cache=None, names=([], []))

    def mean_std(self):
        """The mean and std of each channel, in [0, 1], over at most 5000 training images.

        here: of this set; the paper does not say, the official code has ImageNet's.
        """
        # Every k-th image, not the first 5000: folders are sorted by class.
        x = self.train[:: math.ceil(len(self.train) / 5000)]
        # From a histogram: exact, and without a copy of the images in floating point.
        counts = sum(torch.stack([torch.bincount(channel.flatten(), minlength=256)
                                  for channel in some.unbind(dim=1)]) for some in x.split(100))
        share = counts.double() / counts[0].sum()  # (3, 256), each row sums to 1
        level = torch.arange(256).double() / 255
        mean = share @ level
        # At least one grey level: views of a constant channel would be divided by 0.
        std = (share @ level**2 - mean**2).clamp(min=1 / 255**2).sqrt()  # √(E[x²] - E[x]²)
        return mean.tolist(), std.tolist()

    def digest(self):
        """The start of the SHA-256 of each of the four tensors, on whatever device they are."""
        names = "training images", "training labels", "test images", "test labels"
        return {name: hashlib.sha256(t.cpu().contiguous().numpy()).hexdigest()[:16]
                for name, t in zip(names, self)}

    def with_labels(self, share):
        """The set with a random share of the labelled images, equally many of each class."""
        n, labels = len(self.train_labels), self.train_labels
        order = torch.randperm(n)
        # A class with fewer images is taken whole.
        each = max(1, round(share * n / max(1, len(self.classes))))
        # order[:0], because torch.cat() needs a tensor even if there are no classes.
        chosen = torch.cat([order[:0], *(order[labels[order] == c][:each]
                                         for c in range(len(self.classes)))])
        chosen = chosen.sort().values
        names = [self.names[0][i] for i in chosen if self.names[0]]
        return self._replace(train=self.train[chosen], train_labels=labels[chosen],
                             cache=None, names=(names, self.names[1]))


def room(device):
    """How many bytes of images may be put on a device: on a GPU, half of what is free."""
    if torch.device(device).type != "cuda":
        return math.inf
    # PyTorch keeps the memory that an earlier run in this process has freed, for the next one.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + kept) // 2


def load(name, root="datasets", image_size=None, skip_bad=False, stored_size=None):
    """The set called `name`, or the folder at that path, as Data.

    root: where CIFAR and STL-10 are kept   image_size: S in pixels, for shapes and folders
    skip_bad, stored_size: for folders; see read_folder()
    SystemExit: in one line, what is wrong and what to do
    """
    if name in ("shapes", "shapes-tinted"):
        if (image_size or 24) > 64:
            raise SystemExit(f"--data {name}: shapes have at most 64 px, not {image_size}; choose a"
                             " smaller --image-size, or other images")
        images = shapes(image_size or 24, tint=0.3 if name == "shapes-tinted" else 0.02)
    elif name in ("cifar10", "cifar100", "stl10"):
        images = download(name, root)
    elif os.path.isdir(name):
        images = Data(*read_folder(name, image_size, skip_bad, stored_size))
    else:
        raise SystemExit(f"--data {name}: neither a folder nor shapes, shapes-tinted, cifar10,"
                         " cifar100 or stl10; choose one of these")
    check(name, images)
    return images


def check(name, images):
    """SystemExit unless a set, perhaps of a branch of your own in load(), is what Data says."""
    x, y = (images.train, images.test), (images.train_labels, images.test_labels)
    K, is_tensor = len(images.classes), torch.is_tensor
    form = lambda v: f"{tuple(v.shape)} of {v.dtype}" if is_tensor(v) else f"a {type(v).__name__}"
    for v in x:
        if not (is_tensor(v) and v.dtype == torch.uint8
                and v.shape[1:] == (3, *2 * x[0].shape[-1:])):
            raise SystemExit(f"--data {name}: images must be uint8 tensors (N, 3, C, C), all of one"
                             f" size, not {form(v)}")
    for v in y:
        if not (is_tensor(v) and v.dtype == torch.int64 and v.ndim == 1
                and (not len(v) or 0 <= v.min() and v.max() < K)):
            raise SystemExit(f"--data {name}: labels must be int64 tensors (N,) that number the"
                             f" {K} classes from 0, not {form(v)}")
    if len(y[0]) > len(x[0]) or len(y[1]) != len(x[1]):
        raise SystemExit(f"--data {name}: the labels must be those of the first training images and"
                         f" of all test images, not {len(y[0])} of {len(x[0])} and {len(y[1])} of"
                         f" {len(x[1])}")
    if not len(x[0]) or bool(K) != bool(len(y[0])) or bool(K) != bool(len(y[1])):
        raise SystemExit(f"--data {name}: needs training images, and either classes and labels in"
                         " both splits, or no classes and no labels; not"
                         f" {len(x[0])} images, {K} classes and {len(y[0])} and {len(y[1])} labels")


# ------------------------------------------------------------------------------------------------
# Shapes. Each is given by its signed distance: a function that says how far a point of the plane is
# from the outline, negative inside the shape and positive outside. That makes shapes easy to
# combine: the minimum of two distances is the union, the maximum the intersection, and a minus sign
# turns a shape inside out. The distances need not be exact except near the outline.


def disc(x, y, radius, centre=0.0):
    return ((x - centre) ** 2 + y**2).sqrt() - radius


def box(x, y, half_width, half_height):
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def triangle(x, y, apothem):
    # the intersection of three half-planes, each `apothem` away from the centre
    edges = [x * math.cos(a) + y * math.sin(a) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    return torch.stack(edges).amax(dim=0) - apothem


def outline(distance, width):
    """The band of this width just inside the outline of a shape."""
    return (distance + width / 2).abs() - width / 2


# All have the same area, 1.35: otherwise classes could be told apart by the mean brightness of an
# image, without looking at the shape.
SHAPES = {
    "disc": lambda x, y: disc(x, y, 0.656),
    "ring": lambda x, y: outline(disc(x, y, 0.85), 0.309),
    "bar": lambda x, y: box(x, y, 1.0, 0.3375),
    "dots": lambda x, y: disc(x.abs() - 0.55, y.abs() - 0.55, 0.3278),
    "triangle": lambda x, y: triangle(x, y, 0.51),
    "corner": lambda x, y: torch.minimum(
        box(x + 0.62, y, 0.23, 0.85), box(x, y + 0.62, 0.85, 0.23)),
    "cross": lambda x, y: torch.minimum(box(x, y, 0.9, 0.2126), box(x, y, 0.2126, 0.9)),
    "checker": lambda x, y: torch.minimum(
        box(x - 0.41, y - 0.41, 0.41, 0.41), box(x + 0.41, y + 0.41, 0.41, 0.41)),
    "crescent": lambda x, y: torch.maximum(disc(x, y, 0.95), -disc(x, y, 0.757, centre=0.45)),
    "half disc": lambda x, y: torch.maximum(disc(x, y, 0.927, centre=-0.4), -x - 0.4),
}


def shapes(size, tint):
    """The generated set: 4096 training and 1000 test images, the same on every machine."""
    train, train_labels = draw_shapes(4096, size, tint, seed=0)
    test, test_labels = draw_shapes(1000, size, tint, seed=1)
    return Data(train, train_labels, test, test_labels, list(SHAPES))


def draw_shapes(n, size, tint, seed):
    """n images of a light shape on a dark background: (n, 3, size, size) uint8, labels (n,) int64.

    tint: how far the colour of a whole image may be from grey, in [0, 1]
    Position, size, angle, contrast and colour vary, and there is strong noise.
    """
    # In float64, then rounded to 8 bits: the last digits, in which machines differ, do not show.
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, generator=generator, dtype=torch.float64)

    # Size, angle and place vary so much that pixels say little: kNN on them is right 4 times in 10.
    radius = size * uniform(0.25, 0.36, 1, 1)
    angle = uniform(-1.2, 1.2, 1, 1)
    room = size / 2 - radius  # how far the shape's centre may be from the image's
    pixel = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    x0 = (pixel - room * uniform(-1, 1, 1, 1)) / radius
    y0 = (pixel[:, None] - room * uniform(-1, 1, 1, 1)) / radius
    x = angle.cos() * x0 + angle.sin() * y0  # (n, size, size)
    y = angle.cos() * y0 - angle.sin() * x0
    labels = torch.arange(n) % len(SHAPES)
    distance = torch.empty(n, size, size, dtype=torch.float64)
    for label, shape in enumerate(SHAPES.values()):
        distance[labels == label] = shape(x[labels == label], y[labels == label])
    # distance * radius is in pixels: a pixel within half a pixel of the outline is partly covered.
    # A yes or no for each pixel would turn all slanted edges into staircases.
    covered = (0.5 - distance * radius).clamp(0, 1)[:, None]  # (n, 1, size, size)
    light = uniform(-tint, tint, 3, 1, 1)  # added to the whole image
    contrast = uniform(0.5, 0.6, 1, 1, 1) + uniform(-0.04, 0.04, 3, 1, 1)
    # The sum of four uniform integers is nearly Gaussian, with a std of 147.8. Unlike randn it is
    # exact, and so the same on every machine.
    noise = torch.randint(256, (4, n, 3, size, size), generator=generator).sum(dim=0) - 510
    image = 0.5 + light + contrast * (covered - 0.5) + 0.2 / 147.8 * noise
    return (255 * image).round().clamp(0, 255).to(torch.uint8), labels


# ------------------------------------------------------------------------------------------------
# CIFAR-10, CIFAR-100 and STL-10.


def download(name, root):
    """CIFAR-10, -100 or STL-10 through torchvision, downloaded to `root` if it is not there.

    STL-10's training images are 5,000 with labels, then 100,000 without.
    """
    from torchvision import datasets

    source, splits = {"cifar10": (datasets.CIFAR10, (True, False)),
                      "cifar100": (datasets.CIFAR100, (True, False)),
                      "stl10": (datasets.STL10, ("train+unlabeled", "test"))}[name]
    try:
        splits = [source(root, split, download=True) for split in splits]
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f"--data {name}: cannot be downloaded ({error}). Put {source.filename} into {root}/,"
            " or use --data shapes, which needs no download, or a folder: --data PATH"
        )
    parts = []
    for s in splits:
        images = torch.from_numpy(s.data)
        labels = torch.as_tensor(s.labels if name == "stl10" else s.targets).long()
        if name != "stl10":
            images = images.permute(0, 3, 1, 2)  # (N, 32, 32, 3) -> (N, 3, 32, 32)
        parts += [images.contiguous(), labels[labels >= 0]]  # -1: no label
    return Data(*parts, splits[0].classes)
