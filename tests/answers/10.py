"""Answers to exercise 10, right and wrong."""

SCALED, COSINE = "optim.py:scaled_lr", "optim.py:cosine_lr"


def scaled(value):
    return SCALED, f"def scaled_lr(base_lr, batch_size):\n    return {value}\n"


def cosine(warm="lr * (step + 1) / warmup_steps",
           progress="(step - warmup_steps) / (total_steps - warmup_steps)",
           value="lr * 0.5 * (1 + math.cos(math.pi * progress))", when="step < warmup_steps"):
    return COSINE, f"""
def cosine_lr(lr, step, total_steps, warmup_steps=0):
    if {when}:
        return {warm}
    progress = {progress}
    return {value}
"""


WRONG = {
    "whole multiples of 256 only": scaled("base_lr * (batch_size // 256)"),
    "the square root": scaled("base_lr * (batch_size / 256) ** 0.5"),
    "not scaled": scaled("base_lr"),
    "512 is the reference": scaled("base_lr * batch_size / 512"),
    "the inverse": scaled("base_lr * 256 / batch_size"),
    "the warm-up starts at 0": cosine(warm="lr * step / warmup_steps"),
    "the warm-up ends below lr": cosine(warm="lr * (step + 1) / (warmup_steps + 1)"),
    "the cosine does not wait for the warm-up": cosine(progress="step / total_steps"),
    "the cosine has all steps": cosine(progress="(step - warmup_steps) / total_steps"),
    "the last step has length 0": cosine(
        progress="(step - warmup_steps) / max(1, total_steps - warmup_steps - 1)"),
    "the cosine starts a step early": cosine(
        progress="(step + 1 - warmup_steps) / (total_steps - warmup_steps)"),
    "degrees": cosine(value="lr * 0.5 * (1 + math.cos(180 * progress))"),
    "a quarter of a cosine": cosine(value="lr * math.cos(math.pi / 2 * progress)"),
    "a whole cosine": cosine(value="lr * 0.5 * (1 + math.cos(2 * math.pi * progress))"),
    "twice too large": cosine(value="lr * (1 + math.cos(math.pi * progress))"),
    "a line": cosine(value="lr * (1 - progress)"),
    "no warm-up": cosine(when="False"),
    "the warm-up is a step longer": cosine(
        when="step <= warmup_steps and warmup_steps", warm="lr * min(1, step / warmup_steps)"),
    "a tensor": cosine(value="lr * 0.5 * (1 + torch.cos(torch.tensor(math.pi * progress)))"),
}

RIGHT = {
    "a factor of the base rate": scaled("batch_size / 256 * base_lr"),
    "sin² in place of the cosine": cosine(
        value="lr * (1 - math.sin(math.pi / 2 * progress) ** 2)"),
    "torch's cosine": cosine(
        value="(lr / 2 * (1 + torch.cos(torch.tensor(torch.pi * progress, dtype=torch.float64))))"
        ".item()"),
    "the other way round": (COSINE, '''
def cosine_lr(lr, step, total_steps, warmup_steps=0):
    remaining = total_steps - step
    if remaining > total_steps - warmup_steps:
        return lr - lr * (warmup_steps - step - 1) / warmup_steps
    return (lr - lr * math.cos(math.pi * remaining / (total_steps - warmup_steps))) / 2
'''),
}
