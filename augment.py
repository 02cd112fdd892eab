"""The two views of an image: the paper's augmentations, on whole batches of uint8 tensors.

Sec. 3 and App. A, in this order: random resized crop, colour jitter, grayscale, Gaussian blur,
horizontal flip, normalisation. Every operation takes one parameter per image, so that what becomes
of image i never depends on its neighbours; given the parameters it is torchvision.transforms.v2's.
The draws are made on the CPU, whatever device the images are on: one seed, the same views.

    python augment.py                            views.png: shapes and two views of each
    python augment.py --data PATH --out x.png    the same for a folder of images, cifar10, ...
"""

import argparse
import io
import math
import pathlib

import torch


def to_device(v, device):
    """A tensor of the CPU on a device; on CUDA without waiting for what that has still to do.

    CUDA is sure not to wait only if the memory is pinned. Elsewhere it is safer to wait: on mps
    the copy may otherwise read memory that has been freed (pytorch#189690).
    """
    if torch.device(device).type == "cuda":
        return v.pin_memory().to(device, non_blocking=True)
    return v.to(device)


# ------------------------------------------------------------------------------------------------
# Geometry. Cropping with resizing, and blurring, are linear along each axis: two matrices an image.


def along_both_axes(x, rows, columns):
    """rows @ image @ columns^T for each channel of each image.

    x: (N, C, H, W)   rows: (N, H', H)   columns: (N, W', W)   returns: (N, C, H', W')
    """
    N, C, H, W = x.shape
    x = torch.bmm(columns, x.reshape(N, C * H, W).transpose(1, 2))  # (N, W', C H)
    x = x.view(N, columns.shape[1] * C, H)
    x = torch.bmm(x, rows.transpose(1, 2))  # (N, W' C, H')
    return x.view(N, columns.shape[1], C, rows.shape[1]).permute(0, 2, 3, 1).contiguous()


def resize_matrix(start, length, mirrored, size_in, size_out):
    """Bilinear, antialiased interpolation of the pixels from start on, as matrices.

    start, length: (...) whole pixels   mirrored: (...) bool, from the box's end to its start
    returns: (..., size_out, size_in), every row sums to 1
    Row i is a triangle around the place of output pixel i in the input; its half-width is one input
    pixel, or one output pixel if that is larger, and it ends at the box, as in PIL and torchvision.
    """
    start, length, mirrored = (v[..., None, None] for v in (start, length, mirrored))
    scale = length / size_out  # input pixels per output pixel
    place = (torch.arange(size_out, device=start.device)[:, None] + 0.5) * scale
    place = start + torch.where(mirrored, length - place, place)
    pixel = torch.arange(size_in, device=start.device)
    weight = (pixel + 0.5 - place).abs_().div_(-scale.clamp(min=1)).add_(1).clamp_(min=0)
    inside = (pixel >= start) & (pixel < start + length)
    weight.mul_(inside.to(weight.dtype))
    return weight.div_(weight.sum(dim=-1, keepdim=True))


def resized_crop(x, start, length, flip, size):
    """Cut a box out of each image, resize it to size x size, and mirror it where flip is true.

    x: (N, C, S, S)   start, length: (N, 2) whole pixels, top and left, height and width
    flip: (N,) bool   returns: (N, C, size, size)
    """
    # App. A flips last; mirroring commutes with all that follows, and here it costs nothing.
    mirrored = torch.stack([torch.zeros_like(flip), flip], dim=1)  # rows not, columns
    matrices = resize_matrix(start, length, mirrored, x.shape[2], size)
    return along_both_axes(x, *matrices.to(x.dtype).unbind(dim=1))


def blur_matrix(sigma, kernel_size, size):
    """A Gaussian of kernel_size taps along one axis, mirrored at the border, as a matrix per image.

    sigma: (N,) in pixels, above 0   returns: (N, size, size), every row sums to 1
    """
    offset = torch.arange(kernel_size, device=sigma.device) - kernel_size // 2
    taps = torch.softmax(-0.5 * (offset / sigma[:, None]) ** 2, dim=1)  # (N, kernel_size)
    place = torch.arange(size, device=sigma.device)[:, None] + offset
    place = (size - 1) - ((size - 1) - place.abs()).abs()  # mirrored beyond the border
    return torch.einsum("nk,ikj->nij", taps, torch.eye(size, device=sigma.device)[place])


def gaussian_blur(x, sigma, kernel_size):
    """Blur each image with its own sigma: (N, C, S, S), (N,) -> (N, C, S, S)."""
    matrix = blur_matrix(sigma, kernel_size, x.shape[2]).to(x.dtype)
    return along_both_axes(x, matrix, matrix)


# ------------------------------------------------------------------------------------------------
# Colour. x: (N, 3, H, W) in [0, 1], returns: (N, 3, H, W) in [0, 1].

BRIGHTNESS, CONTRAST, SATURATION, HUE, NONE = 0, 1, 2, 3, -1


def grayscale(x):
    """Luma of each pixel: (N, 3, H, W) -> (N, 1, H, W), weights of ITU-R 601 as torchvision's."""
    r, g, b = x.unbind(dim=1)
    return (0.2989 * r).add_(g, alpha=0.587).add_(b, alpha=0.114)[:, None]


def blend(x, factor, m_share, y_share):
    """factor x + (1 - factor) other, clipped to [0, 1]; in place.   factor, shares: (N, 1, 1, 1)

    other = m_share m + y_share y, y being the image's grayscale and m the mean of that: black if
    both shares are 0 (brightness), m if they are 1 and 0 (contrast), y if 0 and 1 (saturation).
    """
    y = grayscale(x)
    other = (y_share * y).add_(m_share * y.mean(dim=(2, 3), keepdim=True))
    return x.lerp_(other, 1 - factor).clamp_(0, 1)


def hue(x, shift):
    """Turn the hue of HSV by shift, (N,), in turns of the colour circle, keeping S and V.

    With v = max(r, g, b), c = v - min(r, g, b), a = (g - b) / c and w = (v - r) / c, the hue is
    sign(a) (|a| + w (3 - 2 |a|)) sixths of a turn from red: |a| where red is the largest channel
    (w = 0), 3 - |a| where it is the smallest (w = 1), and 1 + w between (|a| = 1). Turned to h,
    the channels are v + c clip(|6 frac(h + n) - 3| - 2, -1, 0) for n = 0, -1/3, -2/3.
    """
    r, g, b = x.unbind(dim=1)
    v = x.amax(dim=1)  # (N, H, W)
    c = v - x.amin(dim=1)
    chroma = c.clamp(min=1e-12)  # a gray pixel has c = 0, and its hue does not matter
    a, w = (g - b).div_(chroma), (v - r).div_(chroma)
    distance = a.abs()
    h = torch.lerp(distance, 3 - distance, w).copysign_(a).div_(6)
    n = -torch.arange(3, device=x.device, dtype=x.dtype) / 3
    n = (shift[:, None] + n + 2)[:, :, None, None]  # the 2 keeps h + n positive, as frac needs
    ramp = (h[:, None] + n).frac_().mul_(6).sub_(3).abs_().sub_(2).clamp_(-1, 0)  # (N, 3, H, W)
    return torch.addcmul(v[:, None], c[:, None], ramp)


def color_jitter(x, factors, order):
    """Brightness, contrast, saturation and hue, in each image's own order; in place.

    factors: (N, 4), the last one the hue's shift
    order: (N, 4), each row a permutation of 0 ... 3, or all of it NONE
    """
    # All hues are turned at once, which is faster. An image's other turns come before that as far
    # as they precede its hue (they are among 0, 1, 2), and after it as far as they follow it.
    turn, hue_turn = torch.tensor([0, 1, 2, 1, 2, 3]), (order == HUE).int().argmax(1, keepdim=True)
    due = torch.cat([turn[:3] < hue_turn, turn[3:] > hue_turn], dim=1)  # (N, 6)
    kind = order[:, turn].where(due, NONE)
    factor = factors.gather(1, kind.clamp(min=0)).where(kind != NONE, 1.0)
    blends = torch.stack([factor, kind == CONTRAST, kind == SATURATION]).to(x.dtype)  # (3, N, 6)
    blends = to_device(blends, x.device).permute(2, 0, 1)[..., None, None, None]
    for i, parameters in enumerate(blends):
        if i == 3:
            apply_where(order[:, 0] != NONE, hue, x, factors[:, HUE])
        blend(x, *parameters)
    return x


def apply_where(chosen, operation, x, *parameters):
    """x[i] = operation(x[i], parameter[i] ...) for the images i that `chosen`, (N,) bool, marks."""
    i = chosen.nonzero().squeeze(1)
    if len(i):
        where, *parameters = (to_device(v, x.device) for v in (i, *(p[i] for p in parameters)))
        x.index_copy_(0, where, operation(x.index_select(0, where), *parameters))


# ------------------------------------------------------------------------------------------------
# The draws, and the whole view.

RATIO = 3 / 4, 4 / 3  # of a box's width to its height, as in torchvision


def random_boxes(n, size, scale):
    """Boxes of RandomResizedCrop: area uniform in `scale`, log aspect ratio uniform in RATIO.

    size: of the images, in pixels, which are square   scale: shares of their area
    returns: start, length, (n, 2) whole pixels each, top and left, height and width
    As in torchvision, the first of ten tries that fits is taken; if none does, the whole image.
    """
    area = size**2 * torch.empty(n, 10).uniform_(*scale)
    aspect = torch.empty(n, 10).uniform_(*map(math.log, RATIO)).exp()
    tries = torch.stack([area / aspect, area * aspect]).sqrt_().round_()  # (2, n, 10)
    fits = ((tries > 0) & (tries <= size)).all(dim=0)
    length = tries[:, torch.arange(n), fits.int().argmax(dim=1)]  # (2, n)
    length.masked_fill_(~fits.any(dim=1), size)
    start = torch.rand(2, n) * (size - length + 1)
    return start.T.long(), length.T.long()


class Augment:
    """T of Sec. 5: every call draws one fresh view of each image of a batch.

    x: (N, 3, S, S) uint8   returns: (N, 3, size, size) float32, normalised
    mean, std: of the data, per channel, in [0, 1]   crop_min: smallest share of the area shown
    jitter: strengths of brightness, contrast, saturation, hue   jitter_p ...: probabilities
    The defaults are App. A's, but blur_p, which it does not give, is the official code's.
    """

    def __init__(self, size, mean, std, crop_min=0.2, jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8,
                 gray_p=0.2, blur_p=0.5, flip_p=0.5):
        self.size, self.mean, self.std = size, mean, std
        self.crop_scale, self.jitter = (crop_min, 1.0), torch.tensor(jitter)
        self.jitter_p, self.gray_p, self.blur_p, self.flip_p = jitter_p, gray_p, blur_p, flip_p
        # here: about a tenth of the image, as SimCLR has it; the paper does not say
        self.kernel_size = max(3, size // 20 * 2 + 1)

    def __call__(self, x):
        draws = self.draw(len(x), x.shape[2])
        # 128 images at a time stay in a CPU's cache, which is faster than a batch of 512 at once
        size = 128 if x.device.type == "cpu" else len(x)
        views = torch.empty(len(x), x.shape[1], self.size, self.size, device=x.device,
                            memory_format=torch.channels_last)  # as fast convolutions want it
        for out, *piece in zip(views.split(size), x.split(size), *(d.split(size) for d in draws)):
            out.copy_(normalize(self.view(*piece), self.mean, self.std))
        return views

    def draw(self, n, size):
        """All random numbers of n views: tensors of n rows, the arguments of view() after x."""
        chance = lambda p: torch.rand(n) < p
        boxes = random_boxes(n, size, self.crop_scale)
        flip = chance(self.flip_p)
        factors = torch.tensor([1.0, 1.0, 1.0, 0.0]) + self.jitter * (2 * torch.rand(n, 4) - 1)
        order = torch.rand(n, 4).argsort(dim=1)
        order.masked_fill_(~chance(self.jitter_p)[:, None], NONE)
        gray, blur = chance(self.gray_p), chance(self.blur_p)
        return *boxes, flip, factors, order, gray, blur, torch.empty(n).uniform_(0.1, 2.0)

    def view(self, x, start, length, flip, factors, order, gray, blur, sigma):
        """The views so drawn, not yet normalised: (N, 3, S, S) uint8 -> (N, 3, size, size)."""
        boxes = (to_device(v, x.device) for v in (start, length, flip))
        x = color_jitter(resized_crop(x.float().div_(255), *boxes, self.size), factors, order)
        apply_where(gray, lambda x: grayscale(x).expand_as(x), x)
        apply_where(blur, lambda x, s: gaussian_blur(x, s, self.kernel_size), x, sigma)
        return x


def normalize(x, mean, std):
    """(x - mean) / std per channel, in place; mean, std: three numbers each, in the units of x."""
    mean, std = to_device(torch.tensor([mean, std], dtype=x.dtype), x.device)[..., None, None]
    return x.sub_(mean).div_(std)


# ------------------------------------------------------------------------------------------------


def save_views(augment, x, path):
    """Write a picture: images x, (N, 3, size, size) uint8, above two views of each."""
    from torchvision.utils import save_image

    from runs import write_whole

    views = (augment.view(x, *augment.draw(len(x), x.shape[2])) for _ in range(2))
    sheet = torch.cat([x.float() / 255, *views])
    for axis in (2, 3):
        sheet = sheet.repeat_interleave(max(1, 72 // augment.size), dim=axis)
    picture = io.BytesIO()
    save_image(sheet, picture, format="png", nrow=len(x))
    write_whole(pathlib.Path(path), picture.getvalue())


def main():
    """Write a sheet of views of a data set."""
    import data

    p = argparse.ArgumentParser(description="Write a picture: originals above two views of each.")
    p.add_argument("--data", default="shapes", help="as in train.py (default: shapes)")
    p.add_argument("--root", default="datasets", help="as in train.py (default: datasets)")
    p.add_argument("--blur", type=float, default=0.0, help="probability of blur (default: 0)")
    p.add_argument("--seed", type=int, default=0, help="seed of the views (default: 0)")
    p.add_argument("--out", default="views.png", help="the picture (default: views.png)")
    args = p.parse_args()
    torch.manual_seed(args.seed)
    images = data.load(args.data, args.root)
    augment = Augment(images.train.shape[-1], *images.mean_std(), blur_p=args.blur)
    save_views(augment, images.train[torch.randperm(len(images.train))[:16]], args.out)
    print(f"{args.out}: 16 images of {args.data} above two views of each")


if __name__ == "__main__":
    main()
