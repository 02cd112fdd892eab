"""Answers to exercise 3, right and wrong."""

FORWARD = "simsiam.py:SimSiam.forward"

BODY = '''
def forward(self, x1, x2):
    z1, z2 = self.f(x1), self.f(x2)
    p1, p2 = self.h(z1), self.h(z2)
    if self.symmetry == "asymmetric":
        return self.D(p1, z2), z1
    return self.D(p1, z2) / 2 + self.D(p2, z1) / 2, z1
'''


def instead(old, new):
    assert old in BODY
    return FORWARD, BODY.replace(old, new)


WRONG = {
    "z2 is returned": instead("z1) / 2, z1", "z1) / 2, z2"),
    "p1 is returned": instead("z1) / 2, z1", "z1) / 2, p1"),
    "the loss alone": instead("z1) / 2, z1", "z1) / 2"),
    "the asymmetric loss is halved": instead("return self.D(p1, z2), z1",
                                             "return self.D(p1, z2) / 2, z1"),
    "always symmetric": instead('"asymmetric"', '"?"'),
    "the two terms are added": instead("self.D(p1, z2) / 2 + self.D(p2, z1) / 2",
                                       "self.D(p1, z2) + self.D(p2, z1)"),
    "each view predicts itself": instead("self.D(p1, z2) / 2 + self.D(p2, z1) / 2",
                                         "self.D(p1, z1) / 2 + self.D(p2, z2) / 2"),
    "one term twice": instead("self.D(p2, z1) / 2", "self.D(p1, z2) / 2"),
    "targets and predictions are exchanged": instead(
        "self.D(p1, z2) / 2 + self.D(p2, z1) / 2", "self.D(z2, p1) / 2 + self.D(z1, p2) / 2"),
    "both views in one pass": instead("z1, z2 = self.f(x1), self.f(x2)",
                                      "z1, z2 = self.f(torch.cat([x1, x2])).chunk(2)"),
    "one pass through h": instead("p1, p2 = self.h(z1), self.h(z2)",
                                  "p1, p2 = self.h(torch.cat([z1, z2])).chunk(2)"),
    "z is detached in front of h": instead("self.h(z1), self.h(z2)",
                                           "self.h(z1.detach()), self.h(z2.detach())"),
    "the targets are always detached": instead(
        "    if self", '''    z1, z2 = z1.detach(), z2.detach()
    if self'''),
    "the asymmetric loss trains nothing": instead("return self.D(p1, z2), z1",
                                                  "return self.D(p1.detach(), z2), z1"),
    "the asymmetric target is always detached": instead("return self.D(p1, z2), z1",
                                                        "return self.D(p1, z2.detach()), z1"),
    "one pass if asymmetric": instead(
        "    if self", """    if self.symmetry == "asymmetric":
        z1, z2 = self.f(torch.cat([x1, x2])).chunk(2)
    if self"""),
    "D, not self.D": instead("self.D(p1, z2) / 2 + self.D(p2, z1) / 2",
                             "D(p1, z2) / 2 + D(p2, z1) / 2"),
    "no gradient at all": (FORWARD, BODY.replace("\ndef", "\n@torch.no_grad()\ndef")),
}

RIGHT = {
    "a sum over pairs": (FORWARD, '''
def forward(self, x1, x2):
    z1, z2 = map(self.f, (x1, x2))
    if self.symmetry == "asymmetric":
        pairs = [(self.h(z1), z2)]
        self.h(z2)
    else:
        pairs = [(self.h(z1), z2), (self.h(z2), z1)]
    return sum(self.D(p, z) for p, z in pairs) / len(pairs), z1
'''),
    "halves in front": (FORWARD, '''
def forward(self, x1, x2):
    """In three lines."""
    z1 = self.projector(self.backbone(x1))
    z2 = self.projector(self.backbone(x2))
    one = self.D(self.h(z1), z2)
    return (one if self.symmetry == "asymmetric" else 0.5 * (one + self.D(self.h(z2), z1))), z1
'''),
}
