"""Answers to exercise 6, right and wrong."""

CROP = "augment.py:resized_crop"


def loop(*lines):
    """A loop over the images, in which these lines make `out` of `image`, the box of one image."""
    return CROP, """
def resized_crop(x, start, box_size, flip, size):
    outs = []
    for image, (t, l), (h, w), mirrored in zip(x, start.tolist(), box_size.tolist(), flip.tolist()):
        image = image[None]
""" + "".join(f"        {line}\n" for line in lines) + """
        outs.append(out)
    return torch.cat(outs)
"""


BOX = "image = image[:, :, t : t + h, l : l + w]"
RESIZE = "out = torch.nn.functional.interpolate(image, (size, size), mode='bilinear', {})"
RIGHT_RESIZE = RESIZE.format("antialias=True")
FLIP = "out = out.flip(3) if mirrored else out"

WRONG = {
    "the corners are aligned": loop(BOX, RESIZE.format("align_corners=True"), FLIP),
    "no antialiasing": loop(BOX, RESIZE.format("antialias=False"), FLIP),
    "the nearest pixel": loop(
        BOX, "out = torch.nn.functional.interpolate(image, (size, size))", FLIP),
    "bicubic": loop(BOX, "out = torch.nn.functional.interpolate(image, (size, size),"
                    " mode='bicubic', antialias=True)", FLIP),
    "top and left exchanged": loop("t, l = l, t", BOX, RIGHT_RESIZE, FLIP),
    "height and width exchanged": loop("h, w = w, h", BOX, RIGHT_RESIZE, FLIP),
    "the flip is upside down": loop(
        BOX, RIGHT_RESIZE, "out = out.flip(2) if mirrored else out"),
    "no flip": loop(BOX, RIGHT_RESIZE),
    "all are flipped if one is": loop(
        BOX, RIGHT_RESIZE, "out = out.flip(3) if flip.any() else out"),
    "the image is flipped before the cut": loop(
        "image = image.flip(3) if mirrored else image", BOX, RIGHT_RESIZE),
    "the flip is in place": loop(
        "image.copy_(image.flip(3)) if mirrored else None",
        "l = image.shape[3] - l - w if mirrored else l", BOX, RIGHT_RESIZE),
    "one box for all images": loop(
        "(t, l), (h, w) = start[0].tolist(), box_size[0].tolist()", BOX, RIGHT_RESIZE, FLIP),
    "the box is cut out of the enlarged image": loop(
        "H, W = image.shape[2] * size / h, image.shape[3] * size / w",
        "out = torch.nn.functional.interpolate(image, (round(H), round(W)), mode='bilinear',"
        " antialias=True)",
        "t, l = round(t * size / h), round(l * size / w)",
        "out = out[:, :, t : t + size, l : l + size]", FLIP),
    "start is the box's middle": loop(
        "t, l = max(0, t - h // 2), max(0, l - w // 2)", BOX, RIGHT_RESIZE, FLIP),
}

RIGHT = {
    "F.interpolate in a loop": loop(BOX, RIGHT_RESIZE, FLIP),
    "torchvision in a loop": loop(
        "from torchvision.transforms.v2 import functional as TF",
        "out = TF.resized_crop(image, t, l, h, w, [size, size], antialias=True)",
        "out = TF.horizontal_flip(out) if mirrored else out"),
    "plain Python for the weights": (CROP, '''
def resized_crop(x, start, box_size, flip, size):
    def weights(first, length, backwards):
        scale, rows = length / size, []
        for i in range(size):
            middle = first + (i + 0.5) * scale
            row = [0.0] * x.shape[2]
            for j in range(first, first + length):
                row[j] = max(0.0, 1 - abs(j + 0.5 - middle) / max(1.0, scale))
            rows.append([v / sum(row) for v in row])
        return x.new_tensor(rows[::-1] if backwards else rows)

    result = x.new_empty(len(x), x.shape[1], size, size)
    for n in range(len(x)):
        rows = weights(int(start[n, 0]), int(box_size[n, 0]), False)
        columns = weights(int(start[n, 1]), int(box_size[n, 1]), bool(flip[n]))
        result[n] = rows @ x[n] @ columns.T
    return result
'''),
}
