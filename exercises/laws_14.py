"""The laws of exercise 14: BYOL's momentum encoder."""

from torch import nn

from baselines.byol import momentum_update
from exercises.exercise import demand

BLANKS = ["baselines/byol.py:momentum_update"]
HIDE = ["experiments/sec52_expectation.py:moving_average"]
READ = ("Sec. 6.2, relation to BYOL; Grill et al. (arXiv 2006.07733), Eq. 1; the docstrings of"
        " baselines/byol.py and of momentum_update.")


def linear(weight, bias):
    """One number in, one out."""
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, weight), nn.init.constant_(net.bias, bias)
    return net


def numbers(net):
    """Weight and bias of a linear() network."""
    return [net.weight.item(), net.bias.item()]


def law_the_target_moves_a_little_towards_the_encoder():
    """The target becomes m times itself plus 1 - m times the encoder, in weights and biases."""
    for m, wanted in ((0.9, [0.1, 2.0]), (0.75, [0.25, 3.5])):
        target = linear(0.0, 1.0)
        momentum_update(target, linear(1.0, 11.0), m)
        demand(numbers(target), wanted, f"Target weight 0 and bias 1, encoder weight 1 and bias 11,"
               f" m = {m}: the target's weight and bias must be")


def law_it_is_a_moving_average():
    """Repeated, the target comes nearer by the factor m each time."""
    target, online = linear(0.0, 0.0), linear(1.0, 1.0)
    for n, wanted in ((1, 0.1), (2, 0.19), (3, 0.271)):
        momentum_update(target, online, 0.9)
        demand(numbers(target), [wanted, wanted], "Target weight and bias 0, encoder weight and"
               f" bias 1, m = 0.9: after {n} update{'s' * (n > 1)} the target's must be")


def law_zero_copies_and_one_keeps():
    """m = 0 copies the encoder, and m = 1 leaves the target as it is."""
    for m, wanted in ((0.0, [2.0, 4.0]), (1.0, [1.0, 3.0])):
        target = linear(1.0, 3.0)
        momentum_update(target, linear(2.0, 4.0), m)
        demand(numbers(target), wanted, f"Target weight 1 and bias 3, encoder weight 2 and bias 4,"
               f" m = {m}: the target's weight and bias must be")


def law_the_encoder_stays():
    """The encoder stays as it is, and the two never share a weight."""
    for m in (0.0, 0.9):
        target, online = linear(0.0, 0.0), linear(1.0, 1.0)
        momentum_update(target, online, m)
        demand(numbers(online), [1.0, 1.0], "Target weight and bias 0, encoder weight and bias 1,"
               f" m = {m}: after the update the encoder's must be")
        before = numbers(target)
        nn.init.constant_(online.weight, 5.0)  # as a step of SGD would
        demand(numbers(target), before, f"After an update with m = {m} the encoder's weight is set"
               " to 5; the target's weight and bias must stay")


def law_every_layer_moves():
    """All parameters of all layers move, whatever their names in the encoder."""
    online = nn.Sequential(linear(1.0, 2.0), nn.ReLU(), nn.Sequential(linear(3.0, 4.0)))
    target = nn.ModuleDict({"backbone": linear(0.0, 0.0), "projector": linear(0.0, 0.0)})
    momentum_update(target, online, 0.5)
    demand([*numbers(target["backbone"]), *numbers(target["projector"])], [0.5, 1.0, 1.5, 2.0],
           "Target of two linear layers, all 0, encoder of two with the numbers 1, 2 and 3, 4,"
           " m = 0.5: the target's numbers must be")


def law_buffers_are_left_alone():
    """Buffers are not weights: BN's running statistics stay the target's own."""
    target, online = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    nn.init.constant_(online.running_mean, 10.0), nn.init.constant_(online.weight, 3.0)
    online.num_batches_tracked += 7
    momentum_update(target, online, 0.5)
    demand(target.weight[0].item(), 2.0, "Target γ = 1, encoder γ = 3, m = 0.5: the target's γ must"
           " be")
    demand(target.running_mean[0].item(), 0.0, "Target with the running mean 0, encoder with 10,"
           " m = 0.5: the target's must be")
    demand(target.num_batches_tracked.item(), 0, "Target with num_batches_tracked 0, encoder with"
           " 7: the target's must be")


def law_no_gradient():
    """The update is not part of any gradient, and the target's weights stay parameters."""
    online = linear(1.0, 1.0)
    target = linear(0.0, 0.0).requires_grad_(False)  # as BYOL's
    weight = target.weight
    momentum_update(target, online, 0.9)
    demand(numbers(target), [0.1, 0.1], "Target weight and bias 0, neither of which requires a"
           " gradient, encoder weight and bias 1, m = 0.9: the target's must be")
    assert target.weight is weight, (
        "The target's weight must be the same tensor as before, with new numbers; yours is another"
        " tensor.")
    assert not target.weight.requires_grad and target.weight.grad_fn is None, (
        "After the update the target's weight must not require a gradient; yours does.")
    assert all(isinstance(w, nn.Parameter) for w in (target.weight, online.weight)), (
        "After the update the weights must still be nn.Parameters; yours are not.")
    assert online.weight.requires_grad, (
        "After the update the encoder's weight must still require a gradient; yours does not.")


def law_the_target_may_ask_for_a_gradient():
    """The update also works for parameters that require a gradient."""
    target = linear(0.0, 0.0)
    momentum_update(target, linear(1.0, 1.0), 0.9)
    assert target.weight.requires_grad and target.weight.is_leaf, (
        "A target's weight that requires a gradient must stay a leaf of the graph; yours has become"
        " the result of a computation, or no longer requires a gradient.")


def law_networks_that_do_not_fit():
    """For networks with different numbers of parameters it raises a ValueError."""
    small, large = linear(0.0, 0.0), nn.Sequential(linear(1.0, 1.0), linear(1.0, 1.0))
    for target, online, what in ((small, large, "the encoder"), (large, small, "the target")):
        try:
            momentum_update(target, online, 0.9)
        except ValueError:
            continue
        except Exception as error:
            raised = type(error).__name__
        else:
            raised = "nothing"
        raise AssertionError(f"If {what} has four parameters and the other two, momentum_update"
                             f" must raise a ValueError; yours raises {raised}.")
