"""Answers to exercise 18, right and wrong."""

FILE = "mine.py"
HEAD = '''
"""A method of my own."""
import copy
import torch
from simsiam import D, SimSiam, cross_entropy, negative_cosine

class Mine(SimSiam):
    """..."""

    def forward(self, x1, x2):
        z1, z2 = self.f(x1), self.f(x2)
        p1, p2 = self.h(z1), self.h(z2)
'''

WRONG = {
    "SimSiam itself": (FILE, HEAD + "        return D(p1, z2) / 2 + D(p2, z1) / 2, z1\n"),
    "more than 20 lines": (FILE, HEAD + "        a = 1\n" * 20
                           + "        return D(p1, z2), z1\n"),
    "more than 20 statements": (FILE, HEAD + "        0; a = 1; b = 2\n" * 10
                                + "        return D(p1, z2), z1\n"),
    "one long line": (FILE, HEAD + "        return D(p1, z2)" + " + 0" * 30 + ", z1\n"),
    "collapses": (FILE, HEAD + "        return D(p1, z2, stopgrad=False) / 2"
                  " + D(p2, z1, stopgrad=False) / 2, z1\n"),
    "collapses, and returns another z1": (
        FILE, HEAD + "        return D(p1, z2, stopgrad=False), torch.randn_like(z1)\n"),
    "collapses, and its f returns noise": (FILE, HEAD.replace("self.f", "super().f") + """
        return D(p1, z2, stopgrad=False) / 2 + D(p2, z1, stopgrad=False) / 2, z1

    def f(self, x):
        return torch.randn_like(super().f(x))
"""),
    "the loss alone": (FILE, HEAD + "        return D(p1, z2)\n"),
    "NaN": (FILE, HEAD + "        return (D(p1, z2) - 2).log(), z1\n"),
    "the encoder is never trained": (FILE, HEAD + "        return D(self.h(z1.detach()), z2),"
                                     " z1\n"),
    "the lr is too high for it": (FILE, HEAD + "        L = (p1 - z2.detach()) ** 2\n"
                                  "        return L.sum(dim=1).mean(), z1\n"),
    "no class Mine": (FILE, HEAD.replace("Mine", "Yours") + "        return D(p1, z2), z1\n"),
    "a baseline": (FILE, """
from baselines.byol import BYOL

class Mine(BYOL):
    def __init__(self, backbone, dim, proj_layers, pred_dim=None):
        super().__init__(backbone, 0.95, dim, 64)
"""),
    "does not learn": (FILE, HEAD + "        return 0 * D(p1, z2), z1\n"),
}

RIGHT = {
    "a moving average as target": (FILE, '''
import copy
import torch
from simsiam import D, SimSiam

class Mine(SimSiam):
    def forward(self, x1, x2):
        if not hasattr(self, "slow"):
            # hidden in a list: no parameter of the network
            self.slow = [copy.deepcopy(torch.nn.Sequential(self.backbone, self.projector))]
        with torch.no_grad():
            for slow, w in zip(self.slow[0].parameters(),
                               [*self.backbone.parameters(), *self.projector.parameters()]):
                slow.lerp_(w, 0.05)
            t1, t2 = self.slow[0](x1), self.slow[0](x2)
        z1, z2 = self.f(x1), self.f(x2)
        return D(self.h(z1), t2) / 2 + D(self.h(z2), t1) / 2, z1
'''),
    "asymmetric": (FILE, HEAD + "        return D(p1, z2), z1\n"),
    "a squared loss": (FILE, HEAD + "        return D(p1, z2, similarity="
                       "lambda p, z: negative_cosine(p, z).add(1).square()), z1\n"),
}
