"""The laws of utils/weights.py and experiments/finetune.py: weights in and out, few labels.

pytest tests/test_weights.py
"""

import json
import math
import os
import sys
import types
from types import SimpleNamespace

import numpy
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from strategies import TINY, Elsewhere, make_folder, message, numbered_images, seeds
from torch import nn

import lineval
import options
import resnet
import train
from experiments import finetune
from resnet import ARCHS
from utils import data, plot, weights
from utils.checkpoint import differs

X = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def lively(network, seed=0):
    """The network with BN layers that all do something, in eval mode."""
    torch.manual_seed(seed)
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            for w in (m.weight, m.bias, m.running_mean):
                nn.init.normal_(w, std=0.3)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return network.eval()


def load(path):
    """The backbone of a file, and what is known of it."""
    backbone, config = weights.load_backbone(path, ARCHS, options.parser())
    return backbone.eval(), config


@torch.no_grad()
def same(network, other, x=X):
    return torch.allclose(network(x), other(x), rtol=1e-4, atol=1e-4)


def refused(path):
    """The one plain line with which lineval.py refuses a file."""
    with pytest.raises(SystemExit) as stop:
        lineval.main([str(path), "--data", "shapes", "--epochs", "1", "--lr", "1"])
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code


# ------------------------------------------------------------------------------------------------
# In


def under(prefix, state, *others):
    """A state dict as another program saves it: the backbone under a prefix, beside other parts."""
    return {**{prefix + k: w for k, w in state.items()}, **{k: torch.ones(2, 2) for k in others}}


def numbered(state):
    """The names of nn.Sequential(conv1, bn1, relu, maxpool, layer1, ...)."""
    number = dict(conv1=0, bn1=1, layer1=4, layer2=5, layer3=6, layer4=7)
    split = {k: k.split(".", 1) for k in state}
    return {f"{number[split[k][0]]}.{split[k][1]}": w for k, w in state.items()}


HEADS = [f"predictor.{i}.weight" for i in (0, 1, 3)]
OFFICIAL = [f"encoder.fc.{i}.weight" for i in (0, 1, 3, 4, 6)] + HEADS
LIGHTLY = [f"{part}_head.layers.0.weight" for part in ("projection", "prediction")]
SOLO = [f"projector.{i}.weight" for i in (0, 1, 3, 4, 6)] + HEADS + ["classifier.weight"]
without_counts = lambda s: {k: w for k, w in s.items() if not k.endswith("num_batches_tracked")}
FOREIGN = {  # what it is: how the file is made of a state dict, and who is said to have written it
    "torchvision": (lambda s: under("", s, "fc.weight", "fc.bias"), "torchvision's names"),
    "DataParallel": (lambda s: under("module.", s), "torchvision's names"),
    "in half precision": (lambda s: {k: w.half() if w.is_floating_point() else w
                                     for k, w in s.items()}, "torchvision's names"),
    "without counts of batches": (without_counts, "torchvision's names"),
    "official": (lambda s: {"state_dict": under("module.", under("encoder.", s, *OFFICIAL)),
                            "arch": "resnet18", "epoch": 3}, "official SimSiam"),
    "official on one GPU": (lambda s: under("encoder.", s, *OFFICIAL), "official SimSiam"),
    "lightly": (lambda s: {"state_dict": under("backbone.", s, *LIGHTLY)}, "lightly"),
    "lightly, numbered": (lambda s: under("backbone.", numbered(s), *LIGHTLY), "lightly"),
    "lightly, the backbone alone": (numbered, "lightly"),
    "solo-learn": (lambda s: {"state_dict": under("backbone.", s, *SOLO)}, "solo-learn"),
    "older solo-learn": (lambda s: {"state_dict": under("encoder.", s, *SOLO)}, "solo-learn"),
}


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("layout, source", FOREIGN.values(), ids=FOREIGN)
def test_weights_of_others_are_recognised_and_give_the_same_features(
        layout, source, stem, tmp_path, capsys):
    network = lively(resnet.resnet("resnet8", stem))
    if source == "solo-learn" and stem == "cifar":
        network.conv1.padding = 2, 2
    torch.save(layout(network.state_dict()), tmp_path / "w.pt")
    backbone, config = load(tmp_path / "w.pt")
    tolerance = 0.02 if layout is FOREIGN["in half precision"][0] else 1e-4
    with torch.no_grad():
        assert (backbone(X) - network(X)).abs().max() < tolerance
    assert (config["arch"], config["stem"], config["source"]) == ("resnet8", stem, source)
    # Only the ImageNet stem tells on which images the weights were trained.
    assert config["mean"] == (weights.IMAGENET["mean"] if stem == "imagenet" else None)
    said = capsys.readouterr().out
    assert source in said and "resnet8" in said and len(said.splitlines()) == 1
    assert ("ImageNet's" if stem == "imagenet" else "the images'") in said


class Tiny(nn.Module):
    """A network of somebody else: nothing in it is named as in a ResNet."""

    features = 4

    def __init__(self, stem, num_classes, bf16):
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 8, 8)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.patches(x)).mean(dim=(2, 3))


def test_an_export_of_any_network_of_ARCHS_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHS, "tiny", Tiny)
    network = resnet.resnet("tiny", "cifar")
    weights.export(tmp_path / "w.pt", network, {"arch": "tiny", "stem": "cifar"})
    backbone, config = load(tmp_path / "w.pt")
    assert (config["arch"], config["source"]) == ("tiny", "lineval.py")
    assert torch.equal(backbone.patches.weight, network.patches.weight)
    state = network.state_dict()
    del state["patches.weight"]
    torch.save(state, tmp_path / "w.pt")
    assert "weights of an unknown kind (the first is 'patches.bias')" in refused(tmp_path / "w.pt")


def test_of_networks_with_equal_shapes_a_file_says_whose_it_is_or_is_refused(
        tmp_path, monkeypatch):
    class Tinier(Tiny):
        """Other outputs with weights of the same shapes."""

    for arch, kind in ("tiny", Tiny), ("tinier", Tinier):
        monkeypatch.setitem(ARCHS, arch, kind)
    about = {"arch": "tinier", "stem": "imagenet"}
    weights.export(tmp_path / "w.pt", Tinier("imagenet", 0, False), about)
    assert "its layers fit tinier and tiny; export .safetensors" in refused(tmp_path / "w.pt")
    pytest.importorskip("safetensors.torch")
    weights.export(tmp_path / "w.safetensors", Tinier("imagenet", 0, False), about)
    backbone, config = load(tmp_path / "w.safetensors")
    assert type(backbone) is Tinier and (config["arch"], config["stem"]) == ("tinier", "imagenet")
    monkeypatch.delitem(ARCHS, "tinier")  # an arch that we do not know is no reason to refuse
    assert type(load(tmp_path / "w.safetensors")[0]) is Tiny


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("arch", ARCHS)
def test_arch_and_stem_are_deduced_from_names_and_shapes(arch, stem):
    network = resnet.resnet(arch, stem)
    _, config = weights.recognise("w.pt", network.state_dict(), ARCHS)
    assert (config["arch"], config["stem"]) == (arch, stem)


def test_a_prefix_is_removed_as_a_whole_and_only_at_the_start():
    names = {"backbone.conv1.weight": 1, "backbone.backbone.x": 2, "x.backbone.y": 3, "backbone": 4}
    assert weights.below("backbone.", names) == {"conv1.weight": 1, "backbone.x": 2}


def resnet8(change):
    """A state dict of resnet8, changed."""
    state = dict(resnet.resnet("resnet8", "cifar").state_dict())
    change(state)
    return state


class Bomb:
    """Runs code when it is unpickled without weights_only."""

    def __reduce__(self):
        return os.mkdir, ("boom",)


W = "layer1.0.conv1.weight"
UNFIT = {
    "an unknown layout": {"trunk.conv1.weight": torch.zeros(1)},
    "nothing": {},
    "no dict": [torch.zeros(1)],
    "names that are not text": {1: torch.zeros(1)},
    "text for weights": resnet8(lambda s: s.update({W: "text"})),
    "a layer missing": resnet8(lambda s: s.pop(W)),
    "a layer too many": resnet8(lambda s: s.update({"layer1.1.conv1.weight": s[W]})),
    "another width": resnet8(lambda s: s.update({W: s[W][:8]})),
    "whole numbers": resnet8(lambda s: s.update({W: s[W].int()})),
    "complex numbers": resnet8(lambda s: s.update({W: s[W].to(torch.complex64)})),
    "names and shapes only": resnet8(lambda s: s.update({W: s[W].to("meta")})),
    "code": {"state_dict": Bomb()},
}


@pytest.mark.parametrize("content", UNFIT.values(), ids=UNFIT)
def test_weights_that_fit_no_network_exactly_are_refused_in_one_line(
        content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "w.pt")
    assert refused("w.pt").startswith("w.pt")
    assert not (tmp_path / "boom").exists()


def test_a_file_of_another_kind_a_missing_one_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"hello")
    os.mkfifo(tmp_path / "pipe.pt")
    for name in ("w.safetensors", "missing.pt", "pipe.pt"):
        assert name in refused(tmp_path / name)


def test_the_line_says_why_a_file_is_refused_even_if_torch_does_not(tmp_path):
    (tmp_path / "w.pt").touch()  # EOFError, without a message
    assert "()" not in refused(tmp_path / "w.pt")


def test_weights_whose_features_are_not_numbers_are_not_evaluated(tmp_path):
    torch.save(resnet8(lambda s: s.update({"bn1.running_var": -s["bn1.running_var"]})),
               tmp_path / "w.pt")
    assert "not finite" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(number, tmp_path):
    torch.save(resnet8(lambda s: s["layer1.0.conv2.weight"][1, 0, 0].fill_(number)),
               tmp_path / "w.pt")
    assert "its layer1.0.conv2.weight is not finite" in refused(tmp_path / "w.pt")


def test_weights_behind_a_link_are_read(tmp_path):
    network = lively(resnet.resnet("resnet8", "cifar"))
    torch.save(network.state_dict(), tmp_path / "blob")
    (tmp_path / "w.pt").symlink_to(tmp_path / "blob")
    assert same(load(tmp_path / "w.pt")[0], network)


def test_weights_of_others_need_data_and_have_no_file_for_results(tmp_path, small_shapes):
    torch.save(resnet.resnet("resnet8", "cifar").state_dict(), tmp_path / "w.pt")
    with pytest.raises(SystemExit, match="--data"):
        lineval.main([str(tmp_path / "w.pt")])
    probe = ["--data", "shapes", "--epochs", "1", "--lr", "1", "--device", "cpu"]
    assert lineval.main([str(tmp_path / "w.pt"), *probe])["knn"] > 0
    assert os.listdir(tmp_path) == ["w.pt"]


@pytest.mark.parametrize("library", ["torchvision.models", "timm.models"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_networks_of_torchvision_and_timm_give_the_same_features_here(library, arch, tmp_path):
    network = lively(getattr(pytest.importorskip(library), arch)())
    torch.save(network.state_dict(), tmp_path / "w.pt")
    network.fc = nn.Identity()
    assert same(load(tmp_path / "w.pt")[0], network, torch.rand(2, 3, 64, 64))


def test_a_model_of_lightly_gives_the_same_features_here(tmp_path):
    heads = pytest.importorskip("lightly.models.modules")
    model = nn.Module()
    layers = list(lively(torchvision.models.resnet18()).children())[:-1]
    model.backbone = nn.Sequential(*layers, nn.Flatten())
    model.projection_head = heads.SimSiamProjectionHead(512, 512, 128)
    model.prediction_head = heads.SimSiamPredictionHead(128, 64, 128)
    torch.save(model.eval().state_dict(), tmp_path / "w.pt")
    backbone, config = load(tmp_path / "w.pt")
    assert same(backbone, model.backbone) and config["source"] == "lightly"


# ------------------------------------------------------------------------------------------------
# The start of a run


@pytest.fixture
def start(tmp_path):
    """A file with the weights of a resnet8, and its state dict."""
    state = lively(resnet.resnet("resnet8", "cifar"), seed=5).state_dict()
    torch.save(state, tmp_path / "w.pt")
    return tmp_path / "w.pt", state


def built(*argv):
    """The model of a command line for the shapes, just built."""
    args = options.fill_in(options.parse([*argv, "--device", "cpu", "--dim", "16"]), 24)
    torch.manual_seed(0)
    return options.build(args).state_dict()


@pytest.mark.parametrize("method, copies", [("simsiam", 0), ("byol", 1), ("moco", 1)])
def test_init_replaces_the_backbone_and_its_copies_and_nothing_else(method, copies, start):
    path, state = start
    before, after = built("--method", method), built("--method", method, "--init", str(path))
    found = [w for name, w in after.items() if name.endswith("conv1.weight")
             and "layer" not in name and torch.equal(w, state["conv1.weight"])]
    assert len(found) == 1 + copies
    for name, w in state.items():
        assert torch.equal(after[f"backbone.{name}"], w)
    heads = [name for name in before if "backbone" not in name and "conv" not in name
             and "bn" not in name and "layer" not in name and "downsample" not in name]
    assert heads and all(torch.equal(before[name], after[name]) for name in heads)


def test_a_run_records_where_it_started_and_resumes_without_that_file(
        start, tmp_path, capsys, small_shapes):
    path, _ = start
    out = tmp_path / "run"
    train.main([*TINY, "--init", str(path), "--max-steps", "1", "--out", str(out)])
    said = capsys.readouterr().out
    assert "(loaded " in said and "untrained" not in said
    assert json.loads((out / "config.json").read_text())["init"] == str(path)
    path.unlink()
    assert train.main(["--resume", "--out", str(out), "--max-steps", "2"])["epoch"] > 0


@pytest.mark.parametrize("option", [("--arch", "resnet20"), ("--stem", "imagenet")])
def test_weights_of_another_network_than_the_run_s_are_refused(option, start, tmp_path):
    said = message(*TINY, *option, "--init", start[0], "--out", tmp_path / "run")
    assert "--init" in said and "--arch resnet8 --stem cifar" in said
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------
# Out

SIZE = 40  # so that the smallest feature map of the ImageNet stem has more than a pixel


def exported(path, arch, stem, classes, capsys, padding=None):
    """A network, and that which the lines printed by export() load."""
    network = lively(resnet.resnet(arch, stem, len(classes)))
    network.conv1.padding = padding or network.conv1.padding
    config = dict(arch=arch, stem=stem, mean=[0.4, 0.5, 0.6], std=[0.1, 0.2, 0.3], commit="abc",
                  image_size=SIZE)
    weights.export(str(path), network.to(memory_format=torch.channels_last), config, classes)
    names = {"torch": torch, "torchvision": torchvision, "resnet": resnet,
             "safetensors": sys.modules.get("safetensors")}
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()[1:]]
    exec("\n".join(lines), names)
    if path.suffix != ".pt2":
        names["net"].eval()
    return network, names["net"], lines


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize("classes", [(), ("cat", "dog", "eel")], ids=["backbone", "classifier"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("arch", ["resnet8", "resnet18", "resnet50"])
def test_the_printed_lines_load_an_export_strictly_with_equal_outputs(
        arch, stem, classes, ending, tmp_path, capsys):
    if ending == ".safetensors":
        pytest.importorskip("safetensors.torch")
    ours, theirs, lines = exported(tmp_path / f"w{ending}", arch, stem, classes, capsys)
    assert same(ours, theirs, torch.rand(2, 3, SIZE, SIZE))
    assert type(theirs) is not type(ours) or arch == "resnet8"
    assert "minus 0.400 0.500 0.600, divided by 0.100 0.200 0.300" in lines[-1]


def test_the_printed_lines_know_that_solo_learn_s_CIFAR_stem_pads_by_2(tmp_path, capsys):
    ours, theirs, _ = exported(tmp_path / "w.pt", "resnet18", "cifar", (), capsys, padding=(2, 2))
    assert same(ours, theirs)


def test_a_stem_padded_by_2_survives_an_export_or_the_printed_lines_say_that_it_does_not(
        tmp_path, capsys):
    torch.save({"state_dict": under("backbone.", resnet.resnet("resnet18", "cifar").state_dict(),
                                    *SOLO)}, tmp_path / "solo.pt")
    theirs, config = load(tmp_path / "solo.pt")
    weights.export(str(tmp_path / "w.pt"), theirs, config)
    assert "only that keeps what is not a weight" in capsys.readouterr().out
    pytest.importorskip("safetensors.torch")
    weights.export(str(tmp_path / "w.safetensors"), theirs, config)
    ours, config = load(tmp_path / "w.safetensors")
    assert ours.conv1.padding == (2, 2) and same(ours, theirs.eval()) and config["mean"] is None


@pytest.mark.parametrize("mean, lost", [([0.4] * 3, True), (weights.IMAGENET["mean"], False),
                                        (None, False)])
def test_a_state_dict_comes_with_a_warning_if_it_loses_the_mean_of_the_images(mean, lost):
    about = {"arch": "resnet8", "stem": "imagenet", **({"mean": mean, "std": mean} if mean else {})}
    lines = weights.usage("w.pt", resnet.resnet("resnet8", "imagenet"), about)
    assert any("export .safetensors" in line for line in lines) == lost


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".pt2"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("arch", ["resnet8", "resnet50"])
def test_the_printed_lines_fit_into_80_columns_behind_their_indent(arch, stem, ending):
    about = {"arch": arch, "stem": stem, "mean": [0.4] * 3, "std": [0.1] * 3}
    for extra in {}, {"padding": 2}, {"classes": ["cat", "dog"]}:
        lines = weights.usage(f"own{ending}", resnet.resnet(arch, stem), {**about, **extra})
        assert all(len(line) <= 76 for line in lines), lines


def test_a_network_of_one_s_own_gets_its_options_by_name():
    def own(*, stem, num_classes, bf16):
        return stem, num_classes, bf16

    config = dict(arch="own", stem="cifar", bf16=True)
    assert weights.network(config, {"own": own}, classes=3) == ("cifar", 3, True)


def test_the_classifier_of_a_backbone_has_its_padding():
    config = dict(arch="resnet8", stem="cifar", padding=2)
    for classes in (0, 3):
        assert weights.network(config, ARCHS, classes).conv1.padding == (2, 2)
    del config["padding"]
    assert weights.network(config, ARCHS).conv1.padding == (1, 1)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_timm_loads_an_export_by_the_line_that_is_printed_for_it(arch, stem, tmp_path, capsys):
    timm = pytest.importorskip("timm")
    ours, _, lines = exported(tmp_path / "w.pt", arch, stem, (), capsys)
    names = {"timm": timm, "torch": torch}
    exec("\n".join([lines[1].removeprefix("# or "), *lines[2:]]), names)
    assert same(ours, names["net"].eval(), torch.rand(2, 3, SIZE, SIZE))


@pytest.mark.parametrize("ending, call", [
    (".pt", "torch.load('w.pt')"), (".safetensors", "safetensors.torch.load_file('w.safetensors')"),
    (".pt2", "torch.export.load('w.pt2')")])
def test_each_format_is_loaded_by_a_function_of_its_own(ending, call):
    network = resnet.resnet("resnet18", "imagenet")
    lines = weights.usage(f"w{ending}", network, {"arch": "resnet18", "stem": "imagenet"})
    assert [("load(" in line or "load_file(" in line) for line in lines].count(True) == 1
    assert call in "".join(lines)


def test_an_exported_program_takes_any_number_of_images(tmp_path, capsys):
    ours, program, _ = exported(tmp_path / "w.pt2", "resnet8", "cifar", ("cat", "dog"), capsys)
    for n in (1, 2, 7):
        assert same(ours, program, torch.rand(n, 3, SIZE, SIZE))
    extra = {"about.json": ""}
    torch.export.load(tmp_path / "w.pt2", extra_files=extra)
    assert json.loads(extra["about.json"])["classes"] == ["cat", "dog"]


@pytest.mark.parametrize("known, side", [
    (dict(stem="cifar"), 32), (dict(stem="imagenet"), 224),
    (dict(stem="cifar", image_size=40), 40)])
def test_a_program_is_recorded_with_images_of_the_size_that_its_network_is_for(
        known, side, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(torch.export, "export", lambda network, args, **_: given.extend(args))
    monkeypatch.setattr(torch.export, "save", lambda *_, **__: None)
    network = resnet.resnet("resnet8", known["stem"])
    weights.export(str(tmp_path / "w.pt2"), network, dict(arch="resnet8", **known))
    assert [tuple(x.shape[1:]) for x in given] == [(3, side, side)]


def test_what_is_exported_is_in_eval_mode_and_float32_and_the_network_stays_as_it_is(
        tmp_path, monkeypatch):
    """In train mode the program would normalise by the images that it happens to get together."""
    class Stop(Exception):
        pass

    def export(network, *_, **__):
        assert not any(m.training for m in network.modules()) and not network.bf16
        raise Stop

    monkeypatch.setattr(torch.export, "export", export)
    network = resnet.resnet("resnet8", "cifar", bf16=True).train()
    with pytest.raises(Stop):
        weights.export(str(tmp_path / "w.pt2"), network, dict(arch="resnet8", stem="cifar"))
    assert all(m.training for m in network.modules()) and network.bf16


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_an_export_is_read_back_with_equal_features(ending, tmp_path, capsys):
    if ending == ".safetensors":
        pytest.importorskip("safetensors.torch")
    ours, _, _ = exported(tmp_path / f"w{ending}", "resnet8", "imagenet", (), capsys)
    backbone, config = load(tmp_path / f"w{ending}")
    assert same(ours, backbone)
    assert config["mean"] == ([0.4, 0.5, 0.6] if ending != ".pt" else weights.IMAGENET["mean"])


def test_the_metadata_of_safetensors_say_what_is_known_and_a_forged_mean_is_refused(
        tmp_path, capsys):
    package = pytest.importorskip("safetensors")
    exported(tmp_path / "w.safetensors", "resnet8", "cifar", (), capsys)
    with package.safe_open(tmp_path / "w.safetensors", "pt") as file:
        about = file.metadata()
    assert about == {"format": "pt", "arch": "resnet8", "stem": "cifar", "image_size": str(SIZE),
                     "mean": "[0.4, 0.5, 0.6]", "std": "[0.1, 0.2, 0.3]", "commit": "abc"}
    state = dict(resnet.resnet("resnet8", "cifar").state_dict())
    about["mean"] = '["a", 1]'
    package.torch.save_file(state, tmp_path / "forged.safetensors", about)
    assert "mean and std" in refused(tmp_path / "forged.safetensors")
    for padding in "2000", "2.0", "true", '"2"':
        package.torch.save_file(state, tmp_path / "forged.safetensors", {"padding": padding})
        assert "its padding is impossible" in refused(tmp_path / "forged.safetensors")


def test_without_the_safetensors_package_its_format_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(SystemExit, match="pip install safetensors"):
        weights.safetensors("w.safetensors")


# ------------------------------------------------------------------------------------------------
# The command line: one tiny run is shared


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on a small folder of images, and the folder."""
    path = tmp_path_factory.mktemp("weights")
    images = make_folder(path / "images", n=20, size=(16, 16))
    (images / "train/dog/1.png").write_bytes(b"no image")
    train.main([*TINY, "--arch", "resnet8", "--batch-size", "8", "--data", str(images),
                "--skip-bad-images", "--epochs", "1", "--out", str(path / "run")])
    return path / "run", images


PROBE = ["--epochs", "1", "--lr", "1", "--device", "cpu"]


def test_features_are_written_with_the_labels_and_names_of_their_images(folder, tmp_path):
    run, path = folder
    lineval.main([str(run), *PROBE, "--features", str(tmp_path / "f.npz")])
    saved = numpy.load(tmp_path / "f.npz")
    images, config = data.load(str(path), image_size=16, skip_bad=True), load(run)[1]
    for part in ("train", "test"):
        x = lineval.extract_features(load(run)[0], getattr(images, part), config["mean"],
                                     config["std"])
        assert torch.allclose(torch.from_numpy(saved[f"x_{part}"]), x, atol=1e-5)
        names = saved[f"files_{part}"].tolist()
        assert saved["classes"][saved[f"y_{part}"]].tolist() == [
            os.path.basename(os.path.dirname(name)) for name in names]
        assert len(names) == len(set(names)) == len(x)
        assert all((path / name).is_file() for name in names)
    assert "train/dog/1.png" not in saved["files_train"]  # it cannot be decoded


def test_of_images_some_of_which_have_labels_the_features_of_those_are_written(folder, tmp_path):
    run, _ = folder
    path = make_folder(tmp_path, splits=("train", "test", "unlabelled"), size=(16, 16))
    lineval.main([str(run), *PROBE, "--data", str(path), "--features", str(tmp_path / "f.npz")])
    saved = numpy.load(tmp_path / "f.npz")
    assert [len(saved[f"{part}_train"]) for part in ("x", "y", "files")] == [6, 6, 6]
    assert all(name.startswith("train/") for name in saved["files_train"])


def test_an_export_alone_needs_no_images_and_evaluates_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", None)
    monkeypatch.setattr(lineval, "evaluate", None)
    lineval.main([str(folder[0]), "--export", str(tmp_path / "w.pt")])
    assert same(load(tmp_path / "w.pt")[0], load(folder[0])[0])


def test_a_fine_tuned_classifier_is_exported_with_the_accuracy_that_was_printed(
        folder, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "LRS", (0.4,))
    out = tmp_path / "c.pt"
    result = lineval.main([str(folder[0]), *PROBE, "--batch-size", "8", "--finetune", "2",
                           "--export", str(out)])
    classifier = resnet.resnet("resnet8", "cifar", 2)
    classifier.load_state_dict(torch.load(out))
    images, config = data.load(str(folder[1]), image_size=16, skip_bad=True), load(folder[0])[1]
    logits = lineval.extract_features(classifier, images.test, config["mean"], config["std"])
    right = logits.argmax(dim=1) == images.test_labels
    assert result["finetuned"] == 100 * float(right.double().mean())
    assert json.loads((folder[0] / "lineval.json").read_text()) == result


WRONG = {
    "nothing to evaluate": [],
    "pixels of a run": ["RUN", "--pixels", "--data", "shapes"],
    "pixels of nothing": ["--pixels"],
    "pixels have no network": ["--pixels", "--data", "shapes", "--export", "w.pt"],
    "an export beside features": ["RUN", "--export", "w.pt", "--features", "f.npz"],
    "an export beside a map": ["RUN", "--export", "w.pt", "--map", "m.png"],
    "pixels cannot be fine-tuned": ["--pixels", "--data", "shapes", "--finetune", "1"],
    "no labels": ["RUN", "--labels", "0"],
    "more than all labels": ["RUN", "--labels", "1.5"],
    "an unknown format": ["RUN", "--export", "w.onnx"],
    "features in another format": ["RUN", "--features", "f.csv"],
    "an ending without a name": ["RUN", "--export", ".pt"],
    "a folder that does not exist": ["RUN", "--map", "nowhere/map.png"],
    "an export in place of the weights": ["w.pt", "--export", "w.pt"],
    "an export in place of the checkpoint": ["RUN", "--export", "RUN/checkpoint.pt"],
}


@pytest.mark.parametrize("argv", WRONG.values(), ids=WRONG)
def test_options_that_cannot_be_meant_are_refused_before_anything_is_read(
        argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        lineval.main(argv)
    assert stop.value.code == 2 and "error: " in capsys.readouterr().err.splitlines()[-1]
    assert not os.listdir(tmp_path)


# ------------------------------------------------------------------------------------------------
# Few labels, fine-tuning, raw pixels, and the map


def numbers(n, classes):
    """A set whose images are all different, as many of each class as possible, not in order."""
    x = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2).contiguous()
    names = ([f"{i}.png" for i in range(n)], [])
    return data.Data(x, torch.arange(n) % classes, x[:1], torch.zeros(1), [*range(classes)],
                     names=names)


@given(seeds, st.integers(2, 7), st.integers(1, 30), st.floats(0.01, 1))
def test_a_share_of_the_labels_is_equally_many_of_each_class_each_once(seed, classes, each, share):
    images = numbers(classes * each, classes)
    torch.manual_seed(seed)
    few = images.with_labels(share)
    expected = max(1, round(share * each * classes / classes))
    assert few.train_labels.bincount().tolist() == [expected] * classes
    chosen = few.train[:, 0, 0, 0].long()
    assert len(chosen.unique()) == len(chosen)
    assert torch.equal(images.train_labels[chosen], few.train_labels)
    assert few.names[0] == [f"{i}.png" for i in chosen] and few.test is images.test
    torch.manual_seed(seed)
    assert torch.equal(images.with_labels(share).train, few.train)


def test_with_a_share_of_the_labels_kNN_and_probe_learn_from_those_images_only(
        folder, monkeypatch):
    seen = []
    monkeypatch.setattr(lineval, "evaluate", lambda args, images, x, _: seen.append(len(x)) or {})
    for share, name in (("0.5", "lineval-labels-0.5.json"), ("1", "lineval.json")):
        (folder[0] / name).unlink(missing_ok=True)
        lineval.main([str(folder[0]), "--labels", share])
        assert (folder[0] / name).exists()  # they are still the run's own data
    assert seen == [20, 39]  # 39 of 40 files can be decoded


@pytest.mark.parametrize("batch_size, n", [(1, 8), (64, 2)])
def test_fine_tuning_with_batches_of_one_image_is_refused(batch_size, n, small_shapes):
    images = data.load("shapes")
    images = images._replace(train=images.train[:n], train_labels=images.train_labels[:n])
    args = types.SimpleNamespace(batch_size=batch_size, seed=0)
    with pytest.raises(SystemExit, match="BN needs batches of at least two"):
        finetune.finetune(args, None, {}, images)


def test_fine_tuning_starts_from_the_weights_and_its_rival_from_scratch(monkeypatch):
    states = []
    monkeypatch.setattr(finetune, "train_classifier", lambda args, state, config, images, lr: (
        states.append((len(images.train), bool(state), lr)), (None, -abs(lr - 0.4)))[1])
    args = lineval.parse(["run", "--finetune", "3", "--device", "cpu"])
    backbone = resnet.resnet("resnet8", "cifar")
    result = finetune.finetune(args, backbone, {}, numbers(50, 2))
    assert result["scratch_lr"] == result["finetuned_lr"] == 0.4
    # Three rates on nine tenths each, then the best of them on all images.
    expected = [(45, start, lr) for start in (False, True) for lr in finetune.LRS]
    assert states == [*expected[:3], (50, False, 0.4), *expected[3:], (50, True, 0.4)]


def test_a_classifier_has_the_weights_it_starts_from_and_both_starts_the_same_fc(monkeypatch):
    monkeypatch.setattr(finetune, "fit", lambda *_: None)
    args = lineval.parse(["run", "--finetune", "3", "--device", "cpu"])
    state = lively(resnet.resnet("resnet8", "cifar")).state_dict()
    config = dict(arch="resnet8", stem="cifar", mean=[0.5] * 3, std=[0.2] * 3)
    scratch, tuned = (finetune.train_classifier(args, s, config, numbers(50, 2), 0.1)[0]
                      for s in ({}, state))
    assert torch.equal(scratch.fc.weight, tuned.fc.weight)
    assert not differs(dict(tuned.state_dict()), dict(scratch.state_dict()), "network")
    assert all(torch.equal(tuned.state_dict()[name], w) for name, w in state.items())
    assert not torch.equal(scratch.conv1.weight, tuned.conv1.weight)


def test_pixels_are_the_normalised_images_in_rows():
    images = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    rows = lineval.extract_features(nn.Flatten(), images, mean, std)
    for n, c, i, j in ((0, 0, 0, 0), (2, 1, 3, 0), (4, 2, 1, 2)):
        value = (float(images[n, c, i, j]) / 255 - mean[c]) / std[c]
        assert rows[n, 16 * c + 4 * i + j] == pytest.approx(value, abs=1e-5)
    assert rows.shape == (5, 48)


def test_raw_pixels_are_evaluated_without_a_network_and_nothing_is_written(
        tmp_path, monkeypatch, small_shapes, capsys):
    monkeypatch.chdir(tmp_path)
    result = lineval.main(["--pixels", "--data", "shapes", *PROBE])
    images = data.load("shapes")
    x, x_test = (lineval.extract_features(nn.Flatten(), i, *images.mean_std())
                 for i in (images.train, images.test))
    assert result["knn"] == lineval.knn_accuracy(
        x, images.train_labels, x_test, images.test_labels)
    assert f"kNN, k = {result['k']}: {result['knn']:.2f} %" in capsys.readouterr().out
    assert not os.listdir(tmp_path)


def drawn(monkeypatch, x, labels, classes):
    """The panels of plot_map(), each as {label: points}."""
    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    plot.plot_map("unused.png", x, labels, classes)
    return [{group.get_label(): torch.tensor(group.get_offsets().tolist())
             for group in axis.collections} for axis in figures[0].axes]


def test_the_map_shows_the_two_directions_of_largest_variance_by_class(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    torch.manual_seed(0)
    x, labels = torch.randn(60, 5) * torch.tensor([3, 2, 1, 0.5, 0.1]), torch.arange(60) % 3
    (panel,) = drawn(monkeypatch, x, labels, ["a", "b", "c"])
    rows = nn.functional.normalize(x, dim=1)
    rows = rows - rows.mean(dim=0)
    top = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, [-1, -2]]
    for label, name in enumerate("abc"):
        expected = (rows @ top)[labels == label]
        assert torch.allclose(panel[name].abs(), expected.abs(), atol=1e-4)


def test_the_title_of_the_map_says_how_much_of_the_variance_each_direction_has(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    figures, x = [], torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    plot.plot_map("unused.png", x, torch.arange(60) % 3, ["a", "b", "c"])
    share = torch.linalg.eigvalsh(torch.cov(nn.functional.normalize(x, dim=1).T))
    first, second = (share / share.sum())[[-1, -2]]
    assert figures[0].axes[0].get_title() == f"PCA: {first:.0%} and {second:.0%} of the variance"


@pytest.mark.parametrize("real", [True, False])
def test_t_sne_is_drawn_beside_it_if_scikit_learn_is_installed(real, monkeypatch):
    if real:
        pytest.importorskip("sklearn.manifold")
    else:
        fit = lambda self, x: (x**2)[:, :2]
        TSNE = type("TSNE", (), {"__init__": lambda self, **_: None, "fit_transform": fit})
        monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
        monkeypatch.setitem(sys.modules, "sklearn.manifold", types.SimpleNamespace(TSNE=TSNE))
    x, labels = torch.randn(30, 5), torch.arange(30) % 2
    panels = drawn(monkeypatch, x, labels, ["a", "b"])
    assert len(panels) == 2 and [len(p["a"]) for p in panels] == [15, 15]
    if not real:
        points = nn.functional.normalize(x, dim=1).square()[labels == 1, :2]
        assert torch.allclose(panels[1]["b"], points, atol=1e-6)


def test_a_map_of_many_images_and_classes_shows_2000_of_all_classes(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    labels = torch.arange(4500) // 180  # sorted, as in a folder
    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    plot.plot_map("unused.png", torch.randn(4500, 3), labels, [*range(25)])
    groups = figures[0].axes[0].collections
    sizes = [len(group.get_offsets()) for group in groups]
    assert len(sizes) == 25 and min(sizes) > 50 and sum(sizes) <= 2000
    assert not figures[0].axes[0].get_legend_handles_labels()[1]


def test_the_map_of_lineval_is_of_the_test_images_and_their_classes(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(plot, "plot_map", lambda *args: asked.append(args))
    lineval.main([str(folder[0]), *PROBE, "--map", "map.png"])
    images, config = data.load(str(folder[1]), image_size=16, skip_bad=True), load(folder[0])[1]
    ((path, x, labels, classes),) = asked
    expected = lineval.extract_features(load(folder[0])[0], images.test, config["mean"],
                                        config["std"])
    assert path == "map.png" and torch.allclose(x, expected, atol=1e-5)
    assert torch.equal(labels, images.test_labels) and classes == images.classes


def test_the_map_of_lineval_is_a_PNG(folder, tmp_path):
    lineval.main([str(folder[0]), *PROBE, "--map", str(tmp_path / "map.png")])
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_features_and_the_map_may_be_on_another_device_than_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    x, y = torch.rand(6, 3).as_subclass(Elsewhere), (torch.arange(6) % 2).as_subclass(Elsewhere)
    images = SimpleNamespace(train_labels=y, test_labels=y, classes=["a", "b"], names=([], []))
    args = SimpleNamespace(features=str(tmp_path / "f.npz"), map=str(tmp_path / "m.png"))
    weights.save_features(args, images, x, x)
    assert numpy.load(tmp_path / "f.npz")["y_test"].tolist() == [0, 1] * 3
    assert (tmp_path / "m.png").exists()


def test_a_classifier_is_fine_tuned_on_the_device_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(finetune, "fit", lambda *_: None)
    monkeypatch.setattr(finetune, "extract_features", lambda network, x, *_: torch.zeros(len(x), 2))
    config = dict(arch="resnet8", stem="cifar", mean=[0.5] * 3, std=[0.2] * 3)
    args = SimpleNamespace(seed=0, finetune=1, batch_size=4, device="meta")
    network, _ = finetune.train_classifier(
        args, {}, config, numbered_images(8, torch.arange(8) % 2), 0.1)
    assert {w.device.type for w in network.parameters()} == {"meta"}
