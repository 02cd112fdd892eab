"""The laws of exercise 8: random boxes. Counts of a few thousand boxes, within five sigmas."""

import torch

from augment import random_boxes
from exercises.exercise import show

BLANKS = ["augment.py:random_boxes"]
READ = "App. A, RandomResizedCrop; the docstring of random_boxes in augment.py."


def boxes(n, size, low, high, seed=0):
    """(top, left, height, width) of n boxes: four lists of whole numbers."""
    torch.manual_seed(seed)
    got = random_boxes(n, size, (low, high))
    pair = isinstance(got, (tuple, list)) and [*map(torch.is_tensor, got)] == [True, True]
    assert pair, f"random_boxes must return two tensors ({n}, 2); yours returns {kinds(got)}."
    start, box_size = got
    for name, v in (("start", start), ("box_size", box_size)):
        assert v.shape == (n, 2), (f"For {n} images the shape of {name} must be [{n}, 2]; yours is"
                                   f" {list(v.shape)}.")
        assert (v == v.round()).all(), f"{name} must be whole pixels; yours has {show(v[:3])}."
        assert not v.is_floating_point(), f"{name} must be of an integer type; yours is {v.dtype}."
    return [*start.T.tolist(), *box_size.T.tolist()]


def kinds(got):
    """In words, what a function has returned."""
    several = isinstance(got, (tuple, list)) and len(got) < 5
    return " and ".join(f"a {type(v).__name__}" for v in (got if several else [got]))


def call(n, size, low, high):
    return f"random_boxes({n}, {size}, ({low}, {high}))"


def law_the_random_numbers_follow_torch_s_seed():
    """The random numbers follow torch's seed, which --seed sets: same seed, same boxes."""
    first, again, other = (boxes(20, 1000, 0.2, 0.8, seed) for seed in (0, 0, 1))
    assert first == again, ("After torch.manual_seed(0) random_boxes must give the same boxes each"
                            " time; yours does not.")
    assert first != other, ("After torch.manual_seed(0) and torch.manual_seed(1) random_boxes must"
                            " give different boxes; yours gives the same.")


def near(got, wanted, slack, what):
    assert abs(got - wanted) <= slack, (f"{what} must be about {wanted:.4g}, by chance up to"
                                        f" {slack:.3g} more or less; yours is {got:.4g}.")


def law_boxes_lie_inside_the_image():
    """Every box has at least one pixel and lies inside the image."""
    for size, low, high in ((4, 0.01, 1.0), (24, 0.2, 1.0)):
        for top, left, height, width in zip(*boxes(1000, size, low, high)):
            inside = (0 <= top <= top + height <= size and 0 <= left <= left + width <= size
                      and height > 0 and width > 0)
            assert inside, (f"{call(1000, size, low, high)} has a box with top {top}, left {left},"
                            f" height {height} and width {width}: it is not inside {size} × {size}"
                            " pixels, or empty.")


def law_every_image_has_its_own_box():
    """Every image has a box of its own."""
    distinct = len(set(zip(*boxes(100, 1000, 0.2, 0.8))))
    assert distinct > 90, (f"{call(100, 1000, 0.2, 0.8)} must give 100 boxes, nearly all different;"
                           f" yours gives {distinct} different ones.")


def law_the_area_is_a_share_of_the_image():
    """The area, height times width, is the share of the image's area that scale asks for."""
    for top, left, height, width in zip(*boxes(100, 1000, 0.25, 0.25)):
        share = height * width / 1000**2
        assert abs(share - 0.25) < 0.003, (
            f"{call(100, 1000, 0.25, 0.25)} has a box of {height} × {width} pixels, a share of"
            f" {share:.3f} of the area; it must be 0.25, up to rounding.")


def law_the_area_is_uniform():
    """Between the ends of scale all areas are equally likely, as long as every box fits."""
    _, _, height, width = boxes(4000, 1000, 0.1, 0.3)
    share = torch.tensor(height) * torch.tensor(width) / 1000**2
    what = f"Of the boxes of {call(4000, 1000, 0.1, 0.3)} the"
    near(share.min().item(), 0.1, 0.002, f"{what} smallest share of the area")
    near(share.max().item(), 0.3, 0.002, f"{what} largest share of the area")
    near(share.mean().item(), 0.2, 0.0046, f"{what} mean share of the area")
    near((share < 0.15).double().mean().item(), 0.25, 0.035, f"{what} part with a share below 0.15")


def law_the_aspect_ratio_is_within_RATIO():
    """Width / height is between 3/4 and 4/3, and takes values up to both ends."""
    _, _, height, width = boxes(4000, 1000, 0.1, 0.3)
    ratio = torch.tensor(width) / torch.tensor(height)
    what = f"Of the boxes of {call(4000, 1000, 0.1, 0.3)} the"
    near(ratio.min().item(), 3 / 4, 0.01, f"{what} smallest ratio of width to height")
    near(ratio.max().item(), 4 / 3, 0.02, f"{what} largest ratio of width to height")


def law_the_logarithm_of_the_ratio_is_uniform():
    """As long as every box fits, the log aspect ratio is uniform: wide is as likely as tall."""
    _, _, height, width = boxes(4000, 1000, 0.1, 0.3)
    log = (torch.tensor(width) / torch.tensor(height)).log()
    what = f"Of the boxes of {call(4000, 1000, 0.1, 0.3)} the"
    near(log.mean().item(), 0.0, 0.0135, f"{what} mean logarithm of width / height")
    near((log.abs() < 0.1438).double().mean().item(), 0.5, 0.04, f"{what} part of those with"
         " width / height between √(3/4) and √(4/3)")


def law_sides_are_rounded_to_the_nearest_pixel():
    """Height and width are rounded to the nearest whole number of pixels."""
    _, _, height, width = boxes(3000, 4, 0.25, 0.25)
    assert set(height) == set(width) == {2}, (
        f"The boxes of {call(3000, 4, 0.25, 0.25)} have sides of 1.73 to 2.31 pixels, which round"
        f" to 2; yours have heights {sorted(set(height))} and widths {sorted(set(width))}.")


def law_all_positions_are_equally_likely():
    """All positions of a box of a given size are equally likely, even the first and the last."""
    top, left, _, _ = boxes(3000, 4, 0.25, 0.25)
    for name, v in (("top", top), ("left", left)):
        counts = [v.count(i) for i in range(3)]
        for i in range(3):
            near(counts[i], 1000, 130, f"Of 3000 boxes of 2 × 2 pixels in images of 4 × 4 the"
                 f" number of those with {name} {i} (yours have {name} 0, 1, 2: {counts})")


def law_top_and_left_are_independent():
    """For boxes of one size, the top says nothing about the left."""
    top, left, _, _ = boxes(3000, 4, 0.25, 0.25)
    for pair in ((0, 0), (0, 2), (2, 2)):
        near(list(zip(top, left)).count(pair), 333, 90, "Of 3000 boxes of 2 × 2 pixels in images of"
             f" 4 × 4 the number of those with top {pair[0]} and left {pair[1]}")


def law_a_box_that_does_not_fit_is_drawn_again():
    """A box that does not fit is drawn again, up to ten tries in all; it is not cut to fit."""
    # √(0.9 · 4/3) > 1: a try fits if log(ratio) is within ±0.105 of its ±0.288, 37 % of them.
    _, _, height, width = boxes(2000, 1000, 0.9, 0.9)
    whole = [(h, w) for h, w in zip(height, width) if h == w == 1000]
    for h, w in set(zip(height, width)) - set(whole):
        share = h * w / 1000**2
        assert abs(share - 0.9) < 0.003, (
            f"{call(2000, 1000, 0.9, 0.9)} has a box of {h} × {w} pixels, a share of {share:.3f} of"
            " the area; it must be 0.9, or else the whole image.")
    # In 1 % of cases all ten tries fail: 21 of 2000.
    near(len(whole), 21, 20, "37 % of the boxes with a share of 0.9 fit, so all ten tries fail in"
         " 1 % of cases. Of 2000 boxes the number that are the whole image")


def law_each_try_draws_the_area_anew():
    """Each try draws area and ratio anew, so that large boxes, which fit less often, are rarer."""
    _, _, height, width = boxes(4000, 1000, 0.5, 1.0)
    share = torch.tensor(height) * torch.tensor(width) / 1000**2
    near(share.mean().item(), 0.692, 0.0095, f"Of the boxes of {call(4000, 1000, 0.5, 1.0)} the"
         " mean share of the area, if each try draws both area and ratio,")


def law_if_none_fits_it_is_the_whole_image():
    """If none of ten tries fits, the box is the whole image."""
    for box in set(zip(*boxes(50, 20, 1.5, 2.0))):
        assert box == (0, 0, 20, 20), (
            f"{call(50, 20, 1.5, 2.0)} asks for more than the image, so every box must be top 0,"
            " left 0, height 20, width 20; yours has one of {}, {}, {}, {}.".format(*box))
