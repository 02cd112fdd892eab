"""Answers to exercise 7, right and wrong."""

HUE, JITTER = "augment.py:hue", "augment.py:color_jitter"


def textbook(green="2", angle="h + 6 * shift[:, None, None]", chroma="c.clamp(min=1e-12)"):
    """Hue by masks: every case of the formula on its own."""
    return HUE, f"""
def hue(x, shift):
    r, g, b = x[:, 0], x[:, 1], x[:, 2]
    v = torch.maximum(torch.maximum(r, g), b)
    c = v - torch.minimum(torch.minimum(r, g), b)
    safe = {chroma}
    h = torch.where(v == r, (g - b) / safe,
                    torch.where(v == g, {green} + (b - r) / safe, 4 + (r - g) / safe))
    h = {angle}
    channels = []
    for k in range(3):
        t = h / 6 - k / 3
        t = t - torch.floor(t)
        channels.append(v - c * (2 - (6 * t - 3).abs()).clamp(0, 1))
    return torch.stack(channels, dim=1)
"""


def steps(order="order[i].tolist()", factor="float(factors[i, kind])", none="continue",
          shift="factors[i : i + 1, HUE]"):
    """The jitter as a loop over images and operations."""
    return JITTER, f"""
def color_jitter(x, factors, order):
    out = x.clone()
    for i in range(len(x)):
        image = x[i : i + 1].clone()
        for t, kind in enumerate({order}):
            if kind == NONE:
                {none}
            if kind == HUE:
                image = hue(image, {shift})
            else:
                one = torch.ones(1, 1, 1, 1)
                image = blend(image, {factor} * one, (kind == CONTRAST) * one,
                              (kind == SATURATION) * one)
        out[i] = image[0]
    return out
"""


WRONG = {
    "nearly gray pixels are too gray": textbook(chroma="c.clamp(min=5e-2)"),
    "a little is added to c": textbook(chroma="c + 1e-3"),
    "the first image's shift for all": steps(shift="factors[:1, HUE]"),
    "the shift is in sixths of a turn": textbook(angle="h + shift[:, None, None]"),
    "the shift is in degrees": textbook(angle="h + 6 * shift[:, None, None] / 360"),
    "the wrong direction": textbook(angle="h - 6 * shift[:, None, None]"),
    "one shift for the batch": textbook(angle="h + 6 * shift[0]"),
    "green starts at 1": textbook(green="1"),
    "0 / 0 in gray pixels": textbook(chroma="c"),
    "no rotation": textbook(angle="h"),
    "frac of negative numbers": (HUE, '''
def hue(x, shift):
    r, g, b = x.unbind(dim=1)
    v = x.amax(dim=1)
    c = v - x.amin(dim=1)
    safe = c.clamp(min=1e-12)
    h = torch.where(v == r, (g - b) / safe,
                    torch.where(v == g, 2 + (b - r) / safe, 4 + (r - g) / safe)) / 6
    h = h + shift[:, None, None]
    ramps = [(2 - (6 * torch.frac(h - k / 3) - 3).abs()).clamp(0, 1) for k in range(3)]
    return torch.stack([v - c * ramp for ramp in ramps], dim=1)
'''),
    "the channels are turned instead of the hue": (HUE, '''
def hue(x, shift):
    a = shift[:, None, None, None].abs() * 3
    turned = torch.where(shift[:, None, None, None] > 0, x.roll(1, dims=1), x.roll(-1, dims=1))
    return x + a * (turned - x)
'''),
    "one order for the batch": steps(order="order[0].tolist()"),
    "always brightness, contrast, saturation, hue": steps(order="sorted(order[i].tolist())"),
    "the order backwards": steps(order="reversed(order[i].tolist())"),
    "order read as positions": steps(
        order="order[i].argsort().tolist() if order[i, 0] != NONE else [NONE] * 4"),
    "hue always last": steps(
        order="sorted(order[i].tolist(), key=lambda kind: kind == HUE)"),
    "factors by position": steps(factor="float(factors[i, t])", shift="factors[i : i + 1, t]"),
    "one set of factors for the batch": steps(factor="float(factors[0, kind])"),
    "NONE is the last operation": steps(none="kind = HUE"),
    "nothing is returned": (JITTER, '''
def color_jitter(x, factors, order):
    for i in range(len(x)):
        for kind in order[i].tolist():
            if kind == HUE:
                x[i : i + 1] = hue(x[i : i + 1], factors[i : i + 1, HUE])
            elif kind != NONE:
                one = torch.ones(1, 1, 1, 1)
                blend(x[i : i + 1], factors[i, kind] * one, one * (kind == CONTRAST),
                      one * (kind == SATURATION))
'''),
    "a jitter without the clip": (JITTER, '''
def color_jitter(x, factors, order):
    for i in range(len(x)):
        for kind in order[i].tolist():
            f, image = factors[i, kind], x[i : i + 1]
            if kind == BRIGHTNESS:
                image = f * image
            elif kind == CONTRAST:
                image = f * image + (1 - f) * grayscale(image).mean()
            elif kind == SATURATION:
                image = f * image + (1 - f) * grayscale(image)
            elif kind == HUE:
                image = hue(image, f[None])
            x[i] = image[0]
    return x.clamp(0, 1)
'''),
    "contrast towards the mean of each channel": (JITTER, '''
def color_jitter(x, factors, order):
    for i in range(len(x)):
        for kind in order[i].tolist():
            f, image = factors[i, kind], x[i : i + 1]
            if kind == BRIGHTNESS:
                image = f * image
            elif kind == CONTRAST:
                image = f * image + (1 - f) * image.mean(dim=(2, 3), keepdim=True)
            elif kind == SATURATION:
                image = f * image + (1 - f) * grayscale(image)
            elif kind == HUE:
                image = hue(image, f[None])
            x[i] = image[0].clamp(0, 1)
    return x
'''),
}

RIGHT = {
    "hue by masks": textbook(),
    "colorsys in a loop": (HUE, '''
def hue(x, shift):
    import colorsys
    out = x.clone()
    for n in range(x.shape[0]):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                h, s, v = colorsys.rgb_to_hsv(*x[n, :, i, j].tolist())
                out[n, :, i, j] = torch.tensor(
                    colorsys.hsv_to_rgb((h + float(shift[n])) % 1, s, v))
    return out
'''),
    "a loop over images": steps(),
    "torchvision, in place": (JITTER, '''
def color_jitter(x, factors, order):
    from torchvision.transforms.v2 import functional as TF
    adjust = TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue
    for i in range(len(x)):
        for kind in order[i].tolist():
            if kind >= 0:
                x[i] = adjust[kind](x[i], factors[i, kind].item())
    return x
'''),
}
