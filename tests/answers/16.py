"""Answers to exercise 16, right and wrong."""

TARGETS = "experiments/sec52_alternation.py:targets"
LOSS = "experiments/sec52_alternation.py:loss"


def eta(i="run.state.step % S", last="min(i + k, S)",
        indices="run.state.order[j * N : (j + 1) * N]", first="eta = [(f(x1), f(x2))]",
        views="run.two_views(indices)",
        around="torch.no_grad(), running_statistics_kept(run.model)", f="run.model.f",
        pair="(f(x1), f(x2))", start="i + 1", end="return eta"):
    return TARGETS, f"""
def targets(run, k, x1, x2):
    f, N, S = {f}, run.args.batch_size, run.steps_per_epoch
    i = {i}
    with {around}:
        {first}
        for j in range({start}, {last}):
            indices = {indices}
            x1, x2 = {views}
            eta.append({pair})
    {end}
"""


def total(value="model.D(p1, eta2) / 2 + model.D(p2, eta1) / 2", z="z1",
          p="p1, p2 = model.h(z1), model.h(z2)"):
    return LOSS, f"""
def loss(model, x1, x2, eta1, eta2):
    z1, z2 = model.f(x1), model.f(x2)
    {p}
    return {value}, {z}
"""


WRONG = {
    "for this batch only": eta(last="i + 1"),
    "always for the rest of the epoch": eta(last="S"),
    "one batch too many": eta(last="min(i + k + 1, S)"),
    "for the incomplete last batch, too": eta(last="min(i + k, -(-len(run.state.order) // N))"),
    "beyond the end of the epoch": eta(last="i + min(k, S)"),
    "the second epoch has none": eta(i="run.state.step"),
    "of this batch's images again": eta(indices="run.state.order[i * N : (i + 1) * N]"),
    "of images that follow in the set": eta(indices="torch.arange(j * N, (j + 1) * N)"),
    "new views of this batch": eta(first="eta = []", start="i"),
    "the same views for all batches": eta(views="x1, x2"),
    "the views exchanged": eta(pair="(f(x2), f(x1))"),
    "with gradient": eta(around="running_statistics_kept(run.model)"),
    "BN's statistics move": eta(around="torch.no_grad()"),
    "in eval mode": eta(f="run.model.eval().f", end="run.model.train(); return eta"),
    "of the predictor": eta(f="lambda x: run.model.h(run.model.f(x))"),
    "one target per batch": eta(first="eta = [f(x1)]", pair="f(x1)"),
    "both views in one pass": eta(
        first="eta = [f(torch.cat([x1, x2])).chunk(2)]", pair="f(torch.cat([x1, x2])).chunk(2)"),
    "each prediction towards its own view's target": total(
        "model.D(p1, eta1) / 2 + model.D(p2, eta2) / 2"),
    "one term": total("model.D(p1, eta2)"),
    "the terms are added": total("model.D(p1, eta2) + model.D(p2, eta1)"),
    "targets of today": total("model.D(p1, z2.detach()) / 2 + model.D(p2, z1.detach()) / 2"),
    "prediction and target exchanged": total("model.D(eta2, p1) / 2 + model.D(eta1, p2) / 2"),
    "no predictor": total(p="p1, p2 = z1, z2"),
    "no gradient to the encoder": total(p="p1, p2 = model.h(z1.detach()), model.h(z2.detach())"),
    "z2 is returned": total(z="z2"),
    "p1 is returned": total(z="p1"),
}

RIGHT = {
    "a while loop": (TARGETS, '''
def targets(run, k, x1, x2):
    pairs, step = [], run.state.step
    while True:
        with torch.no_grad():
            with running_statistics_kept(run.model):
                pairs.append((run.model.f(x1), run.model.f(x2)))
        step += 1
        if len(pairs) >= k or step % run.steps_per_epoch == 0:
            return pairs
        start = (step % run.steps_per_epoch) * run.args.batch_size
        x1, x2 = run.two_views(run.state.order[start : start + run.args.batch_size])
'''),
    "all views first": (TARGETS, '''
def targets(run, k, x1, x2):
    batches = run.state.order.split(run.args.batch_size)[: run.steps_per_epoch]
    here = run.state.step % len(batches)
    coming = batches[here + 1 :]
    if k <= len(coming):
        coming = coming[: k - 1]
    views = [(x1, x2)] + [run.two_views(indices) for indices in coming]
    with torch.no_grad(), running_statistics_kept(run.model):
        return [tuple(run.model.f(x) for x in pair) for pair in views]
'''),
    "detached": eta(around="running_statistics_kept(run.model)",
                    first="eta = [(f(x1).detach(), f(x2).detach())]",
                    pair="(f(x1).detach(), f(x2).detach())"),
    "the mean of two terms": total("(model.D(p1, eta2) + model.D(p2, eta1)) / 2"),
    "a loop over views": (LOSS, '''
def loss(model, x1, x2, eta1, eta2):
    total, outputs = 0, []
    for x, target in ((x1, eta2), (x2, eta1)):
        outputs.append(model.f(x))
        total = total + 0.5 * model.D(model.h(outputs[-1]), target.detach())
    return total, outputs[0]
'''),
}
