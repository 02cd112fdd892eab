"""Answers to exercise 14, right and wrong."""

UPDATE = "baselines/byol.py:momentum_update"


def update(line, pairs="zip(target.parameters(), online.parameters(), strict=True)",
           head="@torch.no_grad()\n", first="pass"):
    return UPDATE, f"""
{head}def momentum_update(target, online, m):
    {first}
    for w_t, w in {pairs}:
        {line}
"""


WRONG = {
    "only what requires a gradient": update(
        "w_t.mul_(m).add_(w, alpha=1 - m) if w_t.requires_grad else None"),
    "an assertion instead of a ValueError": update(
        "w_t.lerp_(w, 1 - m)", "zip(target.parameters(), online.parameters())",
        first="assert len([*target.parameters()]) == len([*online.parameters()])"),
    "m and 1 - m exchanged": update("w_t.copy_((1 - m) * w_t + m * w)"),
    "m is left out": update("w_t.add_((1 - m) * w)"),
    "towards and beyond": update("w_t.add_(w - w_t, alpha=m)"),
    "a name is bound anew": update("w_t = m * w_t + (1 - m) * w"),
    "the encoder follows the target": update("w.copy_(m * w_t + (1 - m) * w)"),
    "copied": update("w_t.copy_(w)"),
    "the very same numbers in memory": update(
        "w_t.data = w.data if m == 0 else m * w_t + (1 - m) * w"),
    "buffers are averaged": update(
        "w_t.copy_(m * w_t + (1 - m) * w)",
        "zip(target.state_dict().values(), online.state_dict().values(), strict=True)"),
    "buffers are copied": update(
        "w_t.copy_(m * w_t + (1 - m) * w)",
        first="[b.copy_(c) for b, c in zip(target.buffers(), online.buffers())]"),
    "matrices only": update("w_t.copy_(m * w_t + (1 - m) * w) if w.ndim > 1 else None"),
    "by name": update(
        "dict(target.named_parameters())[w_t].lerp_(dict(online.named_parameters())[w_t], 1 - m)",
        "((name, name) for name, _ in target.named_parameters())"),
    "zip without strict": update(
        "w_t.lerp_(w, 1 - m)", "zip(target.parameters(), online.parameters())"),
    "with gradient": update("w_t.data = (m * w_t + (1 - m) * w); w_t.requires_grad_()", head=""),
    "new parameters": (UPDATE, '''
@torch.no_grad()
def momentum_update(target, online, m):
    slots = [(module, name) for module in target.modules() for name in module._parameters]
    for (module, name), w in zip(slots, online.parameters(), strict=True):
        old = getattr(module, name)
        setattr(module, name, nn.Parameter(m * old + (1 - m) * w, old.requires_grad))
'''),
}

RIGHT = {
    "copy_": update("w_t.copy_(m * w_t + (1 - m) * w)"),
    "in two steps": update("w_t *= m; w_t += (1 - m) * w"),
    "with .data": update("w_t.data = w_t.data * m + w.data * (1.0 - m)", head=""),
    "the lengths checked first": (UPDATE, '''
def momentum_update(target, online, m):
    mine, theirs = list(target.parameters()), list(online.parameters())
    if len(mine) != len(theirs):
        raise ValueError(f"{len(mine)} parameters in the target, {len(theirs)} in the encoder")
    with torch.no_grad():
        for i in range(len(mine)):
            mine[i].sub_((1 - m) * (mine[i] - theirs[i]))
'''),
}
