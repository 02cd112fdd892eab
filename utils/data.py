"""The images: generated shapes, CIFAR through torchvision, or any folder of photographs.

    shapes            ten generated shapes, nothing to download (the default)
    shapes-tinted     the same, but each image has a tint of its own: the README's shortcut
    cifar10, cifar100 downloaded by torchvision into --root unless they are there already
    PATH              PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or PATH/val/...)

load() returns the whole set as uint8 tensors. SimSiam itself never sees a label: labels serve only
the kNN classifier and the linear probe, which evaluate the features.
"""

import hashlib
import math
import os
from typing import NamedTuple

import torch

from utils.folders import read_folder


class Data(NamedTuple):
    """A labelled set of square images, split in two."""

    train: torch.Tensor  # (N, 3, S, S) uint8
    train_labels: torch.Tensor  # (N,) int64
    test: torch.Tensor
    test_labels: torch.Tensor
    classes: list  # the names of the labels

    def to(self, device):
        return Data(*(t.to(device) for t in self[:4]), self.classes)

    def held_out(self):
        """Without the real test images: every tenth training image of each class takes their place.

        For choices between settings. The last training images would not do: folders are sorted by
        class.
        """
        by_class = self.train_labels.argsort(stable=True)
        held = torch.zeros_like(self.train_labels, dtype=torch.bool)
        held[by_class[::10]] = True
        x, y = self.train, self.train_labels
        return Data(x[~held], y[~held], x[held], y[held], self.classes)

    def mean_std(self):
        """The mean and std of each channel, in [0, 1], over at most 5000 training images.

        here: of this set; App. A takes ImageNet's for ImageNet, App. D does not say for CIFAR.
        """
        # Every k-th image, not the first 5000: folders are sorted by class.
        x = self.train[:: math.ceil(len(self.train) / 5000)]
        # From a histogram: exact, and without a copy of the images in floating point.
        counts = [torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(dim=1)]
        share = torch.stack(counts).double() / counts[0].sum()  # (3, 256), each row sums to 1
        level = torch.arange(256).double() / 255
        mean = share @ level
        # At least one grey level: in a channel that is constant, views would be divided by 0.
        std = (share @ level**2 - mean**2).clamp(min=1 / 255**2).sqrt()  # √(E[x²] - E[x]²)
        return mean.tolist(), std.tolist()

    def digest(self):
        """A SHA-256 of each of the four tensors: the same data give the same, wherever they are."""
        names = "training images", "training labels", "test images", "test labels"
        return {name: hashlib.sha256(t.contiguous().numpy()).hexdigest()[:16]
                for name, t in zip(names, self)}


def load(name, root="datasets", image_size=None, skip_bad=False):
    """The set called `name`, or the folder at that path, as Data.

    root: where CIFAR is kept   image_size: side in pixels, for shapes and folders
    skip_bad: leave out files of a folder that cannot be decoded
    SystemExit: in one line, what is wrong and what to do
    """
    if name in ("shapes", "shapes-tinted"):
        if (image_size or 24) > 64:
            raise SystemExit(f"--image-size {image_size}: shapes have at most 64 px; choose a"
                             " smaller size")
        return shapes(image_size or 24, tint=0.3 if name == "shapes-tinted" else 0.02)
    if name in ("cifar10", "cifar100"):
        return cifar(name, root)
    if os.path.isdir(name):
        return Data(*read_folder(name, image_size, skip_bad))
    raise SystemExit(f"--data {name}: neither shapes, shapes-tinted, cifar10, cifar100 nor a"
                     " folder; choose one of these")


# ------------------------------------------------------------------------------------------------
# Shapes. Each is given by its signed distance: a function of the plane that says how far a point is
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
    """n images of a light shape on a dark ground each: (n, 3, size, size) uint8, labels (n,) int64.

    tint: how far the colour of a whole image may be from grey, in [0, 1]
    Position, size, angle, contrast and colour vary, and there is strong noise.
    """
    # In float64, then rounded to 8 bits: the last digits, in which machines differ, do not show.
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, generator=generator, dtype=torch.float64)

    # Size, angle and place vary so much that pixels say little: kNN on them finds 4 of 10 classes.
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
    # A yes or no for each pixel would make staircases of all slanted edges.
    covered = (0.5 - distance * radius).clamp(0, 1)[:, None]  # (n, 1, size, size)
    light = uniform(-tint, tint, 3, 1, 1)  # on the whole image
    contrast = uniform(0.5, 0.6, 1, 1, 1) + uniform(-0.04, 0.04, 3, 1, 1)
    # The sum of four uniform integers is nearly Gaussian, with a std of 147.8. Unlike randn it is
    # exact, and so the same on every machine.
    noise = torch.randint(256, (4, n, 3, size, size), generator=generator).sum(dim=0) - 510
    image = 0.5 + light + contrast * (covered - 0.5) + 0.2 / 147.8 * noise
    return (255 * image).round().clamp(0, 255).to(torch.uint8), labels


# ------------------------------------------------------------------------------------------------
# CIFAR-10 and CIFAR-100.


def cifar(name, root):
    """CIFAR-10 or -100 through torchvision, downloaded to `root` if it is not there."""
    import torchvision

    sources = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
    source = sources[name]
    try:
        splits = [source(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f"--data {name}: cannot be downloaded ({error}). Put {source.filename} into {root}/,"
            " or use --data shapes, which needs no network, or a folder: --data PATH"
        )
    images = [torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous() for s in splits]
    labels = [torch.tensor(s.targets) for s in splits]
    return Data(images[0], labels[0], images[1], labels[1], splits[0].classes)
