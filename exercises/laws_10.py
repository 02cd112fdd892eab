"""The laws of exercise 10: the learning rate's schedule."""

import torch

from exercises.exercise import demand, show
from optim import cosine_lr, scaled_lr

BLANKS = ["optim.py:scaled_lr", "optim.py:cosine_lr"]
READ = ("Sec. 3, baseline settings (optimizer), and Sec. 4.3 on warm-up; the docstrings of"
        " optim.py, of scaled_lr and of cosine_lr.")


def law_linear_scaling():
    """The learning rate is proportional to the batch size, and is base_lr at 256."""
    for base_lr, batch_size, wanted in ((0.05, 256, 0.05), (0.05, 512, 0.1), (0.05, 64, 0.0125),
                                        (2.0, 64, 0.5), (0.02, 4096, 0.32)):
        demand(scaled_lr(base_lr, batch_size), wanted, f"scaled_lr({base_lr}, {batch_size}) must"
               " be")


def law_half_a_cosine():
    """Without warm-up the learning rate is half a cosine, from lr at step 0 to 0 at the end."""
    # (1 + cos 0°) / 2 = 1, then for 45°, 60°, 90°, 120°
    for step, total, wanted in ((0, 4, 1.0), (1, 4, 0.853553), (1, 3, 0.75), (2, 4, 0.5),
                                (2, 3, 0.25)):
        demand(cosine_lr(1.0, step, total), wanted, f"cosine_lr(1.0, {step}, {total}) must be")


def law_proportional_to_lr():
    """All values are proportional to lr, the highest one, also in the warm-up."""
    for step, warmup, wanted in ((2, 0, 0.05), (0, 2, 0.05), (2, 2, 0.1), (3, 2, 0.05)):
        demand(cosine_lr(0.1, step, 4, warmup), wanted, f"cosine_lr(0.1, {step}, 4, {warmup}) must"
               " be")


def law_the_last_step_is_not_wasted():
    """0 is reached at step = total_steps, after the last step, so no step has length 0."""
    # (1 + cos 162°) / 2 and (1 + cos 90°) / 2
    for step, total, wanted in ((9, 10, 0.0244717419), (1, 2, 0.5), (0, 1, 1.0)):
        demand(cosine_lr(1.0, step, total), wanted, f"cosine_lr(1.0, {step}, {total}), the last"
               " step of the run, must be")


def law_the_warm_up_is_linear():
    """The warm-up rises in equal steps, the first one above 0 and the last one at lr."""
    for step, wanted in enumerate((0.25, 0.5, 0.75, 1.0)):
        demand(cosine_lr(1.0, step, 10, 4), wanted, f"cosine_lr(1.0, {step}, 10, 4) must be")


def law_the_cosine_follows_the_warm_up():
    """After the warm-up the cosine takes the steps that are left, starting at lr."""
    for step, wanted in ((4, 1.0), (6, 0.75), (7, 0.5), (8, 0.25)):  # 0°, 60°, 90°, 120°
        demand(cosine_lr(1.0, step, 10, 4), wanted, f"cosine_lr(1.0, {step}, 10, 4) must be")


def law_it_never_rises_after_the_warm_up():
    """After the warm-up the learning rate falls from step to step and stays above 0."""
    for warmup in (0, 5):
        lrs = [float(cosine_lr(0.3, step, 40, warmup)) for step in range(warmup, 40)]
        for step, (a, b) in enumerate(zip(lrs, lrs[1:]), start=warmup):
            assert a > b > 0, (f"cosine_lr(0.3, ..., 40, {warmup}) must fall and stay above 0;"
                               f" yours is {a:.4g} at step {step} and {b:.4g} at step {step + 1}.")


def law_torch_agrees():
    """Without warm-up the values are those of torch's CosineAnnealingLR."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=17)
    for step in range(17):
        demand(cosine_lr(0.3, step, 17), theirs.get_last_lr()[0], f"cosine_lr(0.3, {step}, 17) must"
               " be")
        optimizer.step(), theirs.step()


def law_a_plain_number():
    """Both return a plain number, which a log can hold."""
    for call, v in (("scaled_lr(0.05, 512)", scaled_lr(0.05, 512)),
                    ("cosine_lr(1.0, 1, 4)", cosine_lr(1.0, 1, 4)),
                    ("cosine_lr(1.0, 0, 4, 2)", cosine_lr(1.0, 0, 4, 2))):
        assert isinstance(v, float), (f"{call} must be a float; yours is {show(v)}, a"
                                      f" {type(v).__name__}.")
