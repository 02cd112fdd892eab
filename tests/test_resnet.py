"""The laws of resnet.py; the oracle is torchvision.    pytest tests/test_resnet.py"""

import pytest
import torch
import torchvision

from resnet import resnet


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_torchvisions_weights_load_strictly_both_ways_and_give_the_same_logits(arch):
    torch.manual_seed(0)
    ours, theirs = resnet(arch, num_classes=10), getattr(torchvision.models, arch)(num_classes=10)
    x = torch.randn(2, 3, 64, 64)
    ours.load_state_dict(theirs.state_dict())
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-5)
    ours = resnet(arch, num_classes=10)
    theirs.load_state_dict(ours.state_dict())
    assert torch.allclose(ours.train()(x), theirs.train()(x), atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_the_gradients_are_torchvisions(arch):
    torch.manual_seed(0)
    ours, theirs = resnet(arch, num_classes=4), getattr(torchvision.models, arch)(num_classes=4)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for net in (ours.double(), theirs.double()):
        net(x).square().sum().backward()
    expected = {name: w.grad for name, w in theirs.named_parameters()}
    for name, w in ours.named_parameters():
        assert torch.allclose(w.grad, expected[name], rtol=1e-7, atol=1e-9), name


@pytest.mark.parametrize(
    "arch, features", [("resnet8", 64), ("resnet20", 64), ("resnet18", 512), ("resnet50", 2048)]
)
def test_the_feature_is_the_average_pool_of_the_last_stage(arch, features):
    net = resnet(arch, "cifar").eval()
    assert net.features == features
    for n in (1, 2):
        assert net(torch.randn(n, 3, 32, 32)).shape == (n, features)


def test_the_CIFAR_stem_differs_in_the_first_convolution_and_the_pool_only():
    cifar, imagenet = (
        resnet("resnet18", "cifar").state_dict(),
        resnet("resnet18", "imagenet").state_dict(),
    )
    assert cifar.keys() == imagenet.keys()
    assert [k for k in cifar if cifar[k].shape != imagenet[k].shape] == ["conv1.weight"]
    assert cifar["conv1.weight"].shape == (64, 3, 3, 3)
    x = torch.randn(1, 3, 32, 32)
    maps = []
    for stem in ("cifar", "imagenet"):
        net = resnet("resnet18", stem)
        net.layer1.register_forward_hook(lambda m, i, out: maps.append(out.shape[2]))
        net.eval()(x)
    assert maps == [32, 8]


@pytest.mark.parametrize("arch", ["resnet20", "resnet50"])
def test_every_residual_branch_starts_at_zero(arch):
    net = resnet(arch, "cifar").eval()
    for stage in (net.layer1, net.layer2, net.layer3):
        block = stage[1]  # has the identity as shortcut
        x = torch.rand(2, block.conv1.in_channels, 8, 8)
        assert torch.equal(block(x), x)


def test_resnet20_has_the_0_27_million_parameters_of_He_et_al():
    assert sum(w.numel() for w in resnet("resnet20", "cifar", 10).parameters()) == pytest.approx(
        0.27e6, rel=0.02
    )
