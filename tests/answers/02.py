"""Answers to exercise 2, right and wrong."""

LAYER, F, H = (f"simsiam.py:{name}" for name in
               ("linear_bn_relu", "projection_mlp", "prediction_mlp"))

WRONG = {
    "a bias in front of BN": (LAYER, '''
def linear_bn_relu(c_in, c_out, bn, relu, affine=True):
    layers = [nn.Linear(c_in, c_out)]
    if bn:
        layers.append(nn.BatchNorm1d(c_out, affine=affine))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return layers
'''),
    "ReLU in front of BN": (LAYER, '''
def linear_bn_relu(c_in, c_out, bn, relu, affine=True):
    layers = [nn.Linear(c_in, c_out, bias=not bn)]
    if relu:
        layers.append(nn.ReLU())
    if bn:
        layers.append(nn.BatchNorm1d(c_out, affine=affine))
    return layers
'''),
    "BN in front of the linear layer": (LAYER, '''
def linear_bn_relu(c_in, c_out, bn, relu, affine=True):
    layers = [nn.BatchNorm1d(c_in, affine=affine)] if bn else []
    layers.append(nn.Linear(c_in, c_out, bias=not bn))
    return layers + [nn.ReLU()] * relu
'''),
    "affine is ignored": (LAYER, '''
def linear_bn_relu(c_in, c_out, bn, relu, affine=True):
    layers = [nn.Linear(c_in, c_out, bias=not bn)]
    if bn:
        layers.append(nn.BatchNorm1d(c_out))
    return layers + [nn.ReLU()] * relu
'''),
    "another initialisation": (LAYER, '''
def linear_bn_relu(c_in, c_out, bn, relu, affine=True):
    layers = [nn.Linear(c_in, c_out, bias=not bn)]
    nn.init.kaiming_normal_(layers[0].weight)
    if bn:
        layers.append(nn.BatchNorm1d(c_out, affine=affine))
    return layers + [nn.ReLU()] * relu
'''),
    "a ReLU on the projector's output": (F, '''
def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    layers = []
    for i in range(depth):
        last = i == depth - 1
        layers += linear_bn_relu(c_in if i == 0 else dim, dim, BN[bn][last], True,
                                 affine=not last or bn != "no-affine")
    return nn.Sequential(*layers)
'''),
    "no ReLU after the second of three layers": (F, '''
def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    layers = linear_bn_relu(c_in, dim, BN[bn][0], True)
    for i in range(depth - 2):
        layers += linear_bn_relu(dim, dim, BN[bn][0], False)
    return nn.Sequential(*layers, *linear_bn_relu(dim, dim, BN[bn][1], False, bn != "no-affine"))
'''),
    "a ReLU only without BN": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    return nn.Sequential(*linear_bn_relu(dim, hidden, BN[bn][2], not BN[bn][2]),
                         *linear_bn_relu(hidden, dim, BN[bn][3], False))
'''),
    "no BN on the projector's output": (F, '''
def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    layers = []
    for i in range(depth - 1):
        layers += linear_bn_relu(c_in if i == 0 else dim, dim, BN[bn][0], True)
    return nn.Sequential(*layers, *linear_bn_relu(dim, dim, False, False))
'''),
    "one layer too few": (F, '''
def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    layers = []
    for i in range(depth - 2):
        layers += linear_bn_relu(c_in if i == 0 else dim, dim, BN[bn][0], True)
    layers += linear_bn_relu(dim if layers else c_in, dim, BN[bn][1], False, bn != "no-affine")
    return nn.Sequential(*layers)
'''),
    "no layer of the projector has γ and β with no-affine": (F, '''
def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    layers, affine = [], bn != "no-affine"
    for i in range(depth - 1):
        layers += linear_bn_relu(c_in if i == 0 else dim, dim, BN[bn][0], True, affine)
    return nn.Sequential(*layers, *linear_bn_relu(dim, dim, BN[bn][1], False, affine))
'''),
    "BN on the predictor's output": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    return nn.Sequential(*linear_bn_relu(dim, hidden, BN[bn][2], True),
                         *linear_bn_relu(hidden, dim, BN[bn][2], False))
'''),
    "no BN in the predictor": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    return nn.Sequential(*linear_bn_relu(dim, hidden, False, True),
                         *linear_bn_relu(hidden, dim, BN[bn][3], False))
'''),
    "the predictor loses γ and β, too": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    return nn.Sequential(*linear_bn_relu(dim, hidden, BN[bn][2], True, bn != "no-affine"),
                         *linear_bn_relu(hidden, dim, BN[bn][3], False))
'''),
    "never a bias in the hidden layer": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    hidden_bn, output_bn = BN[bn][2:]
    return nn.Sequential(nn.Linear(dim, hidden, bias=False),
                         *[nn.BatchNorm1d(hidden)] * hidden_bn, nn.ReLU(),
                         *linear_bn_relu(hidden, dim, output_bn, False))
'''),
    "no bottleneck": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    return nn.Sequential(*linear_bn_relu(dim, dim, BN[bn][2], True),
                         *linear_bn_relu(dim, dim, BN[bn][3], False))
'''),
    "no ReLU in the predictor": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    return nn.Sequential(*linear_bn_relu(dim, hidden, BN[bn][2], False),
                         *linear_bn_relu(hidden, dim, BN[bn][3], False))
'''),
}

RIGHT = {
    "conditions in one list": (LAYER, '''
def linear_bn_relu(c_in, c_out, bn, relu, affine=True):
    return ([nn.Linear(c_in, c_out, not bn)]
            + [nn.BatchNorm1d(c_out, affine=affine)] * bool(bn) + [nn.ReLU()] * bool(relu))
'''),
    "nested modules": (F, '''
def projection_mlp(c_in, dim=2048, depth=3, bn="default"):
    head = nn.Sequential()
    for i in range(depth - 1):
        head.append(nn.Sequential(*linear_bn_relu(c_in if i == 0 else dim, dim, BN[bn][0], True)))
    head.append(nn.Sequential(*linear_bn_relu(dim, dim, BN[bn][1], False, bn != "no-affine")))
    return head
'''),
    "written out": (H, '''
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    hidden_bn, output_bn = BN[bn][2:]
    layers = [nn.Linear(dim, hidden, bias=not hidden_bn)]
    if hidden_bn:
        layers += [nn.BatchNorm1d(hidden)]
    layers += [nn.ReLU(), nn.Linear(hidden, dim, bias=not output_bn)]
    if output_bn:
        layers += [nn.BatchNorm1d(dim)]
    return nn.Sequential(*layers)
'''),
}
