"""The laws of exercise 18: a method of the student's own, in mine.py."""

import ast
import math

import torch
from torch import nn

from exercises import exercise
from simsiam import SimSiam, effective_rank, output_std

BLANKS = []
READ = "the sheet; SimSiam in simsiam.py; the docstrings of baselines/."
FILES = {"mine.py": '''\
"""Exercise 18: a method of my own."""

from simsiam import D, SimSiam


class Mine(SimSiam):
    """What differs from SimSiam: ..."""

    def forward(self, x1, x2):
        raise NotImplementedError("exercise 18: write your method in mine.py")
'''}
STEPS = 100


def mine():
    """The class Mine of mine.py."""
    names = {"__name__": "mine"}
    path = str(exercise.HOME / "mine.py")
    exec(compile(exercise.submitted("mine.py"), path, "exec"), names)
    Mine = names.get("Mine")
    assert isinstance(Mine, type) and issubclass(Mine, SimSiam), (
        "mine.py must define a class Mine, derived from SimSiam: class Mine(SimSiam).")
    return Mine


def network(method):
    torch.manual_seed(0)
    # No bias: BN would subtract it, and only rounding would move it.
    backbone = nn.Sequential(nn.Linear(32, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU())
    backbone.num_features = 64
    return method(backbone, dim=64, pred_dim=16, proj_layers=2)


def trained(method, steps):
    """A network trained on Gaussian rows, with noise as augmentation; the losses; its outputs z."""
    model, losses = network(method), []
    torch.manual_seed(1)
    x = torch.randn(512, 32)
    view = lambda rows: rows + 2 * torch.randn_like(rows)
    for _ in range(steps):
        batch = x[torch.randint(512, (128,))]
        loss, _ = model(view(batch), view(batch))
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for w in model.parameters():
                if w.grad is not None:
                    w -= 3 * w.grad
    # Not its own f, nor the z1 that forward() returns: a submission could return anything.
    return model, losses, SimSiam.f(model, view(x)).detach()


def law_at_most_20_lines():
    """mine.py has at most 20 lines and 20 statements; comments and docstrings do not count."""
    text = exercise.submitted("mine.py")
    if text.strip() == FILES["mine.py"].strip():
        raise NotImplementedError("exercise 18: write your method in mine.py")
    lines = text.splitlines()
    counted = {i for i, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"}
    statements = [n for n in ast.walk(ast.parse(text, "mine.py")) if isinstance(n, ast.stmt)]
    docstrings = [n for n in statements
                  if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    for node in docstrings:
        counted -= set(range(node.lineno, node.end_lineno + 1))
    most = max(len(counted), len(statements) - len(docstrings))  # a = 1; b = 2 is one line
    assert most <= 20, f"Yours has {most}."
    longest = max(map(len, lines))
    assert longest <= 100, f"A line may have 100 characters; your longest has {longest}."


def law_a_loss_and_z1():
    """Two views go in; a single number and z1, one row per image, come out."""
    model, x = network(mine()), torch.randn(8, 32, generator=torch.Generator().manual_seed(2))
    got = model(x, x + 1)
    assert isinstance(got, tuple) and len(got) == 2, "forward must return loss, z1."
    shapes = [list(v.shape) for v in got]
    assert shapes == [[], [8, 64]], (f"For 8 images and d = 64 the shapes must be [] and [8, 64];"
                                     f" yours are {shapes[0]} and {shapes[1]}.")


def law_not_SimSiam_itself():
    """After five steps its encoder differs from SimSiam's."""
    one, two = (torch.cat([w.flatten() for w in trained(method, 5)[0].backbone.parameters()])
                for method in (mine(), SimSiam))
    assert not torch.allclose(one, two, atol=1e-5), (
        "All weights of the backbone are still SimSiam's.")


def law_the_encoder_is_trained():
    """The loss has a gradient in the encoder: in five steps every layer of the backbone moves."""
    before, after = (dict(net.backbone.named_parameters())
                     for net in (network(mine()), trained(mine(), 5)[0]))
    for name, w in before.items():
        assert not torch.equal(w, after[name]), (
            f"After five steps the backbone's {name} is still what it was before the first.")


def law_it_learns_and_does_not_collapse():
    """It learns: in 100 steps the loss falls, and the outputs do not collapse."""
    _, losses, z = trained(mine(), STEPS)
    bad = [i for i, loss in enumerate(losses, start=1) if not math.isfinite(loss)]
    assert not bad, (f"The loss is {losses[bad[0] - 1]} at step {bad[0]}, at the learning rate 3:"
                     " divide it by a constant, or look for a log or a root of 0.")
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert last < first, (f"The mean loss of the first ten steps is {first:.4g}, of the last ten"
                          f" {last:.4g}; it must be smaller.")
    std, rank = output_std(z).item(), effective_rank(z).item()
    assert std > 0.5 and rank > 8, (
        f"The outputs end with std {std:.2f} and rank {rank:.1f}; they must be above 0.5 and 8."
        " SimSiam has 1.00 and 27 here; without stop-gradient it has 0.07 and 4.")
