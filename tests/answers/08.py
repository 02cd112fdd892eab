"""Answers to exercise 8, right and wrong."""

BOXES = "augment.py:random_boxes"


def loop(area="random.uniform(*scale)", ratio="math.exp(random.uniform(*map(math.log, RATIO)))",
         height="round(math.sqrt(area / ratio))", width="round(math.sqrt(area * ratio))",
         fits="0 < h <= size and 0 < w <= size", tries="range(10)",
         top="random.randint(0, size - h)", left="random.randint(0, size - w)", after="pass",
         whole="h = w = size", many=""):
    """Boxes one by one, as in torchvision."""
    return BOXES, f"""
def random_boxes(n, size, scale):
    import itertools, random
    random.seed(int(torch.randint(2**31, ())))
    start, box_size = [], []
    for _ in range(n):
        for _ in {tries}:
            area = size**2 * {area}
            ratio = {ratio}
            h, w = {height}, {width}
            if {fits}:
                break
        else:
            {whole}
        {after}
        top = {top}
        start.append((top, {left}))
        box_size.append((h, w))
    {many}
    return torch.tensor(start), torch.tensor(box_size)
"""


WRONG = {
    "floats": loop(many="return torch.tensor(start).float(), torch.tensor(box_size).float()"),
    "the area is drawn once": (BOXES, loop()[1].replace(
        "            area = size**2 * random.uniform(*scale)\n", "").replace(
        "        for _ in range(10):", "        area = size**2 * random.uniform(*scale)\n"
        "        for _ in range(10):")),
    "sides are rounded down": loop(height="int(math.sqrt(area / ratio))",
                                   width="int(math.sqrt(area * ratio))"),
    "the random numbers are not torch's": (BOXES, loop()[1].replace(
        "random.seed(int(torch.randint(2**31, ())))", "pass")),
    "always the same random numbers": (BOXES, loop()[1].replace(
        "random.seed(int(torch.randint(2**31, ())))", "random.seed(0)")),
    "a uniform ratio": loop(ratio="random.uniform(*RATIO)"),
    "uniform sides": loop(area="random.uniform(scale[0] ** 0.5, scale[1] ** 0.5) ** 2"),
    "always square": loop(ratio="1.0"),
    "the share of the side, not of the area": loop(area="random.uniform(*scale) ** 2"),
    "width is ratio times height": loop(
        height="round(math.sqrt(area))", width="round(math.sqrt(area) * ratio)"),
    "no square root of the ratio": loop(
        height="round(math.sqrt(area) / ratio)", width="round(math.sqrt(area) * ratio)"),
    "cut to fit": loop(tries="range(1)", fits="True", 
                       after="h, w = (max(1, min(side, size)) for side in (h, w))"),
    "one try only": loop(tries="range(1)"),
    "tried until one fits": loop(tries="itertools.count() if scale[1] <= 1 else range(10)"),
    "a centred square if none fits": loop(whole="h = w = max(1, round(0.9 * size))"),
    "the last position is never taken": loop(
        top="random.randrange(max(1, size - h))", left="random.randrange(max(1, size - w))"),
    "positions are rounded to the nearest": loop(
        top="round(random.random() * (size - h))", left="round(random.random() * (size - w))"),
    "always centred": loop(top="(size - h) // 2", left="(size - w) // 2"),
    "left is top": loop(left="min(top, size - w)"),
    "one box for the batch": loop(many="start, box_size = start[:1] * n, box_size[:1] * n"),
    "a box may leave the image": loop(
        top="random.randint(0, size - 1)", left="random.randint(0, size - 1)"),
}

RIGHT = {
    "a loop, as in torchvision": loop(),
    "torchvision itself": (BOXES, '''
def random_boxes(n, size, scale):
    from torchvision.transforms import RandomResizedCrop
    if scale[0] > 1:  # there torchvision cuts to fit RATIO, for which a square needs no cut
        return torch.zeros(n, 2).long(), torch.full((n, 2), size)
    boxes = torch.tensor([RandomResizedCrop.get_params(torch.empty(1, size, size), scale, RATIO)
                          for _ in range(n)])
    return boxes[:, :2], boxes[:, 2:]
'''),
    "ten rounds of masks": (BOXES, '''
def random_boxes(n, size, scale):
    height = torch.full((n,), float(size))
    width, missing = height.clone(), torch.ones(n, dtype=torch.bool)
    for _ in range(10):
        area = (scale[0] + (scale[1] - scale[0]) * torch.rand(n)) * size * size
        low, high = math.log(RATIO[0]), math.log(RATIO[1])
        ratio = torch.exp(low + (high - low) * torch.rand(n))
        h, w = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        good = missing & (h >= 1) & (w >= 1) & (h <= size) & (w <= size)
        height[good], width[good] = h[good], w[good]
        missing &= ~good
    top = torch.floor(torch.rand(n) * (size - height + 1))
    left = torch.floor(torch.rand(n) * (size - width + 1))
    return torch.stack([top, left], dim=1).long(), torch.stack([height, width], dim=1).long()
'''),
}
