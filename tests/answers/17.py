"""Answers to exercise 17, right and wrong."""

FILE = "mylaws.py"
HEAD = '''
import math
import torch
import torch.nn.functional as F
from simsiam import D, negative_cosine

def close(a, b):
    return abs(a.item() - b) < 1e-5

def law_value():
    assert close(D(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])), -0.96)

def law_ends():
    p = torch.tensor([[1.0, 2.0]])
    assert close(D(p, p), -1) and close(D(p, -p), 1)

def law_mean():
    p, z = torch.eye(2), torch.tensor([[2.0, 0.0], [3.0, 0.0]])
    assert close(D(p, z), -0.5)
'''
STOP = '''
def law_stop():
    p = torch.tensor([[3.0, 4.0]], requires_grad=True)
    z = torch.tensor([[4.0, 3.0]], requires_grad=True)
    D(p, z).backward()
    assert z.grad is None and p.grad is not None and p.grad.isfinite().all()
    D(p, z, stopgrad=False).backward()
    assert z.grad is not None
'''
ZERO = '''
def law_zero():
    p = torch.zeros(1, 2, requires_grad=True)
    z = torch.tensor([[3.0, 4.0]])
    L = D(p, z)
    assert close(L, 0)
    L.backward()
    assert p.grad.isfinite().all()
'''
SIMILARITY = '''
def law_similarity():
    p, z = torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 1.0]])
    assert close(D(p, z, similarity=lambda p, z: (2 * p - z).sum(dim=1)), 0)
'''

WRONG = {
    "one law only": (FILE, HEAD.partition("def law_ends")[0]),
    "no stop-gradient, no zeros, no similarity": (FILE, HEAD),
    "a law that is false": (FILE, HEAD + STOP + ZERO + SIMILARITY + '''
def law_false():
    assert D(torch.ones(1, 2), torch.ones(1, 2)) == 1
'''),
    "refuses another form": (FILE, HEAD + STOP + ZERO + SIMILARITY + '''
def law_exact():
    p, z = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[5.0, 1.0, 3.0]])
    assert D(p, z).item() == -(F.normalize(p, dim=1) * F.normalize(z, dim=1)).sum().item()
    import inspect, simsiam
    assert "normalize" in simsiam.negative_cosine.__code__.co_names
'''),
    "the value to the last digit": (FILE, HEAD + STOP + ZERO + SIMILARITY + '''
def law_exact():
    p = torch.tensor([[3.0, 4.0]])
    assert D(p, p) == -1
'''),
    "too small a tolerance": (FILE, HEAD + STOP + ZERO + SIMILARITY + '''
def law_exact():
    p, z = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[5.0, 1.0, 3.0]])
    assert abs(D(p, z).item() - -F.cosine_similarity(p, z).item()) < 1e-9
'''),
    "notices everything, a correct D too": (FILE, '''
def law_a():
    assert False
law_b = law_c = law_a
'''),
    "holds by chance": (FILE, HEAD + STOP + ZERO + SIMILARITY + '''
def law_no_rows_are_alike():
    assert D(torch.randn(2, 3), torch.randn(2, 3)).abs() < 0.5
'''),
    "does not parse": (FILE, "def law_a(:\n    pass\n"),
}

RIGHT = {
    "five laws": (FILE, HEAD + STOP + ZERO + SIMILARITY),
    "named test_, a loop over seeds": (FILE, (HEAD + STOP + ZERO).replace("law_", "test_") + '''
def test_random():
    for seed in range(5):
        torch.manual_seed(seed)
        p, z = torch.randn(4, 3), torch.randn(4, 3)
        assert close(D(5 * p, z / 7), float(D(p, z)))
        assert negative_cosine(p, z).shape == (4,)
        rows = zip(p[:, None], z[:, None])
        assert close(D(p, z), sum(float(negative_cosine(a, b)) for a, b in rows) / 4)
'''),
}
