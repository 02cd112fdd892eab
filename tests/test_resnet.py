"""Laws of the backbones; the oracle is torchvision.    pytest -m "" tests/test_resnet.py"""

import contextlib
import copy

import pytest
import torch
import torchvision

from options import METHODS, build, fill_in, parse
from resnet import resnet
from simsiam import SimSiam


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_weights_load_strictly_from_and_into_torchvision_and_give_the_same_logits(arch):
    torch.manual_seed(0)
    ours, theirs = resnet(arch, num_classes=10), getattr(torchvision.models, arch)(num_classes=10)
    x = torch.randn(2, 3, 64, 64)
    ours.load_state_dict(theirs.state_dict())
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-5)
    ours = resnet(arch, num_classes=10)
    theirs.load_state_dict(ours.state_dict())
    assert torch.allclose(ours.train()(x), theirs.train()(x), atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_the_same_seed_gives_torchvisions_initial_weights(arch):
    """resnet8 and resnet20 are made of the same modules."""
    torch.manual_seed(0)
    ours = resnet(arch, num_classes=10)
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, arch)(num_classes=10, zero_init_residual=True)
    for name, w in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], w), name


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_the_gradients_equal_torchvisions(arch):
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
    assert net.num_features == features
    maps = []
    getattr(net, f"layer{net.stages}").register_forward_hook(lambda _, __, out: maps.append(out))
    for n in (1, 2):
        found = net(torch.randn(n, 3, 32, 32))
        assert found.shape == (n, features)
        assert torch.allclose(found, maps[-1].mean(dim=(2, 3)), atol=1e-6)


def test_the_CIFAR_stem_differs_only_in_the_first_convolution_and_the_max_pool():
    cifar, imagenet = (resnet("resnet18", stem).state_dict() for stem in ("cifar", "imagenet"))
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
    blocks = [block for i in range(net.stages) for block in getattr(net, f"layer{i + 1}")]
    assert len(blocks) == {"resnet20": 9, "resnet50": 16}[arch]
    for block in blocks:
        x = torch.rand(2, block.conv1.in_channels, 8, 8)
        shortcut = block.downsample or torch.nn.Identity()
        assert torch.equal(block(x), shortcut(x).relu())


def test_with_bfloat16_the_classifier_computes_in_float32():
    net, x = resnet("resnet8", "cifar", 10, bf16=True).eval(), torch.randn(4, 3, 16, 16)
    logits, fc = net(x), net.fc
    net.fc = torch.nn.Identity()
    assert logits.dtype == torch.float32 and torch.equal(logits, fc(net(x)))


def test_bfloat16_differs_from_float64_only_by_rounding_and_returns_float32():
    torch.manual_seed(0)
    exact, half = resnet("resnet8", "cifar"), resnet("resnet8", "cifar", bf16=True)
    for name, w in exact.named_parameters():
        if name.endswith("bn2.weight"):
            torch.nn.init.ones_(w)  # so that the residual branches count
    half.load_state_dict(exact.state_dict())
    x, direction = torch.randn(16, 3, 16, 16), torch.randn(16, 64)
    results = []
    for net, dtype in ((exact.double(), torch.float64), (half, torch.float32)):
        features = net(x.to(dtype))
        (features * direction).sum().backward()
        gradient = torch.cat([w.grad.flatten() for w in net.parameters()])
        results.append((features, gradient, net.bn1.running_mean, net.bn1.running_var))
    # Measured: 0.005, 0.14 (BN's backward pass subtracts numbers that nearly cancel), 0.003 to
    # 0.008, 0.00002; float32 is a thousand times closer.
    for a, b, bound in zip(*results, (0.02, 0.25, 0.03, 0.0001)):
        assert b.dtype == torch.float32
        assert bound / 100 < (a - b).norm() / a.norm() < bound


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_compiles_to_one_graph_with_the_same_results(method):
    args = fill_in(parse(["--method", method, "--dim", "16", "--device", "cpu"]), 24)
    torch.manual_seed(0)
    plain = build(args)
    compiled = copy.deepcopy(plain)
    compiled.compile(backend="eager", fullgraph=True)
    views = torch.randn(2, 128, 3, 8, 8)
    for _ in range(3):
        with torch.no_grad():  # as in epoch 0
            compiled(*views), plain(*views)
        L, expected = compiled(*views)[0], plain(*views)[0]
        L.backward(), expected.backward()
        assert torch.allclose(L, expected)
    state = plain.state_dict()
    assert all(torch.allclose(w, state[name]) for name, w in compiled.state_dict().items())
    gradients = dict(plain.named_parameters())
    for name, w in compiled.named_parameters():
        assert w.grad is None or torch.allclose(w.grad, gradients[name].grad, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_network_agrees_with_float64():
    torch.manual_seed(0)
    model = SimSiam(resnet("resnet8", "cifar"), dim=16, proj_layers=2)
    exact, views = copy.deepcopy(model).double(), torch.randn(2, 16, 3, 16, 16)
    model.compile()
    results = []
    for net, (x1, x2) in ((exact, views.double()), (model, views)):
        L, z1 = net(x1, x2)
        L.backward()
        gradient = torch.cat([w.grad.flatten() for w in net.parameters()])
        results.append((L[None], z1, gradient))
    for a, b in zip(*results):
        assert (a - b).norm() < 1e-4 * a.norm()


def test_resnet20_has_the_0_27_million_parameters_of_He_et_al():
    assert sum(w.numel() for w in resnet("resnet20", "cifar", 10).parameters()) == pytest.approx(
        0.27e6, rel=0.02
    )


def test_bfloat16_is_asked_for_on_the_device_of_the_images(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda *how: (
        asked.append(how), contextlib.nullcontext())[1])
    network = resnet("resnet8", "cifar", bf16=True).to("meta")
    network(torch.zeros(2, 3, 8, 8, device="meta"))
    assert asked == [("meta", torch.bfloat16)]
