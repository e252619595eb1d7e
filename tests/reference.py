"""A plain supernet, the oracle of the real one: every edge computes all its operations, multiplies each with its weight
(zero where it is absent) and adds them up. Written from the papers, sharing no layer with `ptnas.py`."""

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


def operation(name, c, stride, family="darts"):
    if name == "none":
        return Lambda(lambda x: 0 * x[:, :, ::stride, ::stride])
    if name == "skip_connect":
        return Lambda(lambda x: x) if stride == 1 else Halve(c, c)
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
    skips_zero = False  # whether operations of weight zero are passed over, as the released implementations do

    def __init__(self, space, cell_type, c_before, c_last, c, halved_before):
        super().__init__()
        self.edges, self.cell_type = space.edges, cell_type
        self.pre0 = Halve(c_before, c) if halved_before else relu_conv_norm(c_before, c)
        self.pre1 = relu_conv_norm(c_last, c)
        self.mixed = nn.ModuleList()
        for names, (source, _) in zip(space.operations[cell_type], space.edges, strict=True):
            stride = 2 if cell_type == "reduce" and source < 2 else 1
            self.mixed.append(nn.ModuleList(operation(name, c, stride) for name in names))

    def forward(self, s0, s1, weights):
        states = [self.pre0(s0), self.pre1(s1)]
        for node in range(2, 6):
            total = 0
            for edge, (source, target) in enumerate(self.edges):
                if target == node:
                    for index, op in enumerate(self.mixed[edge]):
                        if self.skips_zero and weights[edge, index] == 0:
                            continue
                        total = total + weights[edge, index] * op(states[source])
            states.append(total)
        return torch.cat(states[2:], 1)


class ReferenceNb201Cell(nn.Module):
    cell_type = "cell"

    def __init__(self, space, c):
        super().__init__()
        self.mixed = nn.ModuleList(
            nn.ModuleList(operation(name, c, 1, "nb201") for name in names) for names in space.operations["cell"]
        )

    def forward(self, x, weights):
        nodes = [x]
        for edges in ((0,), (1, 2), (3, 4, 5)):
            terms = [
                weights[edge, index] * op(nodes[source])
                for source, edge in enumerate(edges)
                for index, op in enumerate(self.mixed[edge])
            ]
            nodes.append(sum(terms))
        return nodes[3]


class ReferenceBlock(nn.Module):
    """Halves the map: two convolutions of 3x3 beside a shortcut of pooling and a convolution of 1x1."""

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
    """What both reference supernets have: α, the weights of the real one, and the mixture."""

    def __init__(self, space):
        super().__init__()
        self.space = space
        for cell_type, rows in space.operations.items():
            self.register_parameter(f"alpha_{cell_type}", nn.Parameter(torch.zeros(len(rows), len(rows[0]))))

    @staticmethod
    def like(supernet, layers, channels, classes, image_channels):
        """The same weights as the real supernet."""
        kind = ReferenceNb201 if supernet.space.name == "nb201" else ReferenceSupernet
        parameters = list(supernet.parameters())
        reference = kind(supernet.space, layers, channels, classes, image_channels).to(parameters[-1].dtype)
        ours = list(reference.parameters())
        assert [p.shape for p in ours] == [p.shape for p in parameters]
        with torch.no_grad():
            for mine, other in zip(ours, parameters, strict=True):
                mine.copy_(other)
        return reference

    def mixture(self, presence):
        """(edges, operations) per cell type from α and the presence of the real supernet."""
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
            self.cells.append(ReferenceCell(space, "reduce" if reduces else "normal", c_before, c_last, c, halved))
            c_before, c_last, halved = c_last, 4 * c, reduces
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
            s0, s1 = s1, cell(s0, s1, mixture[cell.cell_type])
        return self.linear(s1.mean((2, 3)))


class ReferenceNb201(Reference):
    def __init__(self, space, layers, c, classes, image_channels):
        super().__init__(space)
        self.layers = layers
        self.stem_conv = nn.Conv2d(image_channels, c, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(c, track_running_stats=False)
        self.cells = nn.ModuleList(ReferenceNb201Cell(space, c * 2 ** (n // layers)) for n in range(3 * layers))
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
                x = cell(x, weights)
        return self.linear(torch.relu(self.last_norm(x)).mean((2, 3)))
