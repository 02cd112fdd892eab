"""The laws of exercise 7: hue, and the colour jitter's order."""

import colorsys
import itertools
from functools import partial

import torch
import torchvision.transforms.v2.functional as TF

from augment import BRIGHTNESS, CONTRAST, HUE, NONE, SATURATION, color_jitter, hue
from exercises import exercise
from exercises.exercise import show

BLANKS = ["augment.py:hue", "augment.py:color_jitter"]
READ = ("App. A, ColorJitter; the docstrings of hue, color_jitter and blend in augment.py; colorsys"
        " in Python's manual.")
demand = partial(exercise.demand, rtol=1e-3, atol=1e-3)

NAMES = {BRIGHTNESS: "brightness", CONTRAST: "contrast", SATURATION: "saturation", HUE: "hue"}
NEUTRAL = [1.0, 1.0, 1.0, 0.0]  # factors that change nothing


def image(*pixels):
    """An image of one row of pixels (r, g, b): (1, 3, 1, number of pixels)."""
    return torch.tensor(pixels, dtype=torch.float32).T[None, :, None]


def rotated(color, shift):
    """The colour of one pixel after hue()."""
    return hue(image(color), torch.tensor([shift]))[0, :, 0, 0]


def law_a_third_of_a_turn_takes_red_to_green():
    """A third of a turn takes red to green, green to blue and blue to red; a sixth, half way."""
    red, green, blue = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    for color, shift, wanted in ((red, 1 / 3, green), (green, 1 / 3, blue), (blue, 1 / 3, red),
                                 (red, -1 / 3, blue), (red, 1 / 6, [1, 1, 0]),
                                 (red, 0.5, [0, 1, 1])):
        demand(rotated(color, shift), wanted, f"The colour {show(color)}, rotated by {shift:.4g} of"
               " a turn, must be")


def law_value_and_saturation_stay():
    """The rotation keeps a pixel's largest and smallest value, v and v - c."""
    # Hue (0.6 - 0.2) / 0.6 = 2/3 of a sixth; half a turn adds 3 sixths.
    demand(rotated([0.8, 0.6, 0.2], 0.5), [0.2, 0.4, 0.8], "The colour [0.8, 0.6, 0.2], rotated by"
           " half a turn, must be")


def law_grey_stays():
    """Grey, black and white have no hue and stay as they are."""
    for v in (0.0, 0.5, 1.0):
        demand(rotated([v] * 3, 0.1), [v] * 3, f"The grey {show([v] * 3)}, rotated by 0.1, must be")


def law_nearly_grey_is_rotated_like_any_colour():
    """A colour that is nearly grey is rotated, too: dividing by c must not go wrong there."""
    color = [0.51, 0.5, 0.49]
    for shift, wanted in ((1 / 3, [0.49, 0.51, 0.5]), (0.5, [0.49, 0.5, 0.51])):
        demand(rotated(color, shift), wanted, f"The colour {color}, rotated by {shift:.4g}, must"
               " be", atol=1e-5, rtol=1e-5)


def law_no_shift_changes_nothing():
    """A shift of 0 changes no colour, and neither does a whole turn, in two halves."""
    for color in ([0.8, 0.6, 0.2], [0.1, 0.9, 0.4], [0.3, 0.2, 0.7]):
        demand(rotated(color, 0.0), color, f"The colour {color}, rotated by 0, must be")
        demand(rotated(rotated(color, 0.5).tolist(), 0.5), color, f"The colour {color}, rotated"
               " twice by 0.5, must be")


def law_colorsys_agrees():
    """The result is that of Python's colorsys, for every colour and shift."""
    for color in itertools.product((0.1, 0.4, 0.9), repeat=3):
        h, s, v = colorsys.rgb_to_hsv(*color)
        for shift in (-0.5, -0.3, -0.1, 0.1, 0.25, 0.45):
            wanted = colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)
            demand(rotated(list(color), shift), wanted, f"The colour {show(color)}, rotated by"
                   f" {shift}, must be")


def law_every_image_has_its_own_shift():
    """Every image of a batch has its own shift, every pixel of an image the same."""
    x = image([1, 0, 0], [0, 1, 0]).repeat(2, 1, 1, 1)
    got = hue(x, torch.tensor([0.0, 1 / 3]))
    for i, wanted in enumerate(([[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 1]])):
        demand(got[i, :, 0].T, wanted, "In a batch of two, each a red and a green pixel, with"
               f" shifts 0 and 1/3, image {i} must be")


def jittered(pixels, order, **factors):
    """The pixels of one image after color_jitter, where factors not given change nothing."""
    values = list(NEUTRAL)
    for kind, name in NAMES.items():
        values[kind] = factors.get(name, values[kind])
    got = color_jitter(image(*pixels), torch.tensor([values]), torch.tensor([order]))
    assert isinstance(got, torch.Tensor), (
        f"color_jitter must return the images; yours returns a {type(got).__name__}.")
    return got[0, :, 0].T


def words(order):
    return ", ".join(NAMES[kind] for kind in order)


def law_each_operation_has_its_own_factor():
    """Each operation takes its own column of factors, wherever it stands in the order."""
    pixels = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]
    # The grey of red is 0.2989, and the mean of 0.2989 and 0.5 is 0.3995.
    for name, factor, wanted in (("brightness", 0.5, [[0.5, 0, 0], [0.25] * 3]),
                                 ("contrast", 0.0, [[0.3995] * 3] * 2),
                                 ("saturation", 0.0, [[0.2989] * 3, [0.5] * 3]),
                                 ("hue", 1 / 3, [[0, 1, 0], [0.5] * 3])):
        for order in itertools.permutations(NAMES):
            got = jittered(pixels, order, **{name: factor})
            demand(got, wanted, f"With the order {words(order)} and {name} {factor:.4g} alone (the"
                   f" others change nothing), the pixels {pixels} must become")


def law_each_result_is_cut_to_0_and_1():
    """The result of each operation is clipped to [0, 1] before the next, as in blend()."""
    # 0.2, 0.8 become 0.4, 1.6; cut, they are 0.4 and 1, with the mean 0.7.
    order = [BRIGHTNESS, CONTRAST, SATURATION, HUE]
    demand(jittered([[0.2] * 3, [0.8] * 3], order, brightness=2.0, contrast=0.5),
           [[0.55] * 3, [0.85] * 3], f"With the order {words(order)}, brightness 2, which takes 0.2"
           " and 0.8 to 0.4 and 1, and contrast 0.5, these pixels must become")


def law_the_order_counts():
    """The operations follow each other as order says: order[i][0] comes first, then order[i][1]."""
    pixels = [[0.2] * 3, [0.8] * 3]
    # Contrast first: 0.35, 0.65, then twice that, cut to 1. Brightness first: 0.4 and 1, mean 0.7.
    contrast_first, brightness_first = [[0.7] * 3, [1.0] * 3], [[0.55] * 3, [0.85] * 3]
    for order in itertools.permutations(NAMES):
        first = order.index(CONTRAST) < order.index(BRIGHTNESS)
        demand(jittered(pixels, order, brightness=2.0, contrast=0.5),
               contrast_first if first else brightness_first, f"With the order {words(order)},"
               f" brightness 2 and contrast 0.5, the pixels {pixels} must become")


def law_the_hue_has_its_place_in_the_order():
    """The hue is rotated at its own place in the order, not always first or last."""
    # A green pixel has the grey 0.587, a red one 0.2989.
    for order in itertools.permutations(NAMES):
        grey = 0.587 if order.index(HUE) < order.index(SATURATION) else 0.2989
        demand(jittered([[1.0, 0.0, 0.0]], order, saturation=0.0, hue=1 / 3), [[grey] * 3],
               f"With the order {words(order)}, saturation 0 and hue 1/3, a red pixel must become")


def law_NONE_changes_nothing():
    """An image whose order is NONE stays as it is, whatever its factors."""
    pixels = [[1.0, 0.0, 0.0], [0.3, 0.5, 0.2]]
    demand(jittered(pixels, [NONE] * 4, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1),
           pixels, f"With NONE as its order, the pixels {pixels} must become")


def law_every_image_has_its_own_order_and_factors():
    """Every image of a batch has its own order and its own factors."""
    pixels = [[0.2] * 3, [0.8] * 3]
    x = image(*pixels).repeat(4, 1, 1, 1)
    factors = torch.tensor([[2.0, 0.5, 1, 0], [2.0, 0.5, 1, 0], [0.5, 1, 1, 0], [2.0, 0.5, 1, 0]])
    order = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1, 0], [NONE] * 4])
    got = color_jitter(x, factors, order)
    for i, wanted in enumerate(([0.55, 0.85], [0.7, 1.0], [0.1, 0.4], [0.2, 0.8])):
        demand(got[i, 0, 0], wanted, "In a batch of four whose pixels are grey, 0.2 and 0.8, with"
               f" the factors {show(factors)} and the orders {order.tolist()}, image {i} must have"
               " the pixels")
    x = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    factors[:, HUE] = torch.tensor([0.3, -0.2, 0.1, 0.5])
    got = color_jitter(x.clone(), factors, order)
    for i in range(4):
        alone = color_jitter(x[i : i + 1].clone(), factors[i : i + 1], order[i : i + 1])
        demand(got[i, :, 0, 0], alone[0, :, 0, 0], f"In a batch of four images of random colours"
               f" the first pixel of image {i} must be what it is if the image is alone,")


def law_torchvision_agrees():
    """For random factors and orders the result is that of torchvision's functions in that order."""
    theirs = TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        x = torch.rand(1, 3, 2, 2, generator=generator)
        factors = torch.rand(1, 4, generator=generator) + torch.tensor([0.5, 0.5, 0.5, -0.5])
        order = torch.randperm(4, generator=generator)
        wanted = x
        for kind in order.tolist():
            wanted = theirs[kind](wanted, factors[0, kind].item())
        got = color_jitter(x.clone(), factors, order[None])
        demand(got[0, :, 0, 0], wanted[0, :, 0, 0], f"With the order {words(order.tolist())} and"
               f" factors {show(factors[0])}, the first of four random pixels,"
               f" {show(x[0, :, 0, 0])}, must become")
