"""The laws of exercise 2: the two heads, and where BN sits."""

import torch
from torch import nn

from simsiam import BN, linear_bn_relu, prediction_mlp, projection_mlp

BLANKS = ["simsiam.py:linear_bn_relu", "simsiam.py:projection_mlp", "simsiam.py:prediction_mlp"]
HIDE = ["baselines/byol.py:mlp", "baselines/barlow.py:expander"]
READ = ("Sec. 3, projection MLP and prediction MLP; Sec. 4.4 with Table 3; the docstrings in"
        " simsiam.py, and the table BN above them.")


def batch(n, c):
    """Rows whose channels have mean 5 and std 2, the same ones every time."""
    generator = torch.Generator().manual_seed(n + c)
    return 5 + 2 * torch.randn(n, c, generator=generator, dtype=torch.float64)


def seeded(head, *args, **options):
    """A head with the same weights every time; linear_bn_relu's list becomes a module."""
    torch.manual_seed(0)
    layers = head(*args, **options)
    return (nn.Sequential(*layers) if isinstance(layers, list) else layers).double()


def size(module):
    return sum(w.numel() for w in module.parameters())


def bns(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm1d)]


def normalised(y):
    """Whether every channel has mean 0 and variance 1 over the batch."""
    variance = y.var(dim=0, correction=0)
    return bool(y.mean(dim=0).abs().max() < 1e-6 and (variance - 1).abs().max() < 0.01)


def law_a_list_of_modules():
    """linear_bn_relu gives a list of modules that maps (N, c_in) to (N, c_out)."""
    layers = linear_bn_relu(6, 4, bn=True, relu=True)
    assert isinstance(layers, list) and all(isinstance(m, nn.Module) for m in layers), (
        f"It must return a list of nn.Modules; yours returns a {type(layers).__name__}.")
    shape = list(seeded(linear_bn_relu, 6, 4, bn=True, relu=True)(batch(5, 6)).shape)
    assert shape == [5, 4], ("For c_in = 6, c_out = 4 and N = 5 it must give [5, 4]; yours gives"
                             f" {shape}.")


def law_BN_normalises_the_layer():
    """With bn=True, and only then, each channel has mean 0 and variance 1 over the batch."""
    for bn in (True, False):
        y = seeded(linear_bn_relu, 6, 4, bn=bn, relu=False)(batch(50, 6))
        assert normalised(y) == bn, (f"With bn={bn} and relu=False channel 0 has mean"
                                     f" {y[:, 0].mean():.2f} and variance {y[:, 0].var():.2f}.")


def law_the_ReLU_comes_last():
    """The order is linear, BN, ReLU: nothing negative is left, and about half is zero."""
    y = seeded(linear_bn_relu, 6, 4, bn=True, relu=True)(batch(200, 6))
    zero = (y == 0).double().mean().item()
    assert y.min() >= 0, f"With relu=True the smallest output is {y.min():.2f}; it must be 0."
    assert 0.3 < zero < 0.7, (f"After BN, whose outputs have mean 0, ReLU must make about half of"
                              f" them 0; yours makes {zero:.0%} of them 0.")
    assert seeded(linear_bn_relu, 6, 4, bn=True, relu=False)(batch(50, 6)).min() < 0, (
        "With relu=False there must be negative outputs; yours has none.")


def law_no_bias_in_front_of_BN():
    """The linear layer has a bias only where no BN follows, which would subtract it again."""
    for options, wanted, why in ((dict(bn=True), 32, "24 weights, and γ and β of 4 channels"),
                                 (dict(bn=False), 28, "24 weights and 4 biases"),
                                 (dict(bn=True, affine=False), 24, "24 weights, and no γ, β")):
        got = size(seeded(linear_bn_relu, 6, 4, relu=True, **options))
        assert got == wanted, (f"linear_bn_relu(6, 4) with {options} must have {wanted}"
                               f" parameters: {why}; yours has {got}.")


def law_initialisation():
    """Linear layers keep nn.Linear's initialisation, uniform in ±1/√c_in (App. A)."""
    for head, args in ((linear_bn_relu, (100, 400, True, True)), (projection_mlp, (100, 400, 3)),
                       (prediction_mlp, (100, 400))):
        linears = [m for m in seeded(head, *args).modules() if isinstance(m, nn.Linear)]
        for i, layer in enumerate(linears, start=1):
            bound, w = layer.in_features**-0.5, layer.weight
            assert 0.98 * bound < w.abs().max() <= bound * (1 + 1e-6) and (
                abs(w.std() * 3**0.5 / bound - 1) < 0.07), (
                f"Linear layer {i} of {head.__name__}{args} has weights up to {w.abs().max():.3f}"
                f" with std {w.std():.3f}; for c_in = {layer.in_features} they must be uniform in"
                f" ±{bound:.3f}, std {bound / 3**0.5:.3f}.")
            b = layer.bias
            assert b is None or 0.8 * bound < b.abs().max() <= bound * (1 + 1e-6), (
                f"The biases of linear layer {i} of {head.__name__}{args} reach"
                f" {b.abs().max():.3f}; nn.Linear draws them uniform in ±{bound:.3f}.")


def law_the_projector_has_depth_layers():
    """projection_mlp has `depth` linear layers: c_in to dim, then dim to dim."""
    for depth, wanted in ((2, 10 * 8 + 16 + 80), (3, 10 * 8 + 16 + 160)):
        got = size(seeded(projection_mlp, 10, 8, depth))
        assert got == wanted, (f"projection_mlp(10, 8, depth={depth}) must have {wanted} parameters"
                               f" (no bias, each BN has γ and β); yours has {got}.")
    shape = list(seeded(projection_mlp, 10, 8, 3)(batch(5, 10)).shape)
    assert shape == [5, 8], f"For N = 5 its output must be [5, 8]; yours is {shape}."


def law_no_ReLU_on_the_outputs():
    """Neither head ends with a ReLU: outputs may be negative."""
    for bn in BN:
        for head, args in ((projection_mlp, (10, 8, 2)), (prediction_mlp, (10, 3))):
            y = seeded(head, *args, bn=bn)(batch(50, 10))
            assert y.min() < 0, f'{head.__name__} with bn="{bn}" has no negative output.'


def law_ReLU_on_the_hidden_layers():
    """Each head has a ReLU in front of every linear layer but the first."""
    for bn in BN:
        for head, args in ((projection_mlp, (10, 8, 2)), (projection_mlp, (10, 8, 3)),
                           (prediction_mlp, (10, 3))):
            g, least = seeded(head, *args, bn=bn), []
            for m in g.modules():
                if isinstance(m, nn.Linear):
                    m.register_forward_hook(lambda m, x, y: least.append(x[0].min().item()))
            g(batch(50, 10) - 5)
            wanted = sum(isinstance(m, nn.Linear) for m in g.modules())
            assert len(least) == wanted > 1, f"{head.__name__}{args} must use its nn.Linear layers."
            for i, smallest in enumerate(least[1:], start=2):
                assert smallest >= 0, (
                    f'{head.__name__}{args} with bn="{bn}": linear layer {i} is given numbers down'
                    f" to {smallest:.2f}; after a ReLU none is below 0.")


def law_BN_of_the_projector():
    """The row of Table 3 says where the projector has BN: the first two values of BN[bn]."""
    for bn, (hidden, output, _, _) in BN.items():
        g = seeded(projection_mlp, 10, 8, 3, bn)
        got, wanted = len(bns(g)), 2 * hidden + output
        assert got == wanted, (f'projection_mlp(10, 8, 3, "{bn}") must have {wanted} BNs: on two'
                               f" hidden layers {hidden}, on the output {output}; yours: {got}.")
        y = g(batch(50, 10))
        assert normalised(y) == output, (
            f'With bn="{bn}" the output {"must" if output else "must not"} have mean 0 and'
            f" variance 1; channel 0 has {y[:, 0].mean():.2f} and {y[:, 0].var():.2f}.")


def law_no_affine():
    """With bn="no-affine" the projector's last BN, and no other, lacks γ and β."""
    for bn in ("default", "no-affine", "all"):
        got = [m.affine for m in bns(seeded(projection_mlp, 10, 8, 2, bn))]
        wanted = [True, bn != "no-affine"]
        assert got == wanted, (f'In projection_mlp(10, 8, 2, "{bn}") the BNs must have affine ='
                               f" {wanted}; yours have {got}.")
        assert all(m.affine for m in bns(seeded(prediction_mlp, 10, 3, bn))), (
            f'In prediction_mlp(10, 3, "{bn}") all BNs must have γ and β.')


def law_biases_where_no_BN_follows():
    """In both heads a linear layer has a bias just where no BN follows it."""
    for bn, (hidden, output, h_hidden, h_output) in BN.items():
        for call, g, followed in (
                (f'projection_mlp(10, 8, 3, "{bn}")', seeded(projection_mlp, 10, 8, 3, bn),
                 [hidden, hidden, output]),
                (f'prediction_mlp(10, 3, "{bn}")', seeded(prediction_mlp, 10, 3, bn),
                 [h_hidden, h_output])):
            got = [m.bias is not None for m in g.modules() if isinstance(m, nn.Linear)]
            wanted = [not each for each in followed]
            assert got == wanted, (f"Whether the linear layers of {call} have a bias must be"
                                   f" {wanted}; yours: {got}.")


def law_the_predictor_is_a_bottleneck():
    """prediction_mlp goes from dim to hidden and back to dim, with a bias at its output."""
    got, wanted = size(seeded(prediction_mlp, 8, 2)), 8 * 2 + 4 + 2 * 8 + 8
    assert got == wanted, (f"prediction_mlp(8, 2) must have {wanted} parameters: 16 weights, γ and"
                           f" β of 2 channels, 16 weights, 8 biases; yours has {got}.")


def law_BN_of_the_predictor():
    """The row of Table 3 says where the predictor has BN: the last two values of BN[bn]."""
    for bn, (_, _, hidden, output) in BN.items():
        g = seeded(prediction_mlp, 10, 3, bn)
        got = [m.num_features for m in bns(g)]
        wanted = [3] * hidden + [10] * output
        assert got == wanted, (f'The BNs of prediction_mlp(10, 3, "{bn}") must have {wanted}'
                               f" channels; yours have {got}.")
        assert normalised(g(batch(50, 10))) == output, (
            f'With bn="{bn}" the predictor\'s output {"must" if output else "must not"} be'
            " normalised over the batch.")
