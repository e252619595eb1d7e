"""A plain supernet, the oracle of the real one: every edge computes all its operations, multiplies each with its weight
(zero where it is absent) and adds them up. Written from the papers; it shares no layer with `ptnas.py`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def norm(channels):
    return Lambda(lambda x: F.batch_norm(x, None, None, training=True))


def relu_conv_norm(c_in, c_out, kernel=1):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False), norm(c_out))


class Halve(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.a = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.b = nn.Conv2d(c_in, c_out // 2, 1, bias=False)

    def forward(self, x):
        even = torch.relu(x)[:, :, ::2, ::2]
        odd = torch.zeros_like(even)
        shifted = torch.relu(x)[:, :, 1::2, 1::2]
        odd[:, :, : shifted.shape[2], : shifted.shape[3]] = shifted
        return F.batch_norm(torch.cat([self.a(even), self.b(odd)], 1), None, None, training=True)


class Noise(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride, self.place, self.batch = stride, None, 0

    def forward(self, x):
        generator = torch.Generator().manual_seed(self.batch * 1024 + self.place)
        shape = x[:, :, :: self.stride, :: self.stride].shape
        return torch.randn(shape, generator=generator, dtype=x.dtype)


def separable(c, kernel, stride, dilation):
    pad = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, pad, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        norm(c),
    ]


def operation(name, c, stride, family):
    if name == "none":
        return Lambda(lambda x: 0 * x[:, :, ::stride, ::stride])
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else Halve(c, c)
    if name == "noise":
        return Noise(stride)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), norm(c))
    if name == "avg_pool_3x3":
        pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        return nn.Sequential(pool, norm(c)) if family == "darts" else pool
    kind, size = name.split("_conv_")
    kernel = int(size[0])
    if kind == "nor":
        return relu_conv_norm(c, c, kernel)
    if kind == "sep":
        return nn.Sequential(*separable(c, kernel, stride, 1), *separable(c, kernel, 1, 1))
    return nn.Sequential(*separable(c, kernel, stride, 2))


class ReferenceCell(nn.Module):
    skips_zero = False  # True: passes over operations of weight zero, as the released implementations do

    def __init__(self, space, cell_type, c, preprocess):
        super().__init__()
        self.space, self.cell_type, self.preprocess = space, cell_type, nn.ModuleList(preprocess)
        self.mixed = nn.ModuleList()
        for names, (source, _) in zip(space.operations[cell_type], space.edges, strict=True):
            stride = 2 if cell_type == "reduce" and source < 2 else 1
            self.mixed.append(nn.ModuleList(operation(name, c, stride, space.family) for name in names))

    def forward(self, inputs, weights):
        states = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        for node in range(len(states), 1 + max(target for _, target in self.space.edges)):
            total = 0
            for edge, (source, target) in enumerate(self.space.edges):
                if target == node:
                    for index, op in enumerate(self.mixed[edge]):
                        if self.skips_zero and weights[edge, index] == 0:
                            continue
                        total = total + weights[edge, index] * op(states[source])
            states.append(total)
        return torch.cat(states[2:], 1) if self.space.family == "darts" else states[-1]


class ReferenceBlock(nn.Module):
    """Halves the map by two 3x3 convolutions beside a shortcut of pooling and a 1x1 convolution."""

    def __init__(self, c):
        super().__init__()
        self.conv_a = nn.Conv2d(c, 2 * c, 3, stride=2, padding=1, bias=False)
        self.norm_a = nn.BatchNorm2d(2 * c, track_running_stats=False)
        self.conv_b = nn.Conv2d(2 * c, 2 * c, 3, padding=1, bias=False)
        self.norm_b = nn.BatchNorm2d(2 * c, track_running_stats=False)
        self.conv_c = nn.Conv2d(c, 2 * c, 1, bias=False)

    def forward(self, x):
        y = self.norm_a(self.conv_a(torch.relu(x)))
        y = self.norm_b(self.conv_b(torch.relu(y)))
        odd = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), mode="replicate")  # a pixel averaged with its copy
        return y + self.conv_c(F.avg_pool2d(odd, 2))


class Reference(nn.Module):
    """The parts that both reference supernets have: α, the weights of the real one, and the mixture."""

    def __init__(self, space):
        super().__init__()
        self.space = space
        for cell_type, rows in space.operations.items():
            self.register_parameter(f"alpha_{cell_type}", nn.Parameter(torch.zeros(len(rows), len(rows[0]))))

    @staticmethod
    def like(supernet, layers, channels, classes, image_channels):
        """Builds a reference with the weights of the real supernet."""
        kind = ReferenceNb201 if supernet.space.family == "nb201" else ReferenceSupernet
        parameters = list(supernet.parameters())
        reference = kind(supernet.space, layers, channels, classes, image_channels).to(parameters[-1].dtype)
        ours = list(reference.parameters())
        assert [p.shape for p in ours] == [p.shape for p in parameters]
        with torch.no_grad():
            for mine, other in zip(ours, parameters, strict=True):
                mine.copy_(other)
        return reference

    def mixture(self, presence):
        """Returns (edges, operations) per cell type, from α and the presence of the real supernet."""
        result = {}
        for cell_type in self.space.operations:
            weights = torch.softmax(getattr(self, f"alpha_{cell_type}"), 1)
            rows = []
            for edge, (operations, decided) in enumerate(presence[cell_type]):
                there = torch.tensor([float(k in operations) for k in range(weights.shape[1])], dtype=weights.dtype)
                rows.append(there if decided else weights[edge] * there)
            result[cell_type] = torch.stack(rows)
        return result


class ReferenceSupernet(Reference):
    def __init__(self, space, layers, c, classes, image_channels):
        super().__init__(space)
        self.stem_conv = nn.Conv2d(image_channels, 3 * c, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(3 * c, track_running_stats=False)
        self.cells = nn.ModuleList()
        c_before = c_last = 3 * c
        halved = False
        for layer in range(layers):
            reduces = layer in (layers // 3, 2 * layers // 3)
            c = 2 * c if reduces else c
            preprocess = Halve(c_before, c) if halved else relu_conv_norm(c_before, c), relu_conv_norm(c_last, c)
            self.cells.append(ReferenceCell(space, "reduce" if reduces else "normal", c, preprocess))
            c_before, c_last, halved = c_last, len(space.nodes) * c, reduces
        self.linear = nn.Linear(c_last, classes)
        self.noises = [module for module in self.modules() if isinstance(module, Noise)]
        for place, noise in enumerate(self.noises):
            noise.place = place

    def forward(self, x, presence, batch=0):
        for noise in self.noises:
            noise.batch = batch
        mixture = self.mixture(presence)
        s0 = s1 = self.stem_norm(self.stem_conv(x))
        for cell in self.cells:
            s0, s1 = s1, cell((s0, s1), mixture[cell.cell_type])
        return self.linear(s1.mean((2, 3)))


class ReferenceNb201(Reference):
    def __init__(self, space, layers, c, classes, image_channels):
        super().__init__(space)
        self.layers = layers
        self.stem_conv = nn.Conv2d(image_channels, c, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(c, track_running_stats=False)
        widths = (c * 2 ** (n // layers) for n in range(3 * layers))
        self.cells = nn.ModuleList(ReferenceCell(space, "cell", width, [nn.Identity()]) for width in widths)
        self.blocks = nn.ModuleList([ReferenceBlock(c), ReferenceBlock(2 * c)])
        self.last_norm = nn.BatchNorm2d(4 * c, track_running_stats=False)
        self.linear = nn.Linear(4 * c, classes)

    def forward(self, x, presence, batch=0):
        weights = self.mixture(presence)["cell"]
        x = self.stem_norm(self.stem_conv(x))
        for stage in range(3):
            if stage > 0:
                x = self.blocks[stage - 1](x)
            for cell in self.cells[stage * self.layers : (stage + 1) * self.layers]:
                x = cell((x,), weights)
        return self.linear(torch.relu(self.last_norm(x)).mean((2, 3)))


@torch.no_grad()
def measure(reference, presence, data, batch_size=64, first=0):
    """Returns accuracy in percent, mean loss, top-5 accuracy in percent. first: number of the first batch."""
    right = among_five = loss = 0
    for number, (images, labels) in data.clean(batch_size):
        logits = reference(images, presence, first + number)
        best = logits.argsort(1, descending=True)[:, :5] == labels[:, None]
        right, among_five = right + best[:, 0].sum().item(), among_five + best.sum().item()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
    return 100 * right / len(data), loss / len(data), 100 * among_five / len(data)
