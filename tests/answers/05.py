"""Answers to exercise 5, right and wrong."""

SHORTCUT, BLOCK = "resnet.py:shortcut", "resnet.py:BasicBlock.forward"
BOTTLENECK = "resnet.py:Bottleneck.forward"

WRONG = {
    "the shortcut's layers are used twice": (BLOCK, '''
def forward(self, x):
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    if self.downsample is not None and self.downsample(x) is not None:
        x = self.downsample(x)
    return self.relu(out + x)
'''),
    "the convolution alone": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    return None if stride == 1 and c_in == c_out else conv(c_in, c_out, 1, stride)
'''),
    "the stride is forgotten": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    if c_in == c_out:
        return None
    return nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))
'''),
    "always a projection": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    return nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))
'''),
    "a projection without BN": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(conv(c_in, c_out, 1, stride))
'''),
    "a 3 x 3 projection": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(conv(c_in, c_out, 3, stride), nn.BatchNorm2d(c_out))
'''),
    "a bias in front of BN": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))
'''),
    "a projection without γ and β": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out, affine=False))
'''),
    "a ReLU on the Bottleneck's shortcut": (BOTTLENECK, '''
def forward(self, x):
    out = self.relu(self.bn1(self.conv1(x)))
    out = self.relu(self.bn2(self.conv2(out)))
    out = self.bn3(self.conv3(out))
    return self.relu(out + torch.relu(x if self.downsample is None else self.downsample(x)))
'''),
    "a ReLU on the branch": (BLOCK, '''
def forward(self, x):
    out = self.relu(self.bn1(self.conv1(x)))
    out = self.relu(self.bn2(self.conv2(out)))
    return out + (x if self.downsample is None else self.downsample(x))
'''),
    "no ReLU after the sum": (BLOCK, '''
def forward(self, x):
    out = self.relu(self.bn1(self.conv1(x)))
    return self.bn2(self.conv2(out)) + (x if self.downsample is None else self.downsample(x))
'''),
    "no ReLU inside": (BLOCK, '''
def forward(self, x):
    out = self.bn2(self.conv2(self.bn1(self.conv1(x))))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))
'''),
    "no shortcut": (BLOCK, '''
def forward(self, x):
    out = self.relu(self.bn1(self.conv1(x)))
    return self.relu(self.bn2(self.conv2(out)))
'''),
    "the ReLU in front of BN": (BLOCK, '''
def forward(self, x):
    out = self.bn1(self.relu(self.conv1(x)))
    out = self.bn2(self.conv2(out))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))
'''),
    "pre-activation, in place": (BLOCK, '''
def forward(self, x):
    path = x if self.downsample is None else self.downsample(x)
    out = self.conv1(self.relu(x))
    return self.relu(self.bn2(self.conv2(self.relu(self.bn1(out)))) + path)
'''),
    "added to the input in place": (BLOCK, '''
def forward(self, x):
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    x = x if self.downsample is None else self.downsample(x)
    x.data += out
    return self.relu(x.clone())
'''),
    "the shortcut is detached": (BLOCK, '''
def forward(self, x):
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    path = x if self.downsample is None else self.downsample(x)
    return self.relu(out + path.detach())
'''),
    "the projection is not used": (BLOCK, '''
def forward(self, x):
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    if self.downsample is None:
        out = out + x
    return self.relu(out)
'''),
    "a ReLU is missing in the Bottleneck": (BOTTLENECK, '''
def forward(self, x):
    out = self.relu(self.bn1(self.conv1(x)))
    out = self.bn3(self.conv3(self.bn2(self.conv2(out))))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))
'''),
    "a ReLU on the Bottleneck's branch": (BOTTLENECK, '''
def forward(self, x):
    out = self.relu(self.bn1(self.conv1(x)))
    out = self.relu(self.bn2(self.conv2(out)))
    out = self.relu(self.bn3(self.conv3(out)))
    return out + (x if self.downsample is None else self.downsample(x))
'''),
    "BNs exchanged in the Bottleneck": (BOTTLENECK, '''
def forward(self, x):
    out = self.relu(self.bn2(self.conv1(x)))
    out = self.relu(self.bn1(self.conv2(out)))
    out = self.bn3(self.conv3(out))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))
'''),
}

RIGHT = {
    "nn.Conv2d by hand": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    if stride != 1 or c_in != c_out:
        return nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=False),
                             nn.BatchNorm2d(c_out))
'''),
    "named layers": (SHORTCUT, '''
def shortcut(c_in, c_out, stride):
    if stride == 1 and c_in == c_out:
        return None
    net = nn.Sequential()
    net.add_module("projection", nn.Conv2d(c_in, c_out, 1, stride, bias=False))
    net.add_module("bn", nn.BatchNorm2d(c_out))
    return net
'''),
    "torch.clamp for the ReLU": (BLOCK, '''
def forward(self, x):
    branch = self.bn1(self.conv1(x)).clamp(min=0)
    branch = self.bn2(self.conv2(branch))
    if self.downsample:
        x = self.downsample(x)
    return (x + branch).clamp(min=0)
'''),
    "a list of layers": (BLOCK, '''
def forward(self, x):
    out = x
    for layer in (self.conv1, self.bn1, self.relu, self.conv2, self.bn2):
        out = layer(out)
    identity = x
    if self.downsample is not None:
        identity = self.downsample(x)
    return torch.relu(torch.add(out, identity))
'''),
    "a loop over three layers": (BOTTLENECK, '''
def forward(self, x):
    out = x
    for i in (1, 2, 3):
        out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
        if i < 3:
            out = torch.relu(out)
    return torch.relu(out + (self.downsample(x) if self.downsample else x))
'''),
}
