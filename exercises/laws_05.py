"""The laws of exercise 5: the residual block."""

from functools import partial

import torch
import torchvision
from torch import nn

from exercises import exercise
from resnet import BasicBlock, Bottleneck, shortcut

BLANKS = ["resnet.py:shortcut", "resnet.py:BasicBlock.forward", "resnet.py:Bottleneck.forward"]
READ = ("App. A on initialisation; He et al. (arXiv 1512.03385), Sec. 3.2 and Fig. 2 and 5; the"
        " docstrings of shortcut and of both forward methods in resnet.py.")
demand = partial(exercise.demand, rtol=1e-4, atol=1e-4)


def scalar_block(block, factors, gains=(1, 1, 1)):
    """A block on one channel and one pixel, whose convolutions multiply by these factors.

    gains: the γ of the BNs, which otherwise do nothing: in eval mode their statistics are 0 and 1
    """
    net = block(1 if block is BasicBlock else 4, 1).eval()
    for i, (factor, gain) in enumerate(zip(factors, gains), start=1):
        w, bn = getattr(net, f"conv{i}").weight, getattr(net, f"bn{i}")
        nn.init.constant_(w, 0.0)
        w.data[..., w.shape[2] // 2, w.shape[3] // 2] = factor
        nn.init.constant_(bn.weight, gain)
        bn.eps = 1e-12  # older versions of torch refuse 0
    net.conv1.weight.data[:, 1:] = 0  # of a Bottleneck's four channels only the first counts
    return net


@torch.no_grad()
def output(net, x):
    """The output of a scalar block for one number."""
    c = net.conv1.in_channels
    return net(torch.full((1, c, 1, 1), float(x)))[0, 0, 0, 0].item()


def demand_all(got, wanted, what):
    """demand() for the four outputs that differ most, which is to demand it for all."""
    worst = (got - wanted).abs().flatten().topk(4).indices
    demand(got.flatten()[worst], wanted.flatten()[worst], what)


def law_the_identity_where_the_shape_stays():
    """Where channels and size stay the same, the shortcut is the identity, written as None."""
    for c in (1, 16):
        got = shortcut(c, c, 1)
        assert got is None, f"shortcut({c}, {c}, 1) must be None; yours is an nn.Module."


def law_a_projection_where_the_shape_changes():
    """Where channels or size change, the shortcut gives an output of the branch's shape."""
    for c_in, c_out, stride, wanted in ((2, 4, 1, [3, 4, 6, 6]), (2, 4, 2, [3, 4, 3, 3]),
                                        (4, 4, 2, [3, 4, 3, 3])):
        net = shortcut(c_in, c_out, stride)
        call = f"shortcut({c_in}, {c_out}, {stride})"
        assert net is not None, f"{call} changes the shape and must not be None."
        got = list(net(torch.randn(3, c_in, 6, 6)).shape)
        assert got == wanted, (f"{call} must map [3, {c_in}, 6, 6] to {wanted}; yours gives {got}.")


def law_the_projection_is_a_1x1_convolution_and_BN():
    """The projection is a 1 × 1 convolution without bias (BN would subtract it), then BN."""
    net = shortcut(2, 4, 2)
    kinds = [type(m) for m in net] if isinstance(net, nn.Sequential) else [type(net)]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d], (
        "shortcut(2, 4, 2) must be an nn.Sequential of Conv2d and BatchNorm2d; yours is"
        f" {', '.join(kind.__name__ for kind in kinds)}.")
    layer = net[0]
    got = layer.kernel_size, layer.bias is None
    assert got == ((1, 1), True), ("The convolution must have a 1 × 1 kernel and no bias; yours has"
                                   f" a {got[0][0]} × {got[0][1]} kernel and"
                                   f" {'no' if got[1] else 'a'} bias.")


def law_the_branch_is_added():
    """The block adds its branch to the input and takes the ReLU of the sum."""
    # 2 + 2 · 3 · 0.5 = 5;  -1 + 0 = -1, cut to 0
    for x, wanted in ((2, 5.0), (-1, 0.0)):
        demand(output(scalar_block(BasicBlock, (3, 0.5)), x), wanted,
               f"With x = {x}, conv1 multiplying by 3, conv2 by 0.5 and BN changing nothing,"
               " BasicBlock must give")


def law_one_ReLU_inside_the_branch():
    """Inside the branch there is a ReLU after the first BN, and none after the second."""
    net = scalar_block(BasicBlock, (3, -0.25))
    # 2 - 6 / 4 = 0.5: the branch may subtract;  for -1 · 3 the first ReLU gives 0
    demand(output(net, 2), 0.5, "With x = 2, conv1 multiplying by 3 and conv2 by -0.25 the branch"
           " is 6 · -0.25 = -1.5, and BasicBlock must give 2 - 1.5 =")
    net = scalar_block(BasicBlock, (-3, 1))
    demand(output(net, 2), 2.0, "With x = 2 and conv1 multiplying by -3 the ReLU inside the branch"
           " gives 0, and BasicBlock must give 2 + 0 =")


def law_each_BN_follows_its_convolution():
    """bn1 comes between conv1 and the ReLU, and bn2 after conv2."""
    net = scalar_block(BasicBlock, (3, 2), gains=(-1, 5))
    demand(output(net, 2), 2.0, "With x = 2, conv1 multiplying by 3 and bn1 by -1, the ReLU must"
           " cut -6 to 0, and BasicBlock must give 2 + 0 =")
    nn.init.constant_(net.bn1.weight, 1.0)
    nn.init.constant_(net.bn2.bias, -60.5)
    # 2 · 3 · 2 · 5 = 60
    demand(output(net, 2), 1.5, "With x = 2, conv1 multiplying by 3, conv2 by 2, and bn2 by 5 and"
           " subtracting 60.5, the branch is 60 - 60.5, and BasicBlock must give")


def law_an_untrained_block_is_its_shortcut():
    """With γ of the last BN at 0, as before training, the block is the ReLU of its shortcut."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 5)
    for net in (BasicBlock(4, 4), BasicBlock(4, 4, stride=2), Bottleneck(4, 1)):
        path = x if net.downsample is None else net.downsample(x)
        demand_all(net(x), path.relu(), f"Four outputs of an untrained {type(net).__name__} with"
                   f" {'no' if net.downsample is None else 'a'} projection must be")


def law_the_input_stays():
    """A block leaves its input as it is."""
    for net in (scalar_block(BasicBlock, (3, 0.5)), scalar_block(Bottleneck, (3, 0.5, 1))):
        x = torch.full((1, net.conv1.in_channels, 1, 1), -2.0)
        with torch.no_grad():
            net(x)
        got = x.flatten()[0].item()
        assert got == -2, (f"The input of {type(net).__name__}, -2, must still be -2 after the"
                           f" call; yours has changed it to {got:g}.")


def law_the_gradient_takes_both_paths():
    """The gradient reaches the input through the shortcut and through the branch."""
    for block, factors in ((BasicBlock, (3, 0.5)), (Bottleneck, (3, 0.5, 1))):
        net = scalar_block(block, factors)
        x = torch.ones(1, net.conv1.in_channels, 1, 1, requires_grad=True)
        net(x)[0, 0, 0, 0].backward()
        demand(x.grad.flatten()[0], 2.5, f"With x = 1, and a {block.__name__} whose branch"
               " multiplies by 3 · 0.5 = 1.5, the output's slope in x must be")


def law_three_convolutions_in_a_Bottleneck():
    """In a Bottleneck a ReLU follows the first two of three convolutions, each with its BN."""
    at = "With x = 2, and a Bottleneck whose convolutions multiply by {}, {} and {}, it must give"
    # 2 - 2 · 3 · 1 / 4 = 0.5; then one ReLU after the other gives 0
    for factors, wanted in (((3, 1, -0.25), 0.5), ((-3, 1, 1), 2.0), ((3, -1, 1), 2.0)):
        net = scalar_block(Bottleneck, factors)
        demand(output(net, 2), wanted, at.format(*factors))


def law_torchvision_agrees():
    """With the same weights a block equals torchvision's, in training mode too."""
    kinds = torchvision.models.resnet.BasicBlock, torchvision.models.resnet.Bottleneck
    for block, theirs in zip((BasicBlock, Bottleneck), kinds):
        for stride in (1, 2):
            torch.manual_seed(0)
            c = 2 * block.expansion
            projection = None if stride == 1 else nn.Sequential(
                nn.Conv2d(c, c, 1, stride, bias=False), nn.BatchNorm2d(c))
            ours, oracle = block(c, 2, stride), theirs(c, 2, stride, projection)
            for w in ours.parameters():
                nn.init.normal_(w)
            # By their order: how the layers of the shortcut are called is free.
            got, wanted = ([*net.state_dict().values()] for net in (ours, oracle))
            assert len(got) == len(wanted), (
                f"{block.__name__}({c}, 2, {stride}) must have {len(wanted)} parameters and"
                f" running statistics, as torchvision's block has; yours has {len(got)}.")
            oracle.load_state_dict(dict(zip(oracle.state_dict(), got)))
            x = torch.randn(4, c, 6, 6)
            demand_all(ours(x), oracle(x), f"For a random input of shape {list(x.shape)} four"
                       f" outputs of {block.__name__}({c}, 2, {stride}) must be")
            for own, (name, v) in zip(ours.buffers(), oracle.named_buffers()):
                demand(own.double().mean(), v.double().mean(), f"After one batch in training mode"
                       f" the mean of {name}, each layer having been used once, must be")
