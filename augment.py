"""The two views of an image: the augmentations T of Sec. 3 and App. A, on whole batches of images.

Two views of one image are the only supervision there is: the features learn to ignore whatever T
changes. Augment is the recipe; the operations follow in its order: random resized crop, colour
jitter, grayscale, Gaussian blur, horizontal flip, normalisation.

Every operation takes its parameters per image, so the result for an image never depends on the
rest of the batch; with the same parameters it equals torchvision.transforms.v2's. The random
numbers are drawn on the CPU, whatever device the images are on: the same seed gives the same draws.

    python augment.py                            views.png: 16 shapes above two views of each
    python augment.py --data PATH --out x.png    the same for a folder of images, cifar10, ...

Its latest output:

    views.png: 16 images of shapes above two views of each
"""

import argparse
import math

import torch

# Codes of the colour jitter's operations.
BRIGHTNESS, CONTRAST, SATURATION, HUE, NONE = 0, 1, 2, 3, -1


class Augment:
    """T of Sec. 5: every call draws one fresh view of each image of a batch.

    x: (N, 3, C, C) uint8   returns: (N, 3, size, size) float32, normalised
    mean, std: of the data, per channel, in [0, 1]   crop_min: smallest share of the area shown
    jitter: strengths of brightness, contrast, saturation, hue   jitter_p ...: probabilities
    The defaults are App. A's.  here: blur_p is the official code's, as App. A gives none.
    """

    def __init__(self, size, mean, std, crop_min=0.2, jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8,
                 gray_p=0.2, blur_p=0.5, flip_p=0.5):
        self.size, self.mean, self.std = size, mean, std
        self.crop_scale, self.jitter = (crop_min, 1.0), torch.tensor(jitter)
        self.jitter_p, self.gray_p, self.blur_p, self.flip_p = jitter_p, gray_p, blur_p, flip_p
        # here: odd, about a tenth of the view's side, as in SimCLR. The paper does not say; PIL's
        # kernel, in the official code, grows with σ. Below 40 px ours has 3 pixels, with which
        # σ = 2 blurs only as much as 0.8 does with a large one.
        self.kernel_size = max(3, size // 20 * 2 + 1)

    def __call__(self, x, draws=None):
        draws = draws or self.draw(len(x), x.shape[2])
        # 128 small images at a time stay in a CPU's cache, which is faster than 512 at once.
        n = 128 if x.device.type == "cpu" else len(x)
        views = torch.empty(len(x), x.shape[1], self.size, self.size, device=x.device,
                            memory_format=torch.channels_last)  # for fast convolutions
        for out, *piece in zip(views.split(n), x.split(n), *(d.split(n) for d in draws)):
            out.copy_(normalize(self.view(*piece), self.mean, self.std))
        return views

    def draw(self, n, size):
        """All random numbers of n views: tensors of n rows, the arguments of view() after x.

        size: side of the images, C
        """
        chance = lambda p: torch.rand(n) < p  # (n,), one coin per image
        boxes = random_boxes(n, size, self.crop_scale)
        flip = chance(self.flip_p)
        # ColorJitter(0.4, 0.4, 0.4, 0.1): factors in [0.6, 1.4], the hue's shift in [-0.1, 0.1].
        factors = torch.tensor([1.0, 1.0, 1.0, 0.0]) + self.jitter * (2 * torch.rand(n, 4) - 1)
        order = torch.rand(n, 4).argsort(dim=1)  # one permutation of 0 ... 3 per image
        order.masked_fill_(~chance(self.jitter_p)[:, None], NONE)
        gray, blur = chance(self.gray_p), chance(self.blur_p)
        sigma = torch.empty(n).uniform_(0.1, 2.0)  # of the blur, in pixels
        return *boxes, flip, factors, order, gray, blur, sigma

    def view(self, x, start, box_size, flip, factors, order, gray, blur, sigma):
        """One view of each image, as drawn but not yet normalised.

        x: (N, 3, C, C) uint8   the rest: from draw()   returns: (N, 3, size, size) in [0, 1]
        """
        # here: floats throughout; PIL, in the official code, rounds to 8 bits after every step.
        x = x.float().div_(255)
        # 1. Random resized crop: the two views share only a part of the image.
        # here: it mirrors too (step 5), at no cost; mirroring commutes with all steps between.
        boxes = (to_device(v, x.device) for v in (start, box_size, flip))
        x = resized_crop(x, *boxes, self.size)  # (N, 3, size, size)
        # 2. Colour jitter: without it, colours alone would tell which two views belong together,
        # and the features would need to encode nothing else (SimCLR, arXiv 2002.05709, Sec. 3.1).
        x = color_jitter(x, factors, order)
        # 3. Grayscale: the features must work without any colour, too.
        apply_where(gray, lambda x: grayscale(x).expand_as(x), x)
        # 4. Gaussian blur: hides fine texture. App. D leaves it out for 32 px images.
        apply_where(blur, lambda x, s: gaussian_blur(x, s, self.kernel_size), x, sigma)
        # 5. Flip: see 1.  6. Normalisation: in __call__, so that pictures can show a view.
        return x


# ------------------------------------------------------------------------------------------------
# 1. Random resized crop, and 5. flip.

RATIO = 3 / 4, 4 / 3  # of a box's width to its height, as in torchvision


def random_boxes(n, size, scale):
    """Boxes of RandomResizedCrop: area drawn uniformly in `scale`, aspect log-uniformly in RATIO.

    size: side of the images, in pixels   scale: (smallest, largest) share of their area
    returns: start (top, left) and box_size (height, width): (n, 2) int64 each, in pixels
    As in torchvision, which App. A names: each of ten tries draws area and ratio anew, and rounds
    the sides; the first box that fits and is not empty is taken, or the whole image if none is.
    All positions of a box inside the image are equally likely, top and left independent.
    """
    area = size**2 * torch.empty(n, 10).uniform_(*scale)
    # The logarithm favours neither wide nor tall boxes; a uniform ratio would favour wide ones.
    aspect = torch.empty(n, 10).uniform_(*map(math.log, RATIO)).exp()
    tries = torch.stack([area / aspect, area * aspect]).sqrt_().round_()  # (2, n, 10)
    fits = ((tries > 0) & (tries <= size)).all(dim=0)
    first = fits.int().argmax(dim=1)  # (n,): of equal values argmax takes the first
    box_size = tries[:, torch.arange(n), first]
    box_size.masked_fill_(~fits.any(dim=1), size)
    start = torch.rand(2, n) * (size - box_size + 1)
    # long() rounds down, which makes all positions equally likely.
    return start.T.long(), box_size.T.long()


def resized_crop(x, start, box_size, flip, size):
    """Cut a box out of each image, resize it to size × size, and mirror it where flip is true.

    x: (N, 3, C, C)   start (top, left), box_size (height, width): (N, 2) whole pixels
    flip: (N,) bool, mirrors left-right   returns: (N, 3, size, size)
    The interpolation is antialiased bilinear, and sees no pixel outside the box (App. A's crop).
    """
    # Bilinear interpolation is separable: a crop is rows · x · columnsᵀ, so boxes of any size need
    # one batched product per axis and no loop over images.
    mirrored = torch.stack([torch.zeros_like(flip), flip], dim=1)  # columns only
    matrices = resize_matrix(start, box_size, mirrored, x.shape[2], size)  # (N, 2, size, C)
    return along_both_axes(x, *matrices.to(x.dtype).unbind(dim=1))


def resize_matrix(start, box_size, mirrored, size_in, size_out):
    """Antialiased bilinear interpolation along one axis, as a matrix for each box.

    start, box_size: (...) whole pixels   mirrored: (...) bool, from the box's end to its start
    returns: (..., size_out, size_in), every row sums to 1
    Row i is a triangle around output pixel i's place in the input. Its half-width is one input
    pixel, or one output pixel if that is larger, and it ends at the box, as in PIL and torchvision.
    """
    start, box_size, mirrored = (v[..., None, None] for v in (start, box_size, mirrored))
    scale = box_size / size_out  # input pixels per output pixel
    # Pixel i covers [i, i + 1], so its centre is i + 0.5; without the half, the image shifts.
    place = (torch.arange(size_out, device=start.device)[:, None] + 0.5) * scale
    place = start + torch.where(mirrored, box_size - place, place)
    pixel = torch.arange(size_in, device=start.device)
    # max(0, 1 - |distance| / half-width). The wider triangle is the antialiasing: one of half-width
    # 1 would give some pixels too little weight, or none, when an image is reduced.
    weight = (pixel + 0.5 - place).abs_().div_(-scale.clamp(min=1)).add_(1).clamp_(min=0)
    inside = (pixel >= start) & (pixel < start + box_size)
    weight.mul_(inside.to(weight.dtype))
    return weight.div_(weight.sum(dim=-1, keepdim=True))


def along_both_axes(x, rows, columns):
    """rows · image · columnsᵀ for each channel of each image.

    x: (N, c, H, W)   rows: (N, H', H)   columns: (N, W', W)   returns: (N, c, H', W')
    """
    N, c, H, W = x.shape
    x = torch.bmm(columns, x.reshape(N, c * H, W).transpose(1, 2))  # (N, W', c H)
    x = x.view(N, columns.shape[1] * c, H)
    x = torch.bmm(x, rows.transpose(1, 2))  # (N, W' c, H')
    return x.view(N, columns.shape[1], c, rows.shape[1]).permute(0, 2, 3, 1).contiguous()


# ------------------------------------------------------------------------------------------------
# 2. Colour jitter.  x: (N, 3, H, W) in [0, 1], returns: (N, 3, H, W) in [0, 1].


def color_jitter(x, factors, order):
    """Brightness, contrast, saturation and hue, in each image's own order; changes x in place.

    x: (N, 3, H, W) in [0, 1]   returns: x
    factors: (N, 4), column BRIGHTNESS ... HUE; the hue's is its shift, in turns (App. A)
    order: (N, 4), the operations on an image from first to last, each of BRIGHTNESS ... HUE once;
    or all NONE, which leaves the image as it is
    """
    # Brightness, contrast and saturation differ only in blend()'s parameters, so one call per round
    # serves the whole batch; a factor of 1 leaves the other images unchanged.
    factor = factors.gather(1, order.clamp(min=0)).where((order != HUE) & (order != NONE), 1.0)
    blends = torch.stack([factor, order == CONTRAST, order == SATURATION]).to(x.dtype)
    blends = to_device(blends, x.device).permute(2, 0, 1)[..., None, None, None]  # (4, 3, N, ...)
    for kind, parameters in zip(order.T, blends):  # four rounds; kind: (N,)
        blend(x, *parameters)
        apply_where(kind == HUE, hue, x, factors[:, HUE])
    return x


def blend(x, factor, m_share, y_share):
    """factor · x + (1 - factor) · other, clipped to [0, 1]; changes x in place and returns it.

    factor: (N, 1, 1, 1), at least 0; beyond 1 it moves x away from `other`
    m_share, y_share: (N, 1, 1, 1), 0 or 1; other = m_share · m + y_share · y, with y the image's
    grayscale and m the mean of y: black if both are 0 (brightness), m alone (contrast), or y alone
    (saturation)
    """
    y = grayscale(x)
    other = (y_share * y).add_(m_share * y.mean(dim=(2, 3), keepdim=True))
    return x.lerp_(other, 1 - factor).clamp_(0, 1)


def hue(x, shift):
    """Rotate the hue of HSV in each image by its own shift, keeping saturation and value.

    x: (N, 3, H, W) in [0, 1]   shift: (N,) in turns of the colour circle, -1/2 to 1/2
    returns: (N, 3, H, W)
    With v = max(r, g, b) and c = v - min(r, g, b), the hue of a pixel is, in sixths of a turn,

        (g - b) / c        where r is the largest channel
        2 + (b - r) / c    where g is
        4 + (r - g) / c    where b is; a grey pixel (c = 0) has none and stays as it is

    With the rotated hue h, as a fraction of a turn, channel k = 0, 1, 2 (r, g, b) becomes
    v - c clip(2 - |6 frac(h - k/3) - 3|, 0, 1), where frac(t) = t - ⌊t⌋.
    """
    # The three cases in one formula, in a third of the time of masks (CPU): with a = (g - b) / c
    # and w = (v - r) / c it is sign(a) (|a| + w (3 - 2 |a|)), sign(0) = 1: |a| where red is the
    # largest channel (w = 0), 3 - |a| where it is the smallest (w = 1), 1 + w between (|a| = 1).
    r, g, b = x.unbind(dim=1)  # (N, H, W)
    v = x.amax(dim=1)
    c = v - x.amin(dim=1)
    chroma = c.clamp(min=1e-12)  # no 0 / 0 in grey pixels
    a, w = (g - b).div_(chroma), (v - r).div_(chroma)
    distance = a.abs()
    h = torch.lerp(distance, 3 - distance, w).copysign_(a).div_(6)
    n = -torch.arange(3, device=x.device, dtype=x.dtype) / 3
    n = (shift[:, None] + n + 2)[:, :, None, None]  # + 2: frac_() is negative for t < 0
    ramp = (h[:, None] + n).frac_().mul_(6).sub_(3).abs_().sub_(2).clamp_(-1, 0)
    return torch.addcmul(v[:, None], c[:, None], ramp)


# ------------------------------------------------------------------------------------------------
# 3. Grayscale, 4. Gaussian blur, 6. normalisation; and images without augmentation.


def grayscale(x):
    """The luma of each pixel: (N, 3, H, W) -> (N, 1, H, W); App. A's grayscale.

    0.2989 r + 0.587 g + 0.114 b, the weights of ITU-R 601 as torchvision rounds them (sum 0.9999)
    """
    r, g, b = x.unbind(dim=1)
    return (0.2989 * r).add_(g, alpha=0.587).add_(b, alpha=0.114)[:, None]


def gaussian_blur(x, sigma, kernel_size):
    """Blur each image with its own sigma (App. A): (N, 3, S, S), (N,) in pixels -> (N, 3, S, S).

    kernel_size: number of pixels along one side of the kernel, odd
    """
    # exp(-(i² + j²) / 2σ²) is a row's part times a column's: two matrices, as for the crop.
    matrix = blur_matrix(sigma, kernel_size, x.shape[2]).to(x.dtype)
    return along_both_axes(x, matrix, matrix)


def blur_matrix(sigma, kernel_size, size):
    """A Gaussian of kernel_size taps along one axis, reflected at the border, one matrix per image.

    sigma: (N,) in pixels, above 0   returns: (N, size, size), every row sums to 1
    """
    offset = torch.arange(kernel_size, device=sigma.device) - kernel_size // 2
    # softmax(-offset² / 2σ²) is the Gaussian divided by its sum: (N, kernel_size)
    taps = torch.softmax(-0.5 * (offset / sigma[:, None]) ** 2, dim=1)
    place = torch.arange(size, device=sigma.device)[:, None] + offset  # (size, kernel_size)
    # Pixel -1 is pixel 1, pixel `size` is pixel size - 2; zeros outside would darken the edges.
    place = (size - 1) - ((size - 1) - place.abs()).abs()
    return torch.einsum("nk,ikj->nij", taps, torch.eye(size, device=sigma.device)[place])


def normalize(x, mean, std):
    """(x - mean) / std per channel; in place.   x: (N, 3, H, W)   mean, std: three numbers each."""
    # On the CPU first: torch.tensor(..., device="cuda") would wait for the GPU at every step.
    mean, std = to_device(torch.tensor([mean, std], dtype=x.dtype), x.device)[..., None, None]
    return x.sub_(mean).div_(std)


def center_crop(x, size=None):
    """What kNN and the probe see of images: (N, 3, C, C) uint8 -> (N, 3, S, S) in [0, 1].

    size: S; by default C, which shows whole images. If S < C, the central 7/8 of each side (or S
    pixels, if that is more) is resized to S, like Resize 256 and CenterCrop 224 in the official
    code.
    """
    N, _, _, C = x.shape
    size = size or C
    box = max(size, round(C * 7 / 8))
    start = (C - box) // 2
    x = x.float().div_(255)
    if box == size:
        return x[:, :, start : start + box, start : start + box]
    start, box_size = (torch.full((N, 2), v, device=x.device) for v in (start, box))
    flip = torch.zeros(N, dtype=torch.bool, device=x.device)
    return resized_crop(x, start, box_size, flip, size)


# ------------------------------------------------------------------------------------------------
# Plumbing.


def apply_where(chosen, operation, x, *parameters):
    """x[i] = operation(x[i], parameter[i] ...) for the images i that `chosen`, (N,) bool, marks."""
    # `chosen` and the parameters are on the CPU: counting on a GPU would mean waiting for it.
    i = chosen.nonzero().squeeze(1)
    if len(i):
        where, *parameters = (to_device(v, x.device) for v in (i, *(p[i] for p in parameters)))
        x.index_copy_(0, where, operation(x.index_select(0, where), *parameters))


def to_device(v, device):
    """Copy a tensor from the CPU to a device, on CUDA without waiting for the GPU's other work."""
    # CUDA does so only from pinned memory; torch.compile cannot trace pin_memory().
    if torch.device(device).type == "cuda" and not torch.compiler.is_compiling():
        return v.pin_memory().to(device, non_blocking=True)
    return v.to(device)


def main():
    """Write a picture of a data set's views, as train.py makes them."""
    import options
    from utils import data, faults, plot
    from utils.arguments import ending, positive, seed

    p = argparse.ArgumentParser(description="Write a picture: originals above two views of each.")
    p.add_argument("--data", default="shapes", help="as in train.py (default: shapes)")
    p.add_argument("--root", default="datasets", help="as in train.py (default: datasets)")
    p.add_argument("--image-size", type=positive, help="as in train.py")
    p.add_argument("--crop-min", type=float, help="smallest share of an image's area that a view"
                   " shows (default: that of train.py)")
    p.add_argument("--blur", type=float, help="probability of blur (default: that of train.py)")
    p.add_argument("--skip-bad-images", action="store_true", help="as in train.py")
    p.add_argument("--seed", type=seed, default=0, help="seed of the views (default: 0)")
    p.add_argument("--out", type=ending(".png"), default="views.png",
                   help="the picture (default: views.png)")
    args = options.parser().parse_args([], p.parse_args())  # all else has train.py's defaults
    torch.manual_seed(args.seed)
    images = data.load(args.data, args.root, args.image_size, args.skip_bad_images)
    size, _ = options.sizes(args, images)
    args = options.fill_in(args, size)
    options.refuse(faults.value_faults(args))
    args.mean, args.std = images.mean_std()
    augment = options.augmentation(args)
    x = images.train[torch.randperm(len(images.train))[:16]]  # (16, 3, C, C)
    views = augment.view(x.repeat(2, 1, 1, 1), *augment.draw(2 * len(x), x.shape[2])).chunk(2)
    plot.save_views(center_crop(x, size), views, args.out)
    print(f"{args.out}: {len(x)} images of {args.data} above two views of each")


if __name__ == "__main__":
    from utils.console import plain_errors

    plain_errors(main)()
