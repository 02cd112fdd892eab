"""The laws of exercise 6: crop and resize."""

from functools import partial

import torch
import torchvision.transforms.v2.functional as TF

from augment import resized_crop
from exercises import exercise

BLANKS = ["augment.py:resized_crop"]
HIDE = ["augment.py:resize_matrix"]  # all but one line of an answer
READ = ("App. A, RandomResizedCrop; the docstrings of resized_crop and, for one way to write it, of"
        " resize_matrix and along_both_axes in augment.py.")
demand = partial(exercise.demand, rtol=1e-4, atol=1e-4)

IMAGE = [[11, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34], [41, 42, 43, 44]]  # row, column


def crop(image, top, left, height, width, size, flip=False):
    """The first channel of the crop of one image, whose channels are all the same."""
    got = resized_crop(torch.tensor(image, dtype=torch.float32).repeat(1, 3, 1, 1),
                       torch.tensor([[top, left]]), torch.tensor([[height, width]]),
                       torch.tensor([flip]), size)
    shape = list(got.shape) if torch.is_tensor(got) else f"of a {type(got).__name__}"
    assert shape == [1, 3, size, size], (
        f"For one image and size {size} the shape of the result must be [1, 3, {size}, {size}];"
        f" yours is {shape}.")
    return got[0, 0]


def law_a_box_as_large_as_the_output_is_cut_out():
    """A box of size × size pixels is cut out as it is, from its top and left."""
    demand(crop(IMAGE, 0, 0, 4, 4, 4), IMAGE, f"Of the image {IMAGE} the box with top 0, left 0,"
           " height 4 and width 4, at size 4, must be")
    demand(crop(IMAGE, 1, 2, 2, 2, 2), [[23, 24], [33, 34]], f"Of the image {IMAGE} the box with"
           " top 1, left 2, height 2 and width 2, at size 2, must be")


def law_mirrored_left_and_right():
    """Where flip is true the box is mirrored: left and right change places."""
    demand(crop(IMAGE, 1, 2, 2, 2, 2, flip=True), [[24, 23], [34, 33]], f"Of the image {IMAGE} the"
           " box with top 1, left 2, height 2 and width 2, at size 2 and mirrored, must be")


def law_enlarging_interpolates_between_the_middles_of_pixels():
    """Enlarging interpolates linearly between pixel centres, constant beyond the outermost."""
    # The new middles lie at 0.25, 0.75, 1.25 and 1.75, the old ones at 0.5 and 1.5.
    demand(crop([[0, 4], [0, 4]], 0, 0, 2, 2, 4)[0], [0, 1, 3, 4], "When [[0, 4], [0, 4]] is"
           " enlarged from 2 to 4 pixels each row must be")
    demand(crop([[0, 0], [4, 4]], 0, 0, 2, 2, 4)[:, 0], [0, 1, 3, 4], "When [[0, 0], [4, 4]] is"
           " enlarged from 2 to 4 pixels each column must be")


def law_reducing_is_antialiased():
    """Reducing averages all pixels, with a triangle as wide as two output pixels (antialiasing)."""
    # From 4 pixels to 2 the triangle around 1 has height 3/4, 3/4, 1/4, 0 at the middles 0.5, ...,
    # in shares 3/7, 3/7, 1/7, 0.
    demand(crop([[0, 0, 7, 0]] * 4, 0, 0, 4, 4, 2)[0], [1, 3], "When four rows of [0, 0, 7, 0] are"
           " reduced from 4 to 2 pixels each row must be")
    demand(crop([[7] * 8] * 8, 0, 0, 8, 8, 3)[0], [7, 7, 7], "When an image of 7s is reduced from"
           " 8 to 3 pixels each row must be")


def law_pixels_outside_the_box_do_not_matter():
    """What is outside the box has no influence."""
    image = [[99, 99, 99, 99], [99, 0, 4, 99], [99, 0, 4, 99], [99, 99, 99, 99]]
    demand(crop(image, 1, 1, 2, 2, 4)[0], [0, 1, 3, 4], f"Of the image {image} the box with top 1,"
           " left 1, height 2 and width 2, at size 4, must have the first row")
    demand(crop([[9, 0, 0, 7, 0, 9]] * 6, 1, 1, 4, 4, 2)[0], [1, 3], "Of six rows of"
           " [9, 0, 0, 7, 0, 9] the box with top 1, left 1, height 4 and width 4, at size 2, must"
           " have the first row")


def law_height_and_width_are_resized_each_by_its_own_factor():
    """A box that is not square becomes square: height and width have their own factors."""
    # The height, 1, is enlarged, and the width, 4, is reduced.
    demand(crop([[0, 0, 0, 0], [0, 0, 7, 0], [0, 0, 0, 0], [0, 0, 0, 0]], 1, 0, 1, 4, 2),
           [[1, 3], [1, 3]], "Of an image whose second row is [0, 0, 7, 0], and 0 elsewhere, the"
           " box with top 1, left 0, height 1 and width 4, at size 2, must be")


def law_every_image_has_its_own_box_and_flip():
    """Every image of a batch has its own box and its own flip; all its channels share them."""
    image = torch.tensor(IMAGE, dtype=torch.float32)
    x = torch.stack([image, 10 * image, 100 * image]).repeat(2, 1, 1, 1)
    got = resized_crop(x, torch.tensor([[0, 0], [1, 2]]), torch.tensor([[2, 2], [2, 2]]),
                       torch.tensor([False, True]), 2)
    for i, (wanted, box) in enumerate(
            (([[11, 12], [21, 22]], "top 0 and left 0"),
             ([[24, 23], [34, 33]], "top 1 and left 2, mirrored"))):
        for channel, factor in enumerate((1, 10, 100)):
            demand(got[i, channel], factor * torch.tensor(wanted), f"In a batch of two, image {i}"
                   f" (2 × 2 pixels from {box}), channel {channel}, must be")


def law_the_images_stay():
    """The images themselves stay as they are: the other view is cut from the same ones."""
    x = torch.tensor(IMAGE, dtype=torch.float32).repeat(1, 3, 1, 1)
    resized_crop(x, torch.tensor([[1, 1]]), torch.tensor([[2, 2]]), torch.tensor([True]), 4)
    demand(x[0, 0], IMAGE, "After the call the image must still be")


def law_torchvision_agrees():
    """For random boxes the result is that of torchvision's resized_crop with antialias=True."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda low, high: int(torch.randint(low, high, (), generator=generator))
    x = torch.rand(1, 3, 9, 9, generator=generator)
    for _ in range(20):
        box_size, size = (draw(1, 10), draw(1, 10)), draw(1, 16)
        box = *(draw(0, 10 - side) for side in box_size), *box_size
        got = resized_crop(x, torch.tensor([box[:2]]), torch.tensor([box[2:]]),
                           torch.tensor([False]), size)
        wanted = TF.resized_crop(x, *box, [size, size], antialias=True)
        demand(got[0, 0, 0, :3], wanted[0, 0, 0, :3], "Of a random image of 9 × 9 pixels the box"
               " with top {}, left {}, height {}, width {}, at size".format(*box) + f" {size}, must"
               " start with")
        demand((got - wanted).abs().max(), 0.0, "For the same box the largest difference from"
               " torchvision's must be")
