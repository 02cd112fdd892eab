"""The images: generated shapes, CIFAR through torchvision, or any folder of photographs.

    shapes            ten shapes, drawn here, nothing to download (the default)
    shapes-tinted     the same, each image tinted in a colour of its own: the README's shortcut
    cifar10, cifar100 downloaded by torchvision into --root when they are not there yet
    PATH              PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or PATH/val/...)

load() returns the whole set as uint8 tensors. SimSiam itself never sees a label: they serve the kNN
and linear classifiers that judge the features.
"""

import concurrent.futures
import contextlib
import hashlib
import itertools
import math
import os
import pathlib
import signal
import warnings
from typing import NamedTuple

import torch
from tqdm import tqdm


class Data(NamedTuple):
    """A labelled set of square images, split in two."""

    train: torch.Tensor  # (N, 3, S, S) uint8
    train_labels: torch.Tensor  # (N,) int64
    test: torch.Tensor
    test_labels: torch.Tensor
    classes: list  # the names of the labels

    def to(self, device):
        """The same on a device."""
        return Data(*(t.to(device) for t in self[:4]), self.classes)

    def mean_std(self):
        """Channel means and stds in [0, 1] of the training images, at most 5000 of them.

        here: of the set at hand, where App. A takes ImageNet's for ImageNet.
        """
        x = self.train[:: math.ceil(len(self.train) / 5000)]
        counts = [torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(dim=1)]
        share = torch.stack(counts).double() / counts[0].sum()  # (3, 256)
        level = torch.arange(256).double() / 255
        mean = share @ level
        std = (share @ level**2 - mean**2).clamp(min=1 / 255**2).sqrt()  # never 0
        return mean.tolist(), std.tolist()


def load(name, root="datasets", image_size=None, skip_bad=False):
    """The set called `name`, or the folder at that path, as Data.

    image_size: side in pixels, for shapes and folders   skip_bad: leave out the files of a folder
    that cannot be decoded   SystemExit: in a line, what to do instead
    """
    if name in ("shapes", "shapes-tinted"):
        if (image_size or 24) > 64:
            raise SystemExit(f"--image-size {image_size}: shapes are drawn at 64 px at most")
        return shapes(image_size or 24, tint=0.3 if name == "shapes-tinted" else 0.02)
    if name in ("cifar10", "cifar100"):
        return cifar(name, root)
    if os.path.isdir(name):
        return folder(pathlib.Path(name), image_size, skip_bad)
    raise SystemExit(
        f"--data {name}: neither shapes, shapes-tinted, cifar10, cifar100 nor a folder"
    )


# ------------------------------------------------------------------------------------------------
# Shapes. A shape is its signed distance, a function of the plane that is negative inside. Unions
# are minima, intersections maxima, and a pixel within half a pixel of the rim is partly covered.


def disc(x, y, radius, at=0.0):
    return ((x - at) ** 2 + y**2).sqrt() - radius


def box(x, y, width, height):
    return torch.maximum(x.abs() - width, y.abs() - height)


def triangle(x, y, apothem):
    edges = [x * math.cos(a) + y * math.sin(a) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    return torch.stack(edges).amax(dim=0) - apothem


def outline(distance, width):
    """Only the rim of a shape, drawn inwards."""
    return (distance + width / 2).abs() - width / 2


SHAPES = {  # each of area 1.35, so that the mean brightness of an image tells nothing
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
    "crescent": lambda x, y: torch.maximum(disc(x, y, 0.95), -disc(x, y, 0.757, at=0.45)),
    "half disc": lambda x, y: torch.maximum(disc(x, y, 0.927, at=-0.4), -x - 0.4),
}


def shapes(size, tint):
    """The generated set: 4096 training and 1000 test images, the same on every machine."""
    train, train_labels = draw_shapes(4096, size, tint, seed=0)
    test, test_labels = draw_shapes(1000, size, tint, seed=1)
    return Data(train, train_labels, test, test_labels, list(SHAPES))


def draw_shapes(n, size, tint, seed):
    """n images of one light shape each on a dark ground: (n, 3, size, size) uint8, (n,) int64.

    tint: how far the colour of a whole image may be off grey, in [0, 1]
    Place, size, angle, contrast and colour vary, and there is much noise. Computed in float64 and
    then rounded to 8 bits, so that the last digits, in which machines differ, do not show.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, generator=generator, dtype=torch.float64)

    radius = size * uniform(0.38, 0.48, 1, 1)
    angle = uniform(-0.4, 0.4, 1, 1)
    pixel = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    x0 = (pixel - size * uniform(-0.1, 0.1, 1, 1)) / radius
    y0 = (pixel[:, None] - size * uniform(-0.1, 0.1, 1, 1)) / radius
    x = angle.cos() * x0 + angle.sin() * y0  # (n, size, size), as y
    y = angle.cos() * y0 - angle.sin() * x0
    labels = torch.arange(n) % len(SHAPES)
    distance = torch.empty(n, size, size, dtype=torch.float64)
    for label, shape in enumerate(SHAPES.values()):
        distance[labels == label] = shape(x[labels == label], y[labels == label])
    covered = (0.5 - distance * radius).clamp(0, 1)[:, None]  # (n, 1, size, size)
    light = uniform(-tint, tint, 3, 1, 1)  # of the whole image
    contrast = uniform(0.5, 0.6, 1, 1, 1) + uniform(-0.04, 0.04, 3, 1, 1)
    # The sum of four whole numbers is nearly Gaussian, exact on any machine, and its std is 147.8.
    noise = torch.randint(256, (4, n, 3, size, size), generator=generator).sum(dim=0) - 510
    image = 0.5 + light + contrast * (covered - 0.5) + 0.2 / 147.8 * noise
    return (255 * image).round().clamp(0, 255).to(torch.uint8), labels


# ------------------------------------------------------------------------------------------------
# CIFAR-10 and CIFAR-100.


def cifar(name, root):
    """CIFAR through torchvision, downloaded to `root` if need be."""
    import torchvision

    sources = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
    source = sources[name]
    try:
        splits = [source(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f"--data {name}: cannot be downloaded ({error}). Put {source.filename} into {root}/,"
            " or use --data shapes, which needs no network, or --data PATH"
        )
    images = [torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous() for s in splits]
    labels = [torch.tensor(s.targets) for s in splits]
    return Data(images[0], labels[0], images[1], labels[1], splits[0].classes)


# ------------------------------------------------------------------------------------------------
# Folders of images.


def folder(path, image_size=None, skip_bad=False):
    """PATH/train/CLASS/IMAGE and PATH/test (or val)/CLASS/IMAGE, decoded once and cached in PATH.

    image_size: the side S to which images are brought; by default that of the images, 224 at most
    skip_bad: leave out what cannot be decoded, instead of naming it and giving up
    The cache is used as long as no file's name, size or time changes.
    """
    train_files, classes = list_images(path / "train")
    held_out = path / ("test" if (path / "test").is_dir() or not (path / "val").is_dir() else "val")
    test_files, test_classes = list_images(held_out)
    if test_classes != classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise SystemExit(f"{path}: the class {odd!r} is in only one of train/ and {held_out.name}/")
    if len(classes) < 2:
        raise SystemExit(f"{path}: only one class, {classes[0]!r}; kNN and probe need at least two")
    files = train_files + test_files
    size = image_size or native_size(files)
    check_memory(len(files), size)
    cache, digest = path / f".simsiam-{size}px.pt", fingerprint(path, files)
    cached = read_cache(cache, digest)
    images, bad = cached or decode_all([entry.path for entry, _ in files], size)
    if bad and not skip_bad:
        i, reason = bad[0]
        raise SystemExit(f"{len(bad)} of {len(files)} files cannot be decoded, the first of them"
                         f" {files[i][0].path!r} ({reason}): mend or remove them, or leave them out"
                         " with --skip-bad-images")
    if not cached:
        write_cache(cache, digest, images, bad)
    labels, n = torch.tensor([label for _, label in files]), len(train_files)
    if bad:
        good = torch.ones(len(files), dtype=torch.bool)
        good[[i for i, _ in bad]] = False
        images, labels, n = images[good], labels[good], int(good[:n].sum())
        print(f"{path}: {len(bad)} files that cannot be decoded are left out")
    for split in (labels[:n], labels[n:]):
        if len(split.unique()) < len(classes):
            raise SystemExit(f"{path}: no image of one of the classes can be decoded")
    return Data(images[:n], labels[:n], images[n:], labels[n:], classes)


def list_images(split):
    """[(file, label)] in order of name, and the class names, of a folder of class folders."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not split.is_dir():
        raise SystemExit(f"{split}: no such folder; images are sought in train/CLASS/, test/CLASS/")
    classes = sorted(e.name for e in os.scandir(split)
                     if os.path.isdir(e.path) and not e.name.startswith("."))
    if not classes:
        raise SystemExit(f"{split}: no class folders; give the images of each class a folder")
    files = []
    for label, name in enumerate(classes):
        entries = [e for e in os.scandir(split / name) if not e.name.startswith(".")]
        images = [e for e in entries if e.name.lower().endswith(IMG_EXTENSIONS)]
        if not images:
            raise SystemExit(f"{split / name}: no images; remove the folder or put some into it")
        files += [(image, label) for image in sorted(images, key=lambda e: e.name)]
    return files, classes


def check_memory(n, size):
    """Fail if n images would take more than half of the machine's memory."""
    needed, has = 3 * n * size**2, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > has / 2:
        raise SystemExit(f"{n} images of {size} px take {needed / 1e9:.0f} GB, over half of this"
                         " machine's memory: choose a smaller --image-size, or fewer images")


def native_size(files, largest=224):
    """The median shorter side of a hundred of the images, but at most `largest`."""
    from PIL import Image

    sides = []
    for entry, _ in files[:: math.ceil(len(files) / 100)]:
        with contextlib.suppress(Exception):  # decode() will say which file and why
            if os.path.isfile(entry.path):
                with Image.open(entry.path) as image:
                    sides.append(min(image.size))
    return min([largest, *sorted(sides)[len(sides) // 2 :]])


def fingerprint(path, files):
    """A digest of all names below path, sizes and times of change."""
    lines = []
    for entry, _ in files:
        try:
            status = entry.stat()
            status = status.st_size, status.st_mtime_ns
        except OSError as error:  # decode() will say which file and why
            status = error.errno
        lines.append(f"{os.path.relpath(entry.path, path)}\0{status}\n")
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def decode_all(paths, size):
    """Decode image files on all cores: images (n, 3, size, size) uint8, and what went wrong.

    The second is a list of (number of the file, reason); such an image stays black.
    """
    images, bad = torch.zeros(len(paths), 3, size, size, dtype=torch.uint8), []
    with concurrent.futures.ProcessPoolExecutor(initializer=quieten) as pool:
        arrays = pool.map(decode, paths, itertools.repeat(size), chunksize=32)
        bar = tqdm(arrays, "decoding", len(paths), unit=" images", mininterval=1, disable=None)
        try:
            for i, array in enumerate(bar):
                if isinstance(array, str):
                    bad.append((i, array))
                else:
                    images[i] = torch.from_numpy(array).permute(2, 0, 1)
        except concurrent.futures.process.BrokenProcessPool:
            raise SystemExit("decoding was killed, probably for want of memory: choose a smaller"
                             " --image-size, or remove huge images")
    return images, bad


def quieten():
    """Leave Ctrl-C to the parent of a decoding process, and keep PIL's warnings to itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")


def decode(path, size):
    """The centre square of an image file, scaled to `size`: (size, size, 3) uint8 array, RGB.

    If it cannot be decoded, the reason as a string.
    here: crops are drawn from this square later, where the paper draws them from the whole image.
    """
    import numpy
    from PIL import Image, ImageOps

    try:
        if not os.path.isfile(path):
            return "it is not a file"
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))  # large JPEGs: decode fewer pixels
            image = ImageOps.exif_transpose(image)
            if image.mode in ("I", "F"):
                return f"nothing says how bright a 1 is in mode {image.mode}"
            if image.mode.startswith("I;16"):  # which PIL would clip at 255
                image = Image.fromarray((numpy.asarray(image) >> 8).astype(numpy.uint8))
            image = image.convert("RGB")
            return numpy.array(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # PIL raises half a dozen kinds
        return " ".join(str(error).split()) or type(error).__name__


def read_cache(cache, digest):
    """What decode_all() gave, from a cache file that is whole and has this digest, else None."""
    try:
        saved = torch.load(cache, mmap=True, weights_only=True)
        return (saved["images"], saved["bad"]) if saved["digest"] == digest else None
    except Exception:  # missing, cut short, not a cache at all: it will be made anew
        return None


def write_cache(cache, digest, images, bad):
    """Write a cache file at once or not at all; a folder that cannot be written to does without."""
    part = cache.with_suffix(f".{os.getpid()}")
    try:
        torch.save({"digest": digest, "images": images, "bad": bad}, part)
        os.replace(part, cache)
    except (OSError, RuntimeError) as error:
        print(f"no cache: {cache.parent} cannot be written to ({error})")
        with contextlib.suppress(OSError):
            part.unlink()
