"""Laws of the augmentations; oracles: torchvision, colorsys.    pytest tests/test_augment.py"""

import colorsys

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from torchvision.transforms import RandomResizedCrop

import augment as A
import options
from utils import data, plot

N = 4


def images(seed, size=20):
    """A batch of uint8 noise, and the same in [0, 1]."""
    x = torch.randint(
        256, (N, 3, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return x, x / 255


def close(x, y):
    return torch.allclose(x, y, atol=1e-5)


def each(operation, x, parameter):
    """The oracle: a torchvision function, one image and one parameter at a time."""
    return torch.stack([operation(image, float(v)) for image, v in zip(x, parameter)])


# ------------------------------------------------------------------------------------------------
# Each operation against torchvision


@given(seeds, st.integers(4, 40), st.booleans())
def test_the_resized_crop_equals_torchvisions_whether_it_enlarges_or_reduces(seed, size, mirror):
    _, x = images(seed)
    torch.manual_seed(seed)
    start, box_size = A.random_boxes(N, 20, (0.05, 1.0))
    got = A.resized_crop(x, start, box_size, torch.full((N,), mirror), size)
    boxes = torch.cat([start, box_size], dim=1).tolist()  # top, left, height, width
    crop = lambda image, box: TF.resized_crop(image, *box, [size, size], antialias=True)
    expected = torch.stack([crop(image, box) for image, box in zip(x, boxes)])
    assert close(got, expected.flip(3) if mirror else expected)


def blend(kind):
    """A.blend as an operation with one parameter per image."""
    shares = [torch.full((N, 1, 1, 1), kind == k) for k in (A.CONTRAST, A.SATURATION)]
    return lambda x, factor: A.blend(x.clone(), factor.view(-1, 1, 1, 1), *shares)


brightness, contrast, saturation = map(blend, (A.BRIGHTNESS, A.CONTRAST, A.SATURATION))


@pytest.mark.parametrize(
    "ours, theirs, low, high",
    [
        (brightness, TF.adjust_brightness, 0, 2),
        (contrast, TF.adjust_contrast, 0, 2),
        (saturation, TF.adjust_saturation, 0, 2),
        (A.hue, TF.adjust_hue, -0.5, 0.5),
    ],
)
@given(seed=seeds)
def test_every_colour_operation_equals_torchvisions(ours, theirs, low, high, seed):
    _, x = images(seed)
    torch.manual_seed(seed)
    parameter = torch.empty(N).uniform_(low, high)
    assert close(ours(x, parameter), each(theirs, x, parameter))


@given(seeds, st.sampled_from([3, 5, 9]))
def test_the_blur_equals_torchvisions(seed, kernel_size):
    _, x = images(seed)
    torch.manual_seed(seed)
    sigma = torch.empty(N).uniform_(0.1, 2.0)
    oracle = lambda image, s: TF.gaussian_blur(image, [kernel_size, kernel_size], [s, s])
    assert close(A.gaussian_blur(x, sigma, kernel_size), each(oracle, x, sigma))


@given(seeds)
def test_grayscale_and_normalisation_equal_torchvisions(seed):
    _, x = images(seed)
    assert close(A.grayscale(x), TF.rgb_to_grayscale(x))
    assert close(saturation(x, torch.zeros(N)), TF.rgb_to_grayscale(x, num_output_channels=3))
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    assert close(A.normalize(x.clone(), mean, std), TF.normalize(x, mean, std))


@given(seeds, st.floats(-0.5, 0.5))
def test_hue_turns_the_hue_that_colorsys_computes(seed, shift):
    _, x = images(seed, size=2)
    got = A.hue(x, torch.full((N,), shift))
    for pixel, result in zip(
        x.permute(0, 2, 3, 1).reshape(-1, 3), got.permute(0, 2, 3, 1).reshape(-1, 3)
    ):
        h, s, v = colorsys.rgb_to_hsv(*pixel.tolist())
        assert result.tolist() == pytest.approx(
            colorsys.hsv_to_rgb((h + shift) % 1, s, v), abs=1e-5
        )


@given(seeds)
def test_colour_jitter_applies_its_four_operations_in_each_images_own_order_or_none_of_them(seed):
    _, x = images(seed)
    torch.manual_seed(seed)
    factors, order = torch.rand(N, 4) * 0.8, torch.rand(N, 4).argsort(dim=1)
    theirs = TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue
    expected = []
    for image, f, turns in zip(x, factors.tolist(), order.tolist()):
        for k in turns:
            image = theirs[k](image, f[k] if k < 3 else f[k] / 2)
        expected.append(image)
    halved = factors * torch.tensor([1, 1, 1, 0.5])
    assert close(A.color_jitter(x.clone(), halved, order), torch.stack(expected))
    assert torch.equal(A.color_jitter(x.clone(), halved, torch.full((N, 4), A.NONE)), x)


# ------------------------------------------------------------------------------------------------
# Laws


@given(seeds)
def test_factor_one_and_shift_zero_change_nothing(seed):
    _, x = images(seed)
    one, zero = torch.ones(N), torch.zeros(N)
    for operation, parameter in (
        (brightness, one),
        (contrast, one),
        (saturation, one),
        (A.hue, zero),
    ):
        assert close(operation(x, parameter), x)
    whole = torch.zeros(N, 2), torch.full((N, 2), 20)
    assert close(A.resized_crop(x, *whole, zero.bool(), 20), x)


@given(seeds)
def test_a_view_does_not_depend_on_the_other_images_of_the_batch(seed):
    x, _ = images(seed)
    torch.manual_seed(seed)
    augment = A.Augment(20, (0.5,) * 3, (0.2,) * 3)
    draws = augment.draw(N, 20)
    alone = [augment.view(x[i : i + 1], *(d[i : i + 1] for d in draws)) for i in range(N)]
    assert torch.allclose(augment.view(x, *draws), torch.cat(alone), atol=1e-5)


@given(seeds, st.floats(-0.5, 0.5))
def test_hue_keeps_gray_pixels_and_the_value_of_the_largest_channel(seed, shift):
    _, x = images(seed)
    turned = A.hue(x, torch.full((N,), shift))
    assert close(turned.amax(dim=1), x.amax(dim=1))
    gray = x[:, :1].expand(-1, 3, -1, -1)
    assert close(A.hue(gray, torch.full((N,), shift)), gray)


@given(seeds, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_shifts_of_the_hue_add_up_and_a_whole_turn_changes_nothing(seed, a, b):
    _, x = images(seed)
    full = lambda v: torch.full((N,), v)
    assert torch.allclose(A.hue(A.hue(x, full(a)), full(b)), A.hue(x, full(a + b)), atol=1e-4)
    assert close(A.hue(x, full(a + 1)), A.hue(x, full(a)))


@given(seeds)
def test_mirroring_twice_and_a_second_grayscale_change_nothing(seed):
    _, x = images(seed)
    whole = torch.zeros(N, 2), torch.full((N, 2), 20)
    mirror = lambda x: A.resized_crop(x, *whole, torch.ones(N).bool(), 20)
    assert close(mirror(x), x.flip(3)) and close(mirror(mirror(x)), x)
    gray = saturation(x, torch.zeros(N))
    # torchvision's weights of red, green and blue add up to 0.9999
    assert torch.allclose(saturation(gray, torch.zeros(N)), 0.9999 * gray, atol=1e-5)


@given(seeds, st.floats(0.1, 2))
def test_the_blur_keeps_flat_images_commutes_with_mirroring_and_vanishes_with_sigma(seed, sigma):
    _, x = images(seed)
    blur = lambda x, sigma: A.gaussian_blur(x, torch.full((N,), sigma), 5)
    flat = x[:, :, :1, :1].expand(-1, -1, 20, 20)
    assert close(blur(flat, sigma), flat)
    for axis in (2, 3):
        assert close(blur(x.flip(axis), sigma), blur(x, sigma).flip(axis))
    assert close(blur(x, 0.01), x)


def test_the_two_views_of_an_image_are_drawn_independently():
    """As train.py draws them: 2n rows at once, of which i and n + i belong to one image.

    The correlation of 2000 pairs lies within four standard deviations of 0, in every draw.
    """
    torch.manual_seed(0)
    for rows in A.Augment(32, (0.5,) * 3, (0.2,) * 3).draw(4000, 32):
        first, second = rows.double().view(4000, -1).chunk(2)
        for pair in zip(first.T, second.T):
            assert abs(torch.corrcoef(torch.stack(pair))[0, 1]) < 4 / 2000**0.5


def test_copies_of_one_image_in_a_batch_get_different_views():
    torch.manual_seed(0)
    x = images(0)[0][:1].expand(64, -1, -1, -1)
    views = A.Augment(20, (0.5,) * 3, (0.2,) * 3)(x)
    distinct = {tuple(view.flatten().tolist()) for view in views}
    assert len(distinct) == 64


@given(seeds)
def test_a_view_stays_between_0_and_1_and_has_the_size_asked_for(seed):
    torch.manual_seed(seed)
    view = A.Augment(17, (0.0,) * 3, (1.0,) * 3)(images(seed)[0])
    assert view.shape == (N, 3, 17, 17) and view.dtype == torch.float32
    assert view.min() >= -1e-5 and view.max() <= 1 + 1e-5


def test_a_large_batch_gives_the_same_normalised_views_in_pieces_and_at_once():
    x = images(0)[0].repeat(75, 1, 1, 1)  # 300 images
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    augment = A.Augment(16, mean, std)  # smaller than the images: boxes are drawn in theirs
    torch.manual_seed(0)
    in_pieces = augment(x)
    torch.manual_seed(0)
    at_once = TF.normalize(augment.view(x, *augment.draw(300, 20)), mean, std)
    assert torch.allclose(in_pieces, at_once, atol=1e-4)


def test_every_operation_runs_on_the_device_of_the_images():
    """The meta device refuses to mix its tensors with another device's, as a GPU does."""
    always = dict(jitter_p=1.0, gray_p=1.0, blur_p=1.0)
    view = A.Augment(20, (0.5,) * 3, (0.2,) * 3, **always)(images(0)[0].to("meta"))
    assert view.device.type == "meta" and view.shape == (N, 3, 20, 20)


def test_each_operation_is_applied_as_often_as_its_probability_says():
    """Counts in 2000 images within four standard deviations."""
    n, size = 2000, 8
    x = images(0, size)[0][:1].expand(n, -1, -1, -1)
    off = dict(crop_min=1.0, jitter_p=0.0, gray_p=0.0, blur_p=0.0, flip_p=0.0)
    for name, p in dict(jitter_p=0.8, gray_p=0.2, blur_p=0.5, flip_p=0.5).items():
        torch.manual_seed(0)
        augment = A.Augment(size, (0.0,) * 3, (1.0,) * 3, **{**off, name: p})
        views = augment.view(x, *augment.draw(n, size))
        reference = x.float() / 255
        # crop_min = 1 shows the whole image, except where rounding leaves a smaller box: `cropped`.
        changed = ((views - reference).abs().amax(dim=(1, 2, 3)) > 1e-4).sum().item()
        augment = A.Augment(size, (0.0,) * 3, (1.0,) * 3, **off)
        base = augment.view(x, *augment.draw(n, size))
        cropped = ((base - reference).abs().amax(dim=(1, 2, 3)) > 1e-4).double().mean().item()
        expected = cropped + (1 - cropped) * p
        assert abs(changed - n * expected) < 4 * (n * expected * (1 - expected)) ** 0.5 + 1, name


def test_by_default_the_draws_are_those_of_appendix_A():
    """The box's area is in [0.2, 1], the jitter 0.4, 0.4, 0.4, 0.1, sigma in [0.1, 2]."""
    torch.manual_seed(0)
    n, size = 4000, 200
    draws = A.Augment(size, (0.5,) * 3, (0.2,) * 3).draw(n, size)
    _, box_size, flip, factors, order, gray, blur, sigma = draws
    height, width = box_size.T
    jitter = (order >= 0).all(dim=1)
    for chosen, p in ((flip, 0.5), (jitter, 0.8), (gray, 0.2), (blur, 0.5)):
        assert abs(chosen.sum() - n * p) < 4 * (n * p * (1 - p)) ** 0.5
    share = height * width / size**2
    uniforms = [share, *factors.T, sigma]
    for v, low, high in zip(uniforms, (0.2, 0.6, 0.6, 0.6, -0.1, 0.1), (1, 1.4, 1.4, 1.4, 0.1, 2)):
        assert low - 0.01 <= v.min() and v.max() <= high + 0.01
        if v is not share:  # large boxes are more often too wide, and are redrawn
            edge = 0.01 * (high - low)  # of 4000 numbers some are nearer to either end
            assert v.min() < low + edge and v.max() > high - edge
            assert abs(v.mean() - (low + high) / 2) < 4 * (high - low) / (12 * n) ** 0.5
    ratio = (width / height).log()
    assert ratio.abs().max() < 0.3 and abs(ratio.mean()) < 4 * ratio.std() / n**0.5
    orders = {tuple(row) for row in order[jitter].tolist()}
    assert len(orders) == 24 and all(sorted(row) == [0, 1, 2, 3] for row in orders)


def test_boxes_have_the_same_distribution_as_torchvisions():
    torch.manual_seed(0)
    n = 4000
    start, box_size = (v.double() for v in A.random_boxes(n, 32, (0.2, 1.0)))
    assert (start >= 0).all() and (start + box_size <= 32).all()
    image = torch.empty(3, 32, 32)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, (0.2, 1.0), (3 / 4, 4 / 3)) for _ in range(n)]
    )
    for ours, oracle in zip(torch.cat([start, box_size], dim=1).T, theirs.double().T):
        spread = (ours.var() + oracle.var()).sqrt() / n**0.5
        assert abs(ours.mean() - oracle.mean()) < 4 * spread
        assert abs(ours.std() - oracle.std()) < 4 * spread
    assert abs(box_size.prod(dim=1).mean() / 32**2 - 0.551) < 0.02
    place = (start + 0.5) / (33 - box_size)  # in (0, 1): the top does not tell the left
    assert abs(torch.corrcoef(place.T)[0, 1]) < 4 / n**0.5


def test_when_no_box_fits_the_whole_image_is_taken():
    start, box_size = A.random_boxes(N, 20, (1.5, 2.0))
    assert (start == 0).all() and (box_size == 20).all()


# ------------------------------------------------------------------------------------------------
# The picture


def test_the_options_of_augment_py_reach_the_views(tmp_path, monkeypatch, small_shapes):
    made, shown = [], []
    make = lambda *args, **kwargs: made.append(real(*args, **kwargs)) or made[-1]
    real = A.Augment
    monkeypatch.setattr(options, "Augment", make)
    monkeypatch.setattr(plot, "save_views", lambda *args: shown.append(args))
    asked, load = [], data.load
    monkeypatch.setattr(data, "load", lambda *args: (asked.append(args), load(*args))[1])
    argv = ("--data shapes-tinted --root there --image-size 12 --crop-min 0.7 --blur 0.25 --seed 5"
            " --skip-bad-images")
    monkeypatch.setattr("sys.argv", ["augment.py", *argv.split(), "--out", str(tmp_path / "x.png")])
    A.main()
    assert made[0].crop_scale == (0.7, 1.0) and made[0].blur_p == 0.25
    torch.manual_seed(5)
    assert asked == [("shapes-tinted", "there", 12, True)]
    x = load("shapes-tinted").train[torch.randperm(192)[:16]]
    originals, views, path = shown[0]
    assert torch.equal(originals, x / 255) and path == tmp_path / "x.png"
    both = made[0].view(torch.cat([x, x]), *made[0].draw(32, 12))
    assert torch.equal(torch.cat(views), both)  # drawn together, as in training


def test_augment_py_refuses_a_size_that_the_images_do_not_have_as_train_py_does(
        monkeypatch, small_shapes):
    images = data.load("shapes")
    monkeypatch.setattr(data, "load", lambda *_: images)
    monkeypatch.setattr("sys.argv", ["augment.py", "--data", "cifar10", "--image-size", "64"])
    with pytest.raises(SystemExit, match="--image-size 64: --data cifar10 has images of 12 px"):
        A.main()


@pytest.mark.parametrize("wrong, why", [
    ("--crop-min 0", "--crop-min must be in"), ("--crop-min nan", "--crop-min must be in"),
    ("--crop-min 2", "--crop-min must be in"), ("--blur 7", "--blur must be in"),
    ("--seed 1" + 24 * "0", "argument --seed")])
def test_augment_py_refuses_values_that_train_py_refuses(wrong, why, monkeypatch, small_shapes,
                                                         capsys):
    monkeypatch.setattr("sys.argv", ["augment.py", *wrong.split()])
    with pytest.raises(SystemExit) as stop:
        A.main()
    assert why in str(stop.value) + capsys.readouterr().err


def test_the_picture_of_photographs_shows_views_of_the_size_that_training_takes(
        monkeypatch, small_shapes):
    images, shown = data.load("shapes")._replace(view_size=8), []  # kept at 12 px
    monkeypatch.setattr(data, "load", lambda *_: images)
    monkeypatch.setattr(plot, "save_views", lambda *args: shown.extend(args))
    monkeypatch.setattr("sys.argv", ["augment.py"])
    A.main()
    originals, views, _ = shown
    assert {x.shape for x in (originals, *views)} == {(16, 3, 8, 8)}


def test_a_view_is_cropped_jittered_made_grey_and_blurred_in_this_order_by_its_own_draws():
    torch.manual_seed(0)
    x, T = images(0, 48)[0], A.Augment(48, (0.5,) * 3, (0.2,) * 3)  # a kernel of 5 pixels
    *boxes, factors, _, _, _, sigma = T.draw(N, 48)
    order = torch.rand(N, 4).argsort(dim=1)
    gray, blur = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]]).bool()
    expected = A.color_jitter(A.resized_crop(x / 255, *boxes, 48), factors, order)
    got = T.view(x, *boxes, factors, order, gray, blur, sigma)
    for i, image in enumerate(expected):
        if gray[i]:
            image = TF.rgb_to_grayscale(image, num_output_channels=3)
        if blur[i]:
            image = TF.gaussian_blur(image, [5, 5], [float(sigma[i])] * 2)
        assert close(got[i], image), i


def test_the_sides_of_a_box_are_rounded_to_the_nearest_pixel(monkeypatch):
    monkeypatch.setattr(A, "RATIO", (1.0, 1.0))
    for share, side in (0.2, 9), (0.176, 8):  # of 20 px: √80 = 8.94 and √70.4 = 8.39
        assert {*A.random_boxes(50, 20, (share, share))[1].flatten().tolist()} == {side}


def test_each_of_the_ten_tries_has_a_ratio_of_its_own():
    """Of boxes of 90 % of the area every second one is too wide or high: of ten hardly all."""
    _, box_size = A.random_boxes(1000, 20, (0.9, 0.9))
    assert (box_size == 20).all(dim=1).sum() < 20


def test_a_tensor_goes_to_CUDA_from_pinned_memory_and_without_waiting():
    asked = []

    class Tensor:
        pin_memory = lambda self: (asked.append("pinned"), self)[1]
        to = lambda self, device, **how: asked.append((device, how))

    A.to_device(Tensor(), "cuda:1")
    A.to_device(Tensor(), "cpu")
    assert asked == ["pinned", ("cuda:1", {"non_blocking": True}), ("cpu", {})]


def test_a_large_photograph_is_evaluated_as_by_resize_256_and_centercrop_224():
    x = torch.randint(0, 256, (2, 3, 256, 256), dtype=torch.uint8)
    assert torch.equal(A.center_crop(x, 224), TF.center_crop(x, 224) / 255)
    x = TF.resize(x, 512)
    expected = TF.center_crop(TF.resize(x.float() / 255, 256), 224)
    assert torch.allclose(A.center_crop(x, 224)[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2],
                          atol=1e-5)  # at the rim only one of the two sees what is beyond it
    assert torch.equal(A.center_crop(x), x / 255)  # images of the views' size are seen whole
