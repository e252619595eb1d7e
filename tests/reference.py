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


def relu_conv_norm(c_in, c_out):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), norm(c_out))


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


def operation(name, c, stride):
    if name == "none":
        return Lambda(lambda x: 0 * x[:, :, ::stride, ::stride])
    if name == "skip_connect":
        return Lambda(lambda x: x) if stride == 1 else Halve(c, c)
    if name == "noise":
        return Noise(stride)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), norm(c))
    if name == "avg_pool_3x3":
        return nn.Sequential(nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), norm(c))
    kind, size = name.split("_conv_")
    kernel = int(size[0])
    if kind == "sep":
        return nn.Sequential(*separable(c, kernel, stride, 1), *separable(c, kernel, 1, 1))
    return nn.Sequential(*separable(c, kernel, stride, 2))


class ReferenceCell(nn.Module):
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
                        total = total + weights[edge, index] * op(states[source])
            states.append(total)
        return torch.cat(states[2:], 1)


class ReferenceSupernet(nn.Module):
    def __init__(self, space, layers, c, classes, image_channels):
        super().__init__()
        self.space = space
        for cell_type in ("normal", "reduce"):
            rows = space.operations[cell_type]
            self.register_parameter(f"alpha_{cell_type}", nn.Parameter(torch.zeros(len(rows), len(rows[0]))))
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

    @classmethod
    def like(cls, supernet, layers, channels, classes, image_channels):
        """The same weights as the real supernet."""
        reference = cls(supernet.space, layers, channels, classes, image_channels).to(supernet.classifier.weight.dtype)
        ours, theirs = list(reference.parameters()), list(supernet.parameters())
        assert [p.shape for p in ours] == [p.shape for p in theirs]
        with torch.no_grad():
            for mine, other in zip(ours, theirs, strict=True):
                mine.copy_(other)
        return reference

    def mixture(self, presence):
        """(edges, operations) per cell type from α and the presence of the real supernet."""
        result = {}
        for cell_type in ("normal", "reduce"):
            weights = torch.softmax(getattr(self, f"alpha_{cell_type}"), 1)
            rows = []
            for edge, (operations, decided) in enumerate(presence[cell_type]):
                there = torch.tensor([float(k in operations) for k in range(weights.shape[1])], dtype=weights.dtype)
                rows.append(there if decided else weights[edge] * there)
            result[cell_type] = torch.stack(rows)
        return result

    def forward(self, x, presence, batch=0):
        for noise in self.noises:
            noise.batch = batch
        mixture = self.mixture(presence)
        s0 = s1 = self.stem_norm(self.stem_conv(x))
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, mixture[cell.cell_type])
        return self.linear(s1.mean((2, 3)))
