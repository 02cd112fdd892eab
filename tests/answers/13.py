"""Answers to exercise 13, right and wrong."""

FIT, PROBE = "lineval.py:fit", "lineval.py:fit_probe"
TOPK, CHOOSE = "lineval.py:topk_accuracy", "lineval.py:choose_lr"


def loop(once="pass", order="torch.randperm(len(x))", stop="len(x) // size",
         zero="optimizer.zero_grad()", loss="F.cross_entropy(logits(x[i]), labels[i])",
         peak="scaled_lr(base_lr, size)", lr="cosine_lr(peak, step, epochs * steps)"):
    """fit's body as two loops, over epochs and over batches."""
    return f"""
    size = min(batch_size, len(x))
    steps, step = {stop}, 0
    peak = {peak}
    {once}
    for epoch in range(epochs):
        order = {order}
        for b in range(steps):
            i = order[b * size : (b + 1) * size]
            {zero}
            {loss}.backward()
            optimizer.step({lr})
            step += 1
"""


def fit(**parts):
    head = "def fit(logits, optimizer, x, labels, base_lr, epochs, batch_size):"
    return FIT, head + loop(**parts)


def fit_probe(probe="nn.Linear(x.shape[1], classes)", std="0.01", bias="0.0",
              optimizer="optimizer([probe.parameters()])",
              fit="fit(probe, optimizer, x, labels, base_lr, epochs, batch_size)"):
    return PROBE, f"""
def fit_probe(x, labels, base_lr, classes, optimizer, epochs, batch_size):
    probe = logits = {probe}
    nn.init.normal_(probe.weight, std={std})
    nn.init.constant_(probe.bias, {bias})
    optimizer = {optimizer}
    {fit}
    return probe
"""


def choose(order="torch.randperm(n)", tenth="max(1, n // 10)", fit="x[order[tenth:]]",
           labels="labels[order[tenth:]]", test="order[:tenth]", best="accuracy > best",
           start="-1", each="pass", k="1", settings="*settings", lower="todo.append(chosen / 10)",
           higher="todo.append(chosen * 10)"):
    return CHOOSE, f"""
def choose_lr(x, labels, *settings):
    n = len(x)
    order, tenth = {order}, {tenth}
    best, chosen = {start}, None
    todo, tried = list(LRS), []
    while todo:
        lr = todo.pop(0)
        {each}
        probe = fit_probe({fit}, {labels}, lr, {settings})
        held_out = {test}
        accuracy = topk_accuracy(probe, x[held_out], labels[held_out], {k})
        tried.append(lr)
        if {best}:
            best, chosen = accuracy, lr
        if not todo and chosen == min(tried):
            {lower}
        elif not todo and chosen == max(tried):
            {higher}
    return chosen
"""


def topk(line):
    return TOPK, f"@torch.no_grad()\ndef topk_accuracy(probe, x, labels, k):\n    {line}\n"


WRONG = {
    "a warm-up": fit(lr="cosine_lr(peak, step, epochs * steps, steps)"),
    "the total counts incomplete batches": fit(
        lr="cosine_lr(peak, step, epochs * len(x) // size)"),
    "the total counts a last incomplete batch in every epoch": fit(
        lr="cosine_lr(peak, step, epochs * -(-len(x) // size))"),
    "the inputs are normalised": fit(once="x = F.normalize(x, dim=1)"),
    "the features are normalised": fit_probe(
        fit="fit(probe, optimizer, F.normalize(x, dim=1), labels, base_lr, epochs, batch_size)"),
    "the order is NumPy's": fit(
        order="torch.from_numpy(__import__('numpy').random.permutation(len(x)))"),
    "the order ignores the seed": fit(
        order="torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))"),
    "uniform weights of the same std": fit_probe(
        std="0.01); nn.init.uniform_(probe.weight, -0.01732, 0.01732); (0"),
    "two groups, one learning rate": fit_probe(
        optimizer="optimizer([[probe.weight], [probe.bias]])", fit=loop(lr="cosine_lr(peak, step,"
                                                                        " epochs * steps)")),
    "no groups": fit_probe(optimizer="optimizer(probe.parameters())"),
    "always SGD": fit_probe(optimizer="SGD([probe.parameters()])"),
    "the held-out tenth is NumPy's": choose(
        order="torch.from_numpy(__import__('numpy').random.permutation(n))"),
    "of equals the lowest": choose(
        best="accuracy > best or accuracy == best and lr < chosen"),
    "it falls in a line": fit(lr="peak * (1 - step / (epochs * steps))"),
    "it falls in a line, scaled by hand": fit(
        lr="peak * (1 - step / (epochs * steps))", peak="base_lr * size / 256"),
    "the same rows are left out in every epoch": fit(
        once="x, labels = x[: steps * size], labels[: steps * size]"),
    "two layers": fit_probe(probe="nn.Sequential(nn.Linear(x.shape[1], 8), nn.ReLU(),"
                            " nn.Linear(8, classes)); probe.weight, probe.bias ="
                            " probe[2].weight, probe[2].bias"),
    "PyTorch's own initialisation": fit_probe(std="0.01); probe.reset_parameters(); (0"),
    "std 1": fit_probe(std="1.0"),
    "the biases start at 1": fit_probe(bias="1.0"),
    "the weight alone is trained": fit_probe(optimizer="optimizer([[probe.weight]])"),
    "weight decay": fit_probe(optimizer="optimizer([probe.parameters()], weight_decay=1e-4)"),
    "no momentum": fit_probe(optimizer="optimizer([probe.parameters()], momentum=0.0)"),
    "the probe is not trained": fit_probe(fit="pass"),
    "epochs and batch size change places": fit_probe(
        fit="fit(probe, optimizer, x, labels, base_lr, batch_size, epochs)"),
    "scaled twice": fit_probe(fit="fit(probe, optimizer, x, labels,"
                              " scaled_lr(base_lr, batch_size), epochs, batch_size)"),
    "a loop of its own that does not shuffle": fit_probe(fit=loop(order="torch.arange(len(x))")),
    "a learning rate for each parameter": fit_probe(
        optimizer="optimizer([[probe.weight], [probe.bias]])",
        fit=loop(lr="*[cosine_lr(peak, step, epochs * steps)] * 2")),
    "the rows are not shuffled": fit(order="torch.arange(len(x))"),
    "one order for all epochs": fit(order="fixed", once="fixed = torch.randperm(len(x))"),
    "rows drawn with replacement": fit(order="torch.randint(len(x), (len(x),))"),
    "the last incomplete batch is kept": fit(stop="-(-len(x) // size)"),
    "gradients add up": fit(zero="pass"),
    "a sum over the batch": fit(
        loss="F.cross_entropy(logits(x[i]), labels[i], reduction='sum')"),
    "squared error": fit(
        once="squared = lambda p: F.mse_loss(p, F.one_hot(labels[i], p.shape[1]).float())",
        loss="squared(logits(x[i]))"),
    "softmax twice": fit(loss="F.cross_entropy(logits(x[i]).softmax(dim=1), labels[i])"),
    "labels of other rows": fit(loss="F.cross_entropy(logits(x[i]), labels[:len(i)])"),
    "for a linear layer only": fit(loss="F.cross_entropy(F.linear(x[i], logits.weight,"
                                   " logits.bias), labels[i])"),
    "the learning rate is not scaled": fit(peak="base_lr"),
    "the learning rate is constant": fit(lr="peak"),
    "the learning rate changes once per epoch": fit(lr="cosine_lr(peak, epoch, epochs)"),
    "a fraction, not a percentage": topk(
        "return float((probe(x).topk(min(k, probe.out_features), dim=1).indices"
        " == labels[:, None]).any(dim=1).double().mean())"),
    "top-1, whatever k": topk(
        "return 100 * float((probe(x).argmax(dim=1) == labels).double().mean())"),
    "the k-th largest alone": topk(
        "return 100 * float((probe(x).topk(min(k, probe.out_features), dim=1).indices[:, -1]"
        " == labels).double().mean())"),
    "divided by k": topk(
        "return 100 * float((probe(x).topk(min(k, probe.out_features), dim=1).indices"
        " == labels[:, None]).double().mean())"),
    "more than the classes": topk(
        "return 100 * float((probe(x).topk(k, dim=1).indices == labels[:, None]).any(dim=1)"
        ".double().mean())"),
    "a diverged probe counts": topk(
        "return percentage((probe(x).topk(min(k, probe.out_features), dim=1).indices"
        " == labels[:, None]).any(dim=1))"),
    "a tensor": topk(
        "return 100 * (probe(x).topk(min(k, probe.out_features), dim=1).indices"
        " == labels[:, None]).any(dim=1).double().mean()"),
    "tested on the rows it was fitted to": choose(test="order[tenth:]"),
    "fitted to all rows": choose(fit="x", labels="labels"),
    "tested on all rows": choose(test="order"),
    "the first tenth": choose(order="torch.arange(n)"),
    "every tenth row": choose(order="torch.tensor(sorted(range(n), key=lambda r: r % 10))"),
    "a new tenth for each": choose(each="order = torch.randperm(n)"),
    "the worst": choose(best="accuracy < best", start="1000"),
    "the last of equals": choose(best="accuracy >= best"),
    "fitted to labels of other rows": choose(labels="labels[tenth:]"),
    "by top-5": choose(k="5"),
    "a tenth that may be empty": choose(tenth="n // 10"),
    "the settings are forgotten": choose(settings="settings[0], SGD, 100, 256"),
    "half is held out": choose(tenth="n // 2"),
    "no lower than LRS": choose(lower="pass"),
    "no higher than LRS": choose(higher="pass"),
    "a single step further": choose(lower="todo += [chosen / 10] * (len(tried) == len(LRS))"),
    "two steps at once": choose(higher="todo += [10 * chosen, 100 * chosen]"),
}

RIGHT = {
    "a learning rate for each group there is": fit_probe(fit=loop(
        lr="*[cosine_lr(peak, step, epochs * steps) for _ in optimizer.param_groups]")),
    "all learning rates first": fit(
        once="lrs = [cosine_lr(peak, s, epochs * steps) for s in range(epochs * steps)]",
        lr="lrs[step]"),
    "loops over epochs and batches": fit(),
    "only the cosine by hand": fit(
        once="import math", lr="peak / 2 * (1 + math.cos(math.pi * step / (epochs * steps)))"),
    "only the scaling by hand": fit(peak="base_lr * size / 256"),
    "without the functions of optim.py": fit(
        once="import math", peak="base_lr * size / 256",
        lr="peak / 2 * (1 + math.cos(math.pi * step / (epochs * steps)))"),
    "the loss by hand": fit(
        loss="(-F.log_softmax(logits(x[i]), dim=1).gather(1, labels[i, None]).mean())"),
    "a loop of its own": fit_probe(fit=loop()),
    "every argument by name": fit_probe(
        optimizer="optimizer(param_groups=[probe.parameters()], momentum=0.9, weight_decay=0.0)",
        fit="fit(logits=probe, optimizer=optimizer, x=x, labels=labels, base_lr=base_lr,"
        " epochs=epochs, batch_size=batch_size)"),
    "no warm-up, by position": fit(lr="cosine_lr(peak, step, epochs * steps, 0)"),
    "settings by name": choose(settings="**dict(zip(('classes', 'optimizer', 'epochs',"
                               " 'batch_size'), settings))"),
    "gradients by hand": fit_probe(fit=loop(
        zero="pass", loss="grads = torch.autograd.grad(-F.log_softmax(probe(x[i]), dim=1)"
        ".gather(1, labels[i, None]).mean(), [probe.weight, probe.bias]);"
        " probe.weight.grad, probe.bias.grad = grads; torch.zeros(1, requires_grad=True)")),
    "a loop over rows": topk(
        "return 100.0 * sum(y in sorted(range(len(v)), key=lambda j: -v[j])[:k]"
        " and abs(sum(v)) < float('inf')"
        " for v, y in zip(probe(x).tolist(), labels.tolist())) / len(x)"),
    "ranks": topk(
        "v = probe(x); return 100.0 * (((v > v.gather(1, labels[:, None])).sum(dim=1) < k)"
        " & v.isfinite().all(dim=1)).float().mean().item()"),
    "a loop over learning rates": choose(),
    "in eval mode": choose(settings="*settings).eval("),
    "the tail of a permutation": choose(
        fit="x[order[:-tenth]]", labels="labels[order[:-tenth]]", test="order[-tenth:]"),
}
