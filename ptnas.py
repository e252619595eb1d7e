"""Rethinking Architecture Selection in Differentiable NAS (Wang et al., ICLR 2021), the method.

The paper's argument in the order of this file. A supernet mixes candidate operations on every edge of a cell (Sec. 2,
Eq. 1) and is trained by bilevel optimisation, or with α fixed (Sec. 6.3). α does not say which operation is strong
(Sec. 3.1), and skip connections get a large α for a good reason (Sec. 3.2, Proposition 1). So operations are selected
by perturbation: remove one, see how far the validation accuracy falls (Sec. 4, Algorithms 1 and 2). What is selected
is trained from scratch as a discrete network (Sec. 5).

One idea carries all of it: PRESENCE. On every edge of every cell type some operations are present, and the edge is
undecided or decided. `mask` takes something away for a while, `decide` leaves one operation alone with weight 1,
`prune` leaves nothing. Presence is plain Python on the host, and what is absent is not computed.

Nothing here reads or writes files, prints or draws: that is `runs.py`. Data come in as objects with
`batches(size, epoch)` for shuffled and augmented and `clean(size)` for ordered and unchanged (images, labels).
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from genotypes import OPERATIONS, Arch, DiscreteCell, Genotype, Space, is_convolution

Norm = Callable[[int], nn.Module]
Batch = tuple[Tensor, Tensor]  # images (N, C, H, W) and labels (N,)


class Data(Protocol):
    """A split of a data set. Batches are of nearly equal size, at most `size`, and none holds a single image.

    share: which of how many processes this one is, (0, 1) if there is just one. Of several, each is given a part of
    every batch to train on, and to evaluate whole batches, those number rank, rank + processes, ....
    """

    share: tuple[int, int]

    def __len__(self) -> int:
        """All images, not this process's."""

    def count(self, size: int) -> int:
        """How many batches these are, all, not this process's."""

    def batches(self, size: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Shuffled, augmented batches, from number `start` on; what is drawn depends on the seed of the data, on
        `epoch` and on the process."""

    def clean(self, size: int) -> Iterator[Batch]:
        """Every image once, of several processes in one of them, unchanged, in the same order every time."""


# ==== Several processes that train one network ======================================================================

# Each has the whole network and computes on its own part of the data, norms with the statistics of that part. As what
# they compute is averaged or gathered, and what they draw in common has one seed, their networks stay the same.


def processes() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def average(tensors: Iterable[Tensor | None]) -> None:
    """Over all processes, in place; what is None is so in all of them."""
    there = [each for each in tensors if each is not None]
    if processes() == 1 or not there:
        return
    means = torch.cat([each.flatten() for each in there])
    dist.all_reduce(means)
    means /= processes()
    for each, mean in zip(there, means.split([each.numel() for each in there]), strict=True):
        each.copy_(mean.view_as(each))


def gathered(values: list) -> list:
    """The values of all processes."""
    if processes() == 1:
        return values
    of_all: list[list] = [[] for _ in range(processes())]
    dist.all_gather_object(of_all, values)
    return list(itertools.chain.from_iterable(of_all))


# ==== Operations (Liu et al., 2019; Dong & Yang, 2020; A.1.1 and A.2 of the paper) ===================================

# In a supernet α must be the only scale of an operation, so norms have no affine parameters. Statistics are always
# those of the batch: running ones would belong to a network in which nothing is masked.
supernet_norm: Norm = partial(nn.BatchNorm2d, affine=False, track_running_stats=False)


class Zero(nn.Module):
    """`none`: zeros of the shape that an operation with this stride has."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """`noise` of S4: draws from N(0, 1) whatever the input (A.2).

    What it draws depends on its place in the network and on the batch that was announced by `announce`, never on what
    was drawn before: two passes over a batch differ by what is masked and by nothing else.
    """

    def __init__(self, stride: int):
        super().__init__()
        self.stride, self.place, self.batch = stride, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator(x.device).manual_seed((self.batch << 10) + self.place)
        shape = x[:, :, :: self.stride, :: self.stride].shape
        return channels_last(torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype))

    @staticmethod
    def all_in(network: nn.Module) -> tuple[Noise, ...]:
        """The noise operations of a network, each told its place, that is its cell and edge."""
        found = tuple(module for module in network.modules() if isinstance(module, Noise))
        for place, noise in enumerate(found):
            noise.place = place
        return found

    @staticmethod
    def announce(noises: tuple[Noise, ...], batch: int) -> None:
        for noise in noises:
            noise.batch = batch


class FactorizedReduce(nn.Module):
    """Halve the map with two 1x1 convolutions of every second pixel, one of them shifted by a pixel.

    (N, C_in, H, W) -> (N, C_out, ceil(H / 2), ceil(W / 2)): an odd side is padded by one pixel for the shifted one.
    """

    def __init__(self, c_in: int, c_out: int, norm: Norm):
        super().__init__()
        self.straight = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.shifted = nn.Conv2d(c_in, c_out - c_out // 2, 1, bias=False)
        self.norm = norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.of_halves(self.halves(x))

    @staticmethod
    def halves(x: Tensor) -> tuple[Tensor, Tensor]:
        """What the two convolutions see."""
        height, width = x.shape[2:]
        x = x.permute(0, 2, 3, 1)  # or else its gradient would not lie in memory with the channels last
        straight, shifted = (F.relu(x[:, start::2, start::2]).permute(0, 3, 1, 2) for start in (0, 1))
        return straight, F.pad(shifted, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else shifted

    def of_halves(self, halves: tuple[Tensor, Tensor]) -> Tensor:
        return self.norm(torch.cat([self.straight(halves[0]), self.shifted(halves[1])], dim=1))


def relu_conv_norm(c_in: int, c_out: int, norm: Norm, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, norm: (N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, norm(c_out))


def _depthwise_separable(
    channels: int, kernel: int, stride: int, dilation: int, norm: Norm, inplace: bool = False
) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(inplace),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
    ]


def _sep_conv(kernel: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    first = _depthwise_separable(channels, kernel, stride, 1, norm)
    return nn.Sequential(*first, *_depthwise_separable(channels, kernel, 1, 1, norm, inplace=True))


def _dil_conv(kernel: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    return nn.Sequential(*_depthwise_separable(channels, kernel, stride, 2, norm))


def _conv_7x1_1x7(channels: int, stride: int, norm: Norm) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        norm(channels),
    )


def _skip_connect(channels: int, stride: int, norm: Norm) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, norm)


_BUILDERS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "none": lambda channels, stride, norm: Zero(stride),
    "skip_connect": _skip_connect,
    "noise": lambda channels, stride, norm: Noise(stride),
    "max_pool_3x3": lambda channels, stride, norm: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda channels, stride, norm: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "sep_conv_3x3": partial(_sep_conv, 3),
    "sep_conv_5x5": partial(_sep_conv, 5),
    "sep_conv_7x7": partial(_sep_conv, 7),
    "dil_conv_3x3": partial(_dil_conv, 3),
    "dil_conv_5x5": partial(_dil_conv, 5),
    "conv_7x1_1x7": _conv_7x1_1x7,
    "nor_conv_1x1": lambda channels, stride, norm: relu_conv_norm(channels, channels, norm, 1, stride),
    "nor_conv_3x3": lambda channels, stride, norm: relu_conv_norm(channels, channels, norm, 3, stride),
}
assert set(_BUILDERS) == set(OPERATIONS)


def build_operation(name: str, channels: int, stride: int, norm: Norm) -> nn.Module:
    """An operation (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)) with `norm` after its convolutions.

    Raises KeyError for a name that is not in `genotypes.OPERATIONS`.
    """
    return _BUILDERS[name](channels, stride, norm)


# ==== Sec. 2: the supernet, and what is present in it ===============================================================


class Presence(NamedTuple):
    """What stands on one edge: indices of the operations present, and whether the edge is decided."""

    operations: tuple[int, ...]
    decided: bool = False


class Candidate(NamedTuple):
    """An operation of an edge, or with operation None the edge as a whole."""

    cell_type: str
    edge: int
    operation: int | None


class MixedOp(nn.Module):
    """All candidate operations of an edge, mixed (Eq. 1).

    Pooling, with its norm, has no parameters, the convolutions begin with a ReLU, and what halves the map with a choice
    of pixels: these depend on the node that an edge starts from, not on the edge, and are computed once for all edges
    from there.
    """

    def __init__(self, names: Sequence[str], channels: int, stride: int, norm_pooling: bool, row: int):
        super().__init__()
        self.stride, self.row = stride, row  # the edge's row in α and in the presence
        self.operations = nn.ModuleList(build_operation(name, channels, stride, supernet_norm) for name in names)
        for index, name in enumerate(names):
            if "pool" in name and norm_pooling:
                self.operations[index] = nn.Sequential(self.operations[index], supernet_norm(channels))
        self.names = tuple(names)
        # Not registered again as modules of their own.
        self.parts = tuple(map(_begun_at_the_node, names, self.operations))

    def forward(
        self, x: Tensor, weights: Tensor, presence: Presence, shared: dict[str, Any] | None = None
    ) -> Tensor | None:
        """x: (N, C, H, W); weights: (operations,); shared: what other edges have computed from x, by name. The weighted
        sum of the operations that are present, with weight 1 on a decided edge; None where that is nothing. The weights
        of what remains are not renormalised."""
        total, weights, shared = None, weights.unbind(), {} if shared is None else shared
        for index in presence.operations:
            if self.names[index] == "none":
                continue
            what, begin, rest = self.parts[index]
            if what and what not in shared:
                shared[what] = begin(x)
            term = rest(shared[what] if what else x)
            if presence.decided:
                total = term if total is None else total + term
            else:
                total = weights[index] * term if total is None else total.addcmul_(weights[index], term)
        return total


def _begun_at_the_node(name: str, operation: nn.Module) -> tuple[str | None, Callable | None, Callable]:
    """The beginning of an operation that depends on the node alone, by the name under which it is shared, if it has
    one, and the rest."""
    if "pool" in name:
        return name, operation, nn.Identity()
    if isinstance(operation, FactorizedReduce):
        return "halves", operation.halves, operation.of_halves
    if isinstance(operation, nn.Sequential) and isinstance(operation[0], nn.ReLU):
        return "relu", F.relu, operation[1:]
    return None, None, operation


@dataclass
class Known:
    """What passes through a cell on the same inputs, with other things masked, have in common: its states after
    preprocessing, and what the edges `same` put out. The first pass fills it in."""

    same: Collection[int] = ()
    states: list[Tensor] = field(default_factory=list)
    terms: dict[int, Tensor | None] = field(default_factory=dict)


class SearchCell(nn.Module):
    """A cell of the supernet: every node sums its incoming edges; the output concatenates the nodes `space.concat`."""

    def __init__(self, space: Space, cell_type: str, channels: int, preprocess: Sequence[nn.Module]):
        super().__init__()
        self.cell_type, self.concat, self.c_out = cell_type, space.concat, len(space.concat) * channels
        self.sources = tuple(source for source, _ in space.edges)
        self.incoming = tuple(tuple(space.into(node)) for node in space.nodes)
        self.preprocess = nn.ModuleList(preprocess)
        self.edges = nn.ModuleList(
            MixedOp(names, channels, _stride(cell_type, source), space.family == "darts", row)
            for row, (names, source) in enumerate(zip(space.operations[cell_type], self.sources, strict=True))
        )

    def forward(
        self,
        inputs: Sequence[Tensor],
        weights: dict[str, Tensor],
        presence: dict[str, list[Presence]],
        known: Known | None = None,
    ) -> Tensor:
        """inputs: outputs of earlier cells; weights: per cell type (edges, operations), rows sum to 1."""
        rows, present = weights[self.cell_type], presence[self.cell_type]
        known = Known() if known is None else known
        if not known.states:
            known.states = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        states = list(known.states)
        shared: list[dict[str, Any]] = [{} for _ in range(len(states) + len(self.incoming))]  # by node
        for incoming in self.incoming:
            total = None
            for edge in incoming:
                mixed, source = self.edges[edge], self.sources[edge]
                if edge in known.terms:
                    term = known.terms[edge]
                else:
                    term = mixed(states[source], rows[mixed.row], present[mixed.row], shared[source])
                if edge in known.same:
                    known.terms[edge] = term
                if term is not None:
                    total = term if total is None else total + term
            if total is None:  # nothing at all reaches this node
                stride = self.edges[incoming[0]].stride
                total = torch.zeros_like(states[0][:, :, ::stride, ::stride])
            states.append(total)
        return torch.cat([states[node] for node in self.concat], dim=1)


def _stride(cell_type: str, source: int) -> int:
    """Of an edge from the node `source`: a reduction cell halves its two inputs."""
    return 2 if cell_type == "reduce" and source < 2 else 1


# A skeleton is what cells stand in. It is the same for the supernet and for the discrete network, which differ in the
# cells that `build(cell type, channels, modules that preprocess the inputs)` makes, in their norms, and in `context`:
# what every cell is given beside its inputs.
BuildCell = Callable[[str, int, Sequence[nn.Module]], nn.Module]


@dataclass(frozen=True)
class Computing:
    """How a network is computed, which changes what comes out by rounding only.

    amp: in bfloat16 where that is safe (autocast), the classifier and the loss aside. compile: by `torch.compile`, the
    cells while they are trained. low_memory: the backward pass computes every cell again, so that its feature maps need
    not be kept (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost").
    """

    amp: bool = False
    compile: bool = False
    low_memory: bool = False


class Skeleton(nn.Module):
    """`begin` makes of images the inputs of the first cell, `through` takes the inputs of a cell to those of the next,
    and `end` classifies what came out of the last."""

    computing = Computing()

    def __init__(self):
        super().__init__()
        self.auxiliary: nn.Module | None = None  # a head for training, on the cell `auxiliary_layer`

    def forward(self, x: Tensor, *context: Any) -> tuple[Tensor, Tensor | None]:
        """x: (N, image channels, H, W) -> logits (N, classes), and in training those of the auxiliary head, if any."""
        auxiliary = None
        with self.precision(x.device):
            inputs = self.begin(x)
        for layer in range(len(self.cells)):
            with self.precision(x.device):
                inputs = self.through(layer, inputs, *context)
            if self.training and self.auxiliary is not None and layer == self.auxiliary_layer:
                auxiliary = self.auxiliary(inputs[-1].to(self.classifier.weight.dtype))
        return self.end(inputs), auxiliary

    def precision(self, device: torch.device) -> AbstractContextManager:
        """In which `begin` and `through` are to be called."""
        return torch.autocast(device.type, torch.bfloat16) if self.computing.amp else nullcontext()

    def cell(self, layer: int, inputs: Sequence[Tensor], *context: Any) -> Tensor:
        """What a cell makes of its inputs."""
        cell, computing = self.cells[layer], self.computing
        if not torch.is_grad_enabled():
            return cell(inputs, *context)
        call = _compiled() if computing.compile else nn.Module.__call__
        if not computing.low_memory:
            return call(cell, inputs, *context)
        passes = partial(_two_passes, cell)
        return checkpoint(call, cell, inputs, *context, use_reentrant=False, context_fn=passes)


@cache
def _compiled() -> Callable[..., Tensor]:
    """One function for all cells, so that those that are built alike share their code."""
    Noise.forward = torch.compiler.disable(Noise.forward)  # it draws from a generator of its own
    torch._dynamo.config.recompile_limit = 64  # cells of many shapes, and one more for every decision
    return torch.compile(lambda cell, *args: cell(*args))


def _two_passes(cell: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts for the forward pass of a cell and for its repetition."""
    return nullcontext(), _unmoved_statistics(cell)


@contextmanager
def _unmoved_statistics(cell: nn.Module) -> Iterator[None]:
    """Within the context the norms, in training, leave their running statistics, if any, as they are."""
    norms = [each for each in cell.modules() if isinstance(each, nn.BatchNorm2d) and each.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, each in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = each


class DartsSkeleton(Skeleton):
    """Stem, cells of which those at 1/3 and 2/3 reduce, global pooling, linear classifier (Liu et al., 2019). In CIFAR
    form the stem has stride 1, in ImageNet form 4 and 8 for the two inputs of the first cell."""

    def __init__(
        self, build: BuildCell, norm: Norm, cell_norm: Norm, layers: int, channels: int, classes: int,
        image_channels: int, form: str = "cifar", auxiliary: bool = False,
    ):  # fmt: skip
        super().__init__()
        imagenet = form == "imagenet"
        if imagenet:
            self.stem = nn.Sequential(
                nn.Conv2d(image_channels, channels // 2, 3, stride=2, padding=1, bias=False),
                norm(channels // 2),
                *relu_conv_norm(channels // 2, channels, norm, kernel=3, stride=2),
            )
            self.stem_half = relu_conv_norm(channels, channels, norm, kernel=3, stride=2)
            c_before = c_last = channels
        else:
            c_before = c_last = 3 * channels
            self.stem = nn.Sequential(nn.Conv2d(image_channels, c_last, 3, padding=1, bias=False), norm(c_last))
            self.stem_half = nn.Identity()
        self.cells = nn.ModuleList()
        self.auxiliary_layer = reduction_layers(layers)[1]
        halved_before = imagenet
        for layer in range(layers):
            halves = layer in reduction_layers(layers)
            channels *= 2 if halves else 1
            older = FactorizedReduce if halved_before else relu_conv_norm  # to the map size of the newer input
            preprocess = [older(c_before, channels, cell_norm), relu_conv_norm(c_last, channels, cell_norm)]
            self.cells.append(build("reduce" if halves else "normal", channels, preprocess))
            c_before, c_last, halved_before = c_last, self.cells[-1].c_out, halves
            if auxiliary and layer == self.auxiliary_layer:
                self.auxiliary = AuxiliaryHead(c_last, classes, norm_last=not imagenet)
        self.classifier = nn.Linear(c_last, classes)

    def begin(self, x: Tensor) -> tuple[Tensor, ...]:
        before = channels_last(self.stem(channels_last(x)))
        return before, self.stem_half(before)

    def through(self, layer: int, inputs: tuple[Tensor, ...], *context: Any) -> tuple[Tensor, ...]:
        return inputs[1], self.cell(layer, inputs, *context)

    def end(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self.classifier(pooled(inputs[-1], self.classifier))


def pooled(x: Tensor, classifier: nn.Linear) -> Tensor:
    """(N, C, H, W) -> (N, C), the means of the feature maps in the precision of the classifier. Their gradient has the
    channels last, and so the backward pass goes on with that order."""
    return x.to(classifier.weight.dtype).permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1)


def channels_last(x: Tensor) -> Tensor:
    """The order in memory that is up to twice as fast on a CPU. Images with one channel have no such order, so what the
    stem makes of them gets it too."""
    return x.contiguous(memory_format=torch.channels_last)


def reduction_layers(layers: int) -> tuple[int, int]:
    """The cells that halve the map and double the channels, at 1/3 and 2/3 of the depth."""
    return layers // 3, 2 * layers // 3


class Nb201Skeleton(Skeleton):
    """Stem, three stages of `layers` cells each, residual blocks between them that halve the map and double the
    channels, norm-ReLU, global pooling, linear classifier (Dong & Yang, 2020)."""

    def __init__(
        self, build: BuildCell, norm: Norm, cell_norm: Norm, layers: int, channels: int, classes: int,
        image_channels: int,
    ):  # fmt: skip
        super().__init__()
        widths = [channels, 2 * channels, 4 * channels]
        self.stem = nn.Sequential(nn.Conv2d(image_channels, channels, 3, padding=1, bias=False), norm(channels))
        self.cells = nn.ModuleList(build("cell", width, [nn.Identity()]) for width in widths for _ in range(layers))
        self.residual_blocks = nn.ModuleList(ResidualBlock(width, norm) for width in widths[:2])
        self.head = nn.Sequential(norm(widths[-1]), nn.ReLU())
        self.classifier = nn.Linear(widths[-1], classes)

    def begin(self, x: Tensor) -> tuple[Tensor, ...]:
        return (channels_last(self.stem(channels_last(x))),)

    def through(self, layer: int, inputs: tuple[Tensor, ...], *context: Any) -> tuple[Tensor, ...]:
        per_stage = len(self.cells) // 3
        if layer in (per_stage, 2 * per_stage):
            inputs = (self.residual_blocks[layer // per_stage - 1](*inputs),)
        return (self.cell(layer, inputs, *context),)

    def end(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self.classifier(pooled(self.head(*inputs), self.classifier))


class ResidualBlock(nn.Module):
    """(N, C, H, W) -> (N, 2C, ceil(H / 2), ceil(W / 2)): two ReLU-conv-norm beside a pooled shortcut."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.convolutions = nn.Sequential(
            relu_conv_norm(channels, 2 * channels, norm, kernel=3, stride=2),
            relu_conv_norm(2 * channels, 2 * channels, norm, kernel=3),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.Conv2d(channels, 2 * channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.convolutions(x)


SKELETONS = {"darts": DartsSkeleton, "nb201": Nb201Skeleton}


class Supernet(nn.Module):
    """A skeleton of search cells: `layers` is the number of cells, on NAS-Bench-201 that of each stage.

    `alpha` holds one parameter (edges, operations) per cell type, shared by all its cells; with `fixed_alpha` it is
    zero and not trained (Sec. 6.3). The state dict includes the presence of all edges.
    """

    def __init__(
        self, space: Space, layers: int, channels: int, classes: int, image_channels: int = 3, fixed_alpha: bool = False
    ):
        super().__init__()
        self.space, self.fixed_alpha = space, fixed_alpha
        self.alpha = nn.ParameterDict()
        self.presence: dict[str, list[Presence]] = {}
        for cell_type, rows in space.operations.items():
            start = torch.zeros(len(rows), len(rows[0])) if fixed_alpha else 1e-3 * torch.randn(len(rows), len(rows[0]))
            self.alpha[cell_type] = nn.Parameter(start, requires_grad=not fixed_alpha)
            self.presence[cell_type] = [Presence(tuple(range(len(names)))) for names in rows]
        norm = partial(nn.BatchNorm2d, track_running_stats=False)  # affine outside the cells
        self.skeleton = SKELETONS[space.family](
            partial(SearchCell, space), norm, supernet_norm, layers, channels, classes, image_channels
        )
        self.noises = Noise.all_in(self)

    def weights(self) -> dict[str, Tensor]:
        """softmax(α) per cell type: (edges, operations), rows sum to 1 (Eq. 1)."""
        return {cell_type: F.softmax(alpha, dim=-1) for cell_type, alpha in self.alpha.items()}

    def forward(self, x: Tensor, batch: int = 0, weights: dict[str, Tensor] | None = None) -> Tensor:
        """x: (N, image channels, H, W) with H, W >= 8 -> logits (N, classes). `batch` numbers the batch for `noise`:
        the same number, the same draws. `weights` take the place of softmax(α)."""
        Noise.announce(self.noises, batch)
        return self.skeleton(x, self.weights() if weights is None else weights, self.presence)[0]

    # ---- the three verbs

    @contextmanager
    def mask(self, cell_type: str, edge: int, operation: int | None = None) -> Iterator[None]:
        """Within the context the operation, or with None the whole edge, is absent; the rest is not renormalised."""
        before = self.presence[cell_type][edge]
        remaining = () if operation is None else tuple(index for index in before.operations if index != operation)
        self.presence[cell_type][edge] = before._replace(operations=remaining)
        try:
            yield
        finally:
            self.presence[cell_type][edge] = before

    def decide(self, cell_type: str, edge: int, operation: int) -> None:
        """Discretise the edge to one operation, with weight 1."""
        self.presence[cell_type][edge] = Presence((operation,), decided=True)

    def prune(self, cell_type: str, edge: int) -> None:
        """Take the edge away."""
        self.presence[cell_type][edge] = Presence((), decided=True)

    @torch.no_grad()
    def without(self, candidates: Sequence[Candidate], x: Tensor, batch: int = 0) -> Iterator[Tensor]:
        """The logits (N, classes) with each of the candidates, all of one cell type, masked in its turn: just what
        `forward` returns under `mask`. What they have in common is computed once: the cells before the first of that
        type, and in that one the edges that start before the nodes that a candidate changes."""
        Noise.announce(self.noises, batch)
        skeleton, context = self.skeleton, (self.weights(), self.presence)
        (cell_type,) = {candidate.cell_type for candidate in candidates}
        masked = {candidate.edge for candidate in candidates}
        changed = min(self.space.edges[edge][1] for edge in masked)
        ends = enumerate(self.space.edges)
        known = Known({edge for edge, (source, _) in ends if source < changed and edge not in masked})
        first = [cell.cell_type for cell in skeleton.cells].index(cell_type)
        with skeleton.precision(x.device):
            inputs = skeleton.begin(x)
            for layer in range(first):
                inputs = skeleton.through(layer, inputs, *context)
        for candidate in candidates:
            with self.mask(*candidate), skeleton.precision(x.device):
                rest = skeleton.through(first, inputs, *context, known)
                for layer in range(first + 1, len(skeleton.cells)):
                    rest = skeleton.through(layer, rest, *context)
            yield skeleton.end(rest)

    # ---- what is left

    def undecided(self, cell_type: str) -> list[int]:
        return [edge for edge, presence in enumerate(self.presence[cell_type]) if not presence.decided]

    def decided(self, cell_type: str) -> list[int]:
        """Pruned edges too."""
        return [edge for edge, presence in enumerate(self.presence[cell_type]) if presence.decided]

    def inputs(self, cell_type: str, node: int) -> list[int]:
        """The edges into a node that have something on them."""
        return [edge for edge in self.space.into(node) if self.presence[cell_type][edge].operations]

    def genotype(self) -> Genotype | Arch:
        """The architecture that has been decided. Raises ValueError unless every edge is decided and every node has
        two inputs, or all of them where the space selects no topology."""
        fields: dict[str, Any] = {}
        for cell_type, rows in self.space.operations.items():
            cell = []
            for node in self.space.nodes:
                edges = self.inputs(cell_type, node)
                if self.undecided(cell_type) or len(edges) != self.space.keeps(node):
                    raise ValueError(f"the {cell_type} cell is not decided")
                for edge in edges:
                    (operation,) = self.presence[cell_type][edge].operations
                    cell.append((rows[edge][operation], self.space.edges[edge][0]))
            fields |= {cell_type: tuple(cell), f"{cell_type}_concat": self.space.concat}
        if self.space.family == "nb201":
            return Arch(tuple(operation for operation, _ in fields["cell"]))
        return Genotype(**fields)

    # ---- state

    def weight_parameters(self) -> list[nn.Parameter]:
        """w: every parameter but α."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("alpha.")]

    def alpha_parameters(self) -> list[nn.Parameter]:
        return list(self.alpha.values())

    def get_extra_state(self) -> dict[str, list]:
        return {
            cell_type: [[list(presence.operations), presence.decided] for presence in rows]
            for cell_type, rows in self.presence.items()
        }

    def set_extra_state(self, state: dict[str, list]) -> None:
        for cell_type, rows in self.presence.items():
            read = [Presence(tuple(operations), decided) for operations, decided in state[cell_type]]
            whole = tuple(range(self.alpha[cell_type].shape[1]))
            if len(read) != len(rows) or not all(
                type(decided) is bool
                and {type(each) for each in operations} <= {int}
                and (len(operations) < 2 and set(operations) <= set(whole) if decided else operations == whole)
                for operations, decided in read
            ):
                raise ValueError(f"presence {read} of the {cell_type} cell")
            self.presence[cell_type] = read


# ==== Measuring =====================================================================================================


class Measurement(NamedTuple):
    """accuracy: percent; loss: mean cross-entropy in nats; top5: percent, where asked for."""

    accuracy: float
    loss: float
    top5: float | None = None


def named(name: str, measured: Measurement) -> dict[str, float]:
    """Accuracy and loss as entries of a record."""
    return {f"{name}_accuracy": measured.accuracy, f"{name}_loss": measured.loss}


class Meter:
    """Sums over batches, which stay on the device until they are read back, all at once."""

    def __init__(self):
        self.earlier: list[tuple[float, ...]] = []  # rows that were read back before
        self.first = 0  # the number of the first batch that is added
        self.sums: list[Tensor] = []  # of each batch
        self.counts: list[int] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        logits = logits.detach().float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        ranks = (logits > logits.gather(1, labels[:, None])).sum(dim=1)  # how many classes stand above the right one
        self.sums.append(torch.stack([(ranks < 1).sum(), loss, (ranks < 5).sum()]))
        self.counts.append(len(labels))

    def rows(self) -> list[tuple[float, ...]]:
        """Of every batch, those of all processes, how many were right, the sum of the losses, how many were right among
        five, how many there were, and its number. Raises FloatingPointError, in all processes, if a loss is not
        finite."""
        sums = torch.stack(self.sums).tolist() if self.sums else []
        numbers = itertools.count(self.first)
        new = [(*each, count, number) for each, count, number in zip(sums, self.counts, numbers, strict=False)]
        rows = gathered([*self.earlier, *new])
        lost = [(number, loss / count) for _, loss, _, count, number in rows if not math.isfinite(loss)]
        if lost:
            raise FloatingPointError("the loss became {1} in batch {0}".format(*min(lost)))
        return rows

    def read(self, top5: bool = False) -> Measurement:
        """Of the batches of all processes; the sums are exact, so that it does not matter who added which. Raises
        ValueError if nothing was added, FloatingPointError if a loss is not finite."""
        rows = self.rows()
        if not rows:
            raise ValueError("nothing was measured")
        *columns, count, _ = map(math.fsum, zip(*rows, strict=True))
        correct, loss, among_five = (value / count for value in columns)
        return Measurement(100 * correct, loss, 100 * among_five if top5 else None)


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Data, batch_size: int, top5: bool = False, passes: int = 1, progress: Progress | None = None
) -> Measurement:
    """Accuracy and loss on the clean images, always in the same batches, for `Supernet` and `Network`. Several passes
    average over what `noise` draws."""
    meter, progress = Meter(), progress or Progress()
    for batch, (images, labels) in progress.each(partial(_clean, data, batch_size, passes), meter, even=False):
        meter.add(model(images, batch=batch), labels)
    return meter.read(top5)


def evaluate_without(
    supernet: Supernet,
    candidates: Sequence[Candidate],
    data: Data,
    batch_size: int,
    passes: int = 1,
    progress: Progress | None = None,
) -> list[Measurement]:
    """What `evaluate` says with each of the candidates, all of one cell type, masked in its turn, in one pass over the
    data for all of them."""
    meters, progress = [Meter() for _ in candidates], progress or Progress()
    for batch, (images, labels) in progress.each(partial(_clean, data, batch_size, passes), *meters, even=False):
        for meter, logits in zip(meters, supernet.without(candidates, images, batch), strict=True):
            meter.add(logits, labels)
    return [meter.read() for meter in meters]


def _clean(data: Data, batch_size: int, passes: int, start: int) -> Iterator[tuple[int, Batch]]:
    """The batches of this process with their numbers among those of all, but for the first `start`."""
    (rank, step), count = data.share, data.count(batch_size)
    every = (
        each
        for number in range(passes)
        for each in zip(itertools.count(number * count + rank, step), data.clean(batch_size))
    )
    return itertools.islice(every, start, None)


# ==== Steps, and how a run stops inside of one and goes on ==========================================================


class Stateful:
    """What has a state: of the attributes named in `state` those that have a state of their own give that, the others
    are taken as they are."""

    state: tuple[str, ...]

    def state_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in self.state}
        return {name: part.state_dict() if hasattr(part, "state_dict") else part for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises an error of one of many kinds if the state does not fit."""
        for name in self.state:
            part = getattr(self, name)
            if isinstance(part, torch.optim.Optimizer):
                _load_moments(part, state[name]["state"])
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(state[name])
            elif part is not None and type(state[name]) is not type(part):
                raise ValueError(f"{name} is {state[name]!r}")
            else:
                setattr(self, name, state[name])


def _load_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, Any]]) -> None:
    """Learning rate and the like stay those of the settings. Raises ValueError if the moments do not fit."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    adam = {"step", "exp_avg", "exp_avg_sq"}
    names = adam if isinstance(optimizer, torch.optim.Adam) else {"momentum_buffer"}
    for parameter, each in optimizer.state.items():
        shapes = [value.shape for value in each.values() if value is not None and value.ndim]
        if set(each) != names or any(shape != parameter.shape for shape in shapes):
            raise ValueError("moments of an optimiser for other parameters")


@dataclass
class Part:
    """Of a step: a loop with what it has measured, or a computation with what it has returned."""

    over: bool = False
    turns: int = 0  # of a loop, that are over
    rows: list[list[tuple[float, ...]]] | None = None  # of the meters of a loop, when it was stopped
    meters: Sequence[Meter] = ()
    value: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Of several processes, the rows of all."""
        rows = [meter.rows() for meter in self.meters] or self.rows
        return {"over": self.over, "turns": self.turns, "rows": rows, "value": self.value}


class Progress:
    """How far the step in hand has come, as the parts that it has gone through.

    A step that is begun again with this state passes over what is done: its loops go on after the turns that are over,
    and finished computations return what they returned. So a step may change things only in the turns of its loops and
    at the end of such computations, and what it counts besides only at its own end.

    `pause(saves)` is called wherever the run may stop, and save its state if `saves`: after every turn and every
    computation.
    """

    def __init__(self, pause: Callable[..., None] = lambda saves=True: None):
        self.pause = pause
        self.parts: list[Part] = []
        self.at = 0

    def rewind(self) -> None:
        """The step begins, or begins again."""
        self.at = 0

    def clear(self) -> None:
        """The step is over."""
        self.parts.clear()
        self.at = 0

    def each(self, items: Callable[[int], Iterable], *meters: Meter, even: bool = True) -> Iterator:
        """Go through what `items` gives from a number on, that of the turns that are over, measuring with these
        meters. even: whether every process takes as many turns; of several, those that do not cannot meet to stop."""
        part = self._next()
        for meter, rows in zip(meters, part.rows or (), strict=False):
            meter.earlier, meter.first = rows, part.turns
        part.meters = meters
        if part.over:
            return
        for item in items(part.turns):
            yield item
            part.turns += 1
            if even or processes() == 1:
                self.pause()
        part.over = True

    def part(self, function: Callable[[], Any]) -> Any:
        """What the function returns, in plain containers and numbers."""
        part, inside = self._next(), self.at
        if not part.over:
            part.value = function()
            part.over = True
            del self.parts[inside:]
            self.at = inside
            self.pause()
        return part.value

    def _next(self) -> Part:
        if self.at == len(self.parts):
            self.parts.append(Part())
        self.at += 1
        return self.parts[self.at - 1]

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        self.clear()
        for part in state:
            self.parts.append(Part(part["over"], part["turns"], part["rows"], value=part["value"]))
            if part["rows"] and processes() > 1 and dist.get_rank():  # those of all are with the first
                self.parts[-1].rows = [[] for _ in part["rows"]]


class Steps(Stateful):
    """A task that takes one step after another, and can be stopped inside of one."""

    state: tuple[str, ...] = ("done", "progress")

    def __init__(self, total: int):
        self.done, self.total, self.progress = 0, total, Progress()

    def step(self) -> dict[str, Any]:
        """Returns a record of the step."""
        self.progress.rewind()
        record = self._step()
        self.progress.clear()
        self.done += 1
        return record

    def _step(self) -> dict[str, Any]:
        """The next step, which is number `done`, from 0; what it changes, `Progress` says."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if not 0 <= self.done <= self.total:
            raise ValueError(f"{self.done} of {self.total} steps are done")


# ==== Sec. 2: bilevel optimisation of the supernet; Sec. 6.3: fixed α ===============================================


@dataclass(frozen=True)
class SearchSettings:
    """How a supernet is trained. The defaults are the paper's on the DARTS space and S1-S4 (those of DARTS)."""

    layers: int = 8  # on NAS-Bench-201 the cells of each stage
    channels: int = 16
    epochs: int = 50
    batch_size: int = 64
    eval_batch_size: int = 512  # large, because a supernet is evaluated with the statistics of the batch
    lr: float = 0.025  # cosine to lr_min, one step per epoch
    lr_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    alpha: str = "bilevel"  # or "fixed": α = 0 throughout (Sec. 6.3)
    order: int = 1  # of the α gradient; 2 unrolls one step of w
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3
    noise: str = "none"  # or "gaussian", "uniform": on softmax(α) while w is trained, SDARTS-RS (A.1.2)
    sgas: str = "none"  # or the criterion by which SGAS (A.1.3) chooses operations: "magnitude", "perturbation"
    sgas_metric: str = "accuracy"  # or "loss": what SGAS by perturbation compares
    sgas_batch_growth: int = 8  # by how many images the batches of SGAS grow with every round

    @property
    def passes(self) -> int:
        """Forward and backward passes in one step of α and w."""
        return 1 if self.alpha == "fixed" else 2 if self.order == 1 else 5

    @classmethod
    def of(cls, values: dict[str, Any]) -> SearchSettings:
        """From what else is known of a run, too; what is missing has its default."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def supernet(self, space: Space, classes: int, image_channels: int) -> Supernet:
        """A new one that is to be trained like this."""
        return Supernet(space, self.layers, self.channels, classes, image_channels, self.alpha == "fixed")


class Bilevel(Stateful):
    """The two alternating steps: α on a validation batch, then w on a training batch (Liu et al., 2019)."""

    state = ("supernet", "w_optimizer", "alpha_optimizer", "steps")

    def __init__(self, supernet: Supernet, settings: SearchSettings, lr: float, scale: float = 0.0):
        self.supernet, self.settings = supernet, settings
        self.scale = scale  # of the noise of SDARTS-RS
        self.w, self.alpha = supernet.weight_parameters(), supernet.alpha_parameters()
        self.w_optimizer = torch.optim.SGD(
            self.w, lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.alpha, settings.alpha_lr, betas=(0.5, 0.999), weight_decay=settings.alpha_weight_decay, fused=True
        )
        self.batch_size = settings.batch_size
        self.steps = 0

    @property
    def lr(self) -> float:
        """The learning rate of w."""
        return self.w_optimizer.param_groups[0]["lr"]

    @lr.setter
    def lr(self, lr: float) -> None:
        self.w_optimizer.param_groups[0]["lr"] = lr

    def epoch(self, train: Data, valid: Data, epoch: int, progress: Progress | None = None) -> Measurement:
        """One pass over the training half; returns what was measured on its way."""
        meter, progress = Meter(), progress or Progress()

        def pairs(start: int) -> Iterator[tuple[Batch, Batch | None]]:
            for_alpha = (
                _endless(valid, self.batch_size, epoch, start) if self._alpha_matters() else itertools.repeat(None)
            )
            return zip(train.batches(self.batch_size, epoch, start), for_alpha, strict=False)

        for batch, other in progress.each(pairs, meter):
            if other is not None:
                self.alpha_step(batch, other)
            meter.add(self.w_step(batch), batch[1])
            self.steps += 1
        return meter.read()

    def _alpha_matters(self) -> bool:
        undecided = any(self.supernet.undecided(cell_type) for cell_type in self.supernet.space.cell_types)
        return undecided and not self.supernet.fixed_alpha

    def alpha_step(self, train: Batch, valid: Batch) -> None:
        """One step of Adam on α, of which the rows of decided edges stay as they are."""
        gradient = self.alpha_gradient(train, valid) if self.settings.order == 1 else self.unrolled(train, valid)
        for alpha, each in zip(self.alpha, gradient, strict=True):
            alpha.grad = each.contiguous()
        before = [alpha.detach().clone() for alpha in self.alpha]
        self.alpha_optimizer.step()
        with torch.no_grad():
            for (cell_type, alpha), former in zip(self.supernet.alpha.items(), before, strict=True):
                for edge in self.supernet.decided(cell_type):
                    alpha[edge].copy_(former[edge])

    def w_step(self, train: Batch) -> Tensor:
        """One step of SGD on w, with noise on softmax(α) if the settings say so; returns the logits (N, classes)
        before it. w that is absent stays as it is."""
        noise = self.settings.noise
        weights = None if noise == "none" else distorted(self.supernet.weights(), noise, self.scale)
        logits, loss = self._loss(train, weights)
        gradients = torch.autograd.grad(loss, self.w, allow_unused=True)
        average(gradients)
        for w, gradient in zip(self.w, gradients, strict=True):
            w.grad = None if gradient is None else gradient.contiguous()  # as w lies in memory: fused SGD looks at that
        nn.utils.clip_grad_norm_(self.w, self.settings.clip)
        self.w_optimizer.step()
        return logits

    def alpha_gradient(self, train: Batch, valid: Batch) -> Sequence[Tensor]:
        """First order: the gradient of L_val(w, α) in α; `train` plays no part."""
        return self._gradient(valid, self.alpha)

    def unrolled(self, train: Batch, valid: Batch) -> Sequence[Tensor]:
        """Second order: the gradient in α of L_val(w', α), where w' = w - ξ (momentum · buffer + ∇L_train + decay · w)
        is what the next step of SGD with learning rate ξ would make of w, not clipped (Liu et al., Eq. 6-8)."""
        group = self.w_optimizer.param_groups[0]
        step = []
        for w, gradient in zip(self.w, self._gradient(train, self.w), strict=True):
            buffer = self.w_optimizer.state[w].get("momentum_buffer") if w in self.w_optimizer.state else None
            kept = 0.0 if buffer is None else group["momentum"] * buffer
            step.append(kept + gradient + group["weight_decay"] * w.detach())
        with _moved(self.w, step, -group["lr"]):
            gradients = self._gradient(valid, [*self.alpha, *self.w])
        direct, direction = gradients[: len(self.alpha)], gradients[len(self.alpha) :]
        # The mixed second derivative times `direction`, by central differences.
        reach = 0.01 / torch.linalg.vector_norm(torch.stack([d.norm() for d in direction]))
        with _moved(self.w, direction, reach):
            ahead = self._gradient(train, self.alpha)
        with _moved(self.w, direction, -reach):
            behind = self._gradient(train, self.alpha)
        return [d - group["lr"] * (a - b) / (2 * reach) for d, a, b in zip(direct, ahead, behind, strict=True)]

    def _loss(self, batch: Batch, weights: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        logits = self.supernet(batch[0], batch=self.steps, weights=weights)
        return logits, F.cross_entropy(logits, batch[1])

    def _gradient(self, batch: Batch, parameters: list[nn.Parameter]) -> Sequence[Tensor]:
        loss = self._loss(batch)[1]
        gradient = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        average(gradient)
        return gradient


@contextmanager
def _moved(parameters: Sequence[nn.Parameter], direction: Sequence[Tensor], by: Tensor | float) -> Iterator[None]:
    """Within the context the parameters stand at parameters + by · direction; afterwards exactly where they were."""
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, each in zip(parameters, direction, strict=True):
            parameter.add_(by * each)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, former in zip(parameters, before, strict=True):
                parameter.copy_(former)


@torch.no_grad()
def distorted(weights: dict[str, Tensor], noise: str, scale: float) -> dict[str, Tensor]:
    """SDARTS-RS (A.1.2; Chen & Hsieh, 2020): softmax(α) with noise added, clipped to [0, 1], and every row divided by
    its sum; a row that is left with nothing becomes one-hot where it was largest.

    weights: per cell type (edges, operations), rows sum to 1. The noise is "gaussian" with `scale` as its standard
    deviation, as the paper says, or "uniform" in (-scale, scale), as in SDARTS. Draws from the global generator.
    """
    result = {}
    for cell_type, rows in weights.items():
        draws = torch.randn_like(rows) if noise == "gaussian" else 2 * torch.rand_like(rows) - 1
        noisy = rows + scale * draws
        clipped = noisy.clamp(0, 1)
        sums = clipped.sum(dim=-1, keepdim=True)
        largest = F.one_hot(noisy.argmax(dim=-1), noisy.shape[-1]).to(noisy.dtype)
        result[cell_type] = torch.where(sums > 0, clipped / torch.where(sums > 0, sums, 1.0), largest)
    return result


def noise_scale(epoch: int, epochs: int) -> float:
    """Of SDARTS-RS: grows linearly over the search, and stays at its last value in tuning."""
    return 0.03 + 0.27 * epoch / epochs


def _endless(data: Data, batch_size: int, epoch: int, start: int) -> Iterator[Batch]:
    """The batches of an epoch over and over, from number `start` on."""
    yield from data.batches(batch_size, epoch, start % data.count(batch_size))
    while True:
        yield from data.batches(batch_size, epoch)


def cosine(start: float, end: float, done: int, total: int) -> float:
    """The learning rate after `done` of `total` epochs."""
    return end + (start - end) * (1 + math.cos(math.pi * done / total)) / 2


class Search(Steps):
    """Training of a supernet, one epoch per `step`."""

    state = (*Steps.state, "bilevel")

    def __init__(self, supernet: Supernet, settings: SearchSettings, train: Data, valid: Data):
        super().__init__(settings.epochs)
        self.supernet, self.settings, self.train, self.valid = supernet, settings, train, valid
        self.bilevel = Bilevel(supernet, settings, settings.lr)

    @property
    def lr(self) -> float:
        """The learning rate of w now."""
        return self.bilevel.lr

    def _step(self) -> dict[str, Any]:
        """One epoch. Returns its record: learning rate, accuracies in percent, losses, the gap of Fig. 3, softmax(α)
        as (edges, operations) per cell type."""
        lr = cosine(self.settings.lr, min(self.settings.lr_min, self.settings.lr), self.done, self.total)
        self.bilevel.lr = lr
        self.bilevel.scale = noise_scale(self.done, self.total)
        train = self.bilevel.epoch(self.train, self.valid, self.done, self.progress)
        valid = evaluate(self.supernet, self.valid, self.settings.eval_batch_size, progress=self.progress)
        return {
            "epoch": self.done + 1,
            "lr": lr,
            **named("train", train),
            **named("valid", valid),
            "skip_gap": skip_gap(self.supernet),
            "weights": {cell_type: weights.tolist() for cell_type, weights in self.supernet.weights().items()},
        }


# ==== Sec. 2: the curvature of the validation loss in α (Zela et al., 2020) =========================================


class Eigenvalue(NamedTuple):
    """residual: |Hv - λv| for the unit vector v that was found; some eigenvalue of H is not farther from λ than that.
    products: how many products Hv it took. Where it has not converged the value is only a lower bound."""

    value: float
    residual: float
    products: int
    converged: bool


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Tensor, tolerance: float = 1e-3, iterations: int = 1000
) -> Eigenvalue:
    """The largest eigenvalue of a symmetric matrix H that is known by its products with vectors, v -> Hv.

    Power iteration from the vector `start` finds the eigenvalue of largest magnitude. Where that is negative, or where
    two of opposite sign hinder each other, it starts again with H + sI, s the magnitude that was found: the eigenvalues
    stand in the same order as those of H, and the largest is now the largest in magnitude too. An iteration ends when
    the residual is at most `tolerance` times the value, after more than ten products, as a random vector can be nearly
    an eigenvector of many equal eigenvalues; or after `iterations` products, without having converged. The value never
    exceeds the largest eigenvalue.
    """
    magnitude, products = 0.0, 0
    best = Eigenvalue(-math.inf, math.inf, 0, converged=False)
    for _ in ("H", "H + sI"):
        shift, vector, converged = magnitude, start / torch.linalg.vector_norm(start), False
        for iteration in range(iterations):
            image, products = product(vector), products + 1
            value = torch.dot(vector, image).item()
            residual = torch.linalg.vector_norm(image - value * vector).item()
            magnitude = max(magnitude, torch.linalg.vector_norm(image).item())
            converged = residual <= tolerance * abs(value) and (iteration >= 10 or residual == 0)
            # With H + sI a negative value is no end yet: a small positive one may follow.
            if converged and (value >= 0 or not shift or residual == 0):
                break
            image = image + shift * vector
            vector = image / torch.linalg.vector_norm(image)
        best = max(best, Eigenvalue(value, residual, products, converged))
        if value >= 0 and converged:
            break
    return best._replace(products=products)


def alpha_hessian(supernet: Supernet, batch: Batch) -> tuple[Callable[[Tensor], Tensor], int]:
    """The Hessian of the loss on a batch in α, flattened in the order of the cell types: its product with a vector of
    that size, and the size. The graph of the gradient is built once, so that a product takes one backward pass."""
    alphas = {cell_type: alpha.detach() for cell_type, alpha in supernet.alpha.items()}
    flat = torch.cat([alpha.flatten() for alpha in alphas.values()]).requires_grad_()
    parts = flat.split([alpha.numel() for alpha in alphas.values()])
    weights = {
        cell_type: F.softmax(part.view_as(alpha), dim=-1)
        for (cell_type, alpha), part in zip(alphas.items(), parts, strict=True)
    }
    loss = F.cross_entropy(supernet(batch[0], weights=weights), batch[1])
    (gradient,) = torch.autograd.grad(loss, flat, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        return torch.autograd.grad(gradient, flat, vector, retain_graph=True)[0]

    return product, flat.numel()


# ==== Sec. 3.2: why α prefers skip connections (Table 1, Proposition 1, Fig. 3) =====================================

Pair = tuple[nn.Sequential | nn.ModuleList, int, int]  # two of the modules in a list


@contextmanager
def swapped(pairs: Sequence[Pair]) -> Iterator[None]:
    """Within the context the two modules of every pair stand in each other's place, an edge of a supernet with its row
    of α; afterwards everything is where it was (Table 1)."""
    for modules, one, other in pairs:
        modules[one], modules[other] = modules[other], modules[one]
    try:
        yield
    finally:
        for modules, one, other in reversed(pairs):
            modules[one], modules[other] = modules[other], modules[one]


def pairs_of_edges(supernet: Supernet) -> list[list[Pair]]:
    """For every cell the pairs of edges that fit each other's place, with equal strides, unless both are pruned."""
    found = []
    for cell in supernet.skeleton.cells:
        standing = [bool(presence.operations) for presence in supernet.presence[cell.cell_type]]
        found.append(
            [
                (cell.edges, one, other)
                for one, other in itertools.combinations(range(len(cell.edges)), 2)
                if cell.edges[one].stride == cell.edges[other].stride and (standing[one] or standing[other])
            ]
        )
    return found


@torch.no_grad()
def skip_gap(supernet: Supernet) -> float | None:
    """mean(α_skip - α_conv), softmaxed, of Fig. 3: over the edges that have skip_connect and a convolution, where
    several convolutions count by their mean. None if no edge has both."""
    gaps = []
    for cell_type, weights in supernet.weights().items():
        for names, row in zip(supernet.space.operations[cell_type], weights.tolist(), strict=True):
            convolutions = [weight for name, weight in zip(names, row, strict=True) if is_convolution(name)]
            if convolutions and "skip_connect" in names:
                gaps.append(row[names.index("skip_connect")] - sum(convolutions) / len(convolutions))
    return sum(gaps) / len(gaps) if gaps else None


class Optimum(NamedTuple):
    """What Proposition 1 says of one edge.

    theta_conv, theta_skip: the weights that sum to 1 and minimise Var(θ_conv o_e(x_e) + θ_skip x_e - m*) (Eq. 15-16).
    They can lie outside [0, 1], where no softmax reaches; `reachable` tells.
    alpha_conv, alpha_skip: their logarithms (Eq. 18-19) up to a common constant, chosen so that exp(α_conv) +
    exp(α_skip) = 1. Where the optimum is out of reach the variance, convex in θ, is least at the nearer end of [0, 1]:
    one α is 0 and the other -inf.
    """

    theta_conv: float
    theta_skip: float
    alpha_conv: float
    alpha_skip: float
    reachable: bool


def proposition_1(o: Tensor, x: Tensor, m: Tensor) -> Optimum:
    """The closed form of Proposition 1 (Eq. 15-19) from samples of o_e(x_e), x_e and m*, tensors of one shape and, as
    the proposition assumes, of one scale (`standardize`).

    Z (Eq. 17) is Var(o_e(x_e) - x_e). Where it vanishes, the branches differ by a constant only and all weights that
    sum to 1 are equally good: the answer is then 1/2 and 1/2.
    Raises ValueError unless the shapes agree and there are at least two samples.
    """
    conv, skip = _deviations(o, x, m)
    var_conv, var_skip, cov = (conv * conv).mean(), (skip * skip).mean(), (conv * skip).mean()
    z = (conv - skip).square().mean().item()
    if z <= 1e-12 * (var_conv + var_skip).item():
        return Optimum(0.5, 0.5, math.log(0.5), math.log(0.5), reachable=True)
    theta_conv, theta_skip = ((var_skip - cov) / z).item(), ((var_conv - cov) / z).item()
    within = [min(max(theta, 0.0), 1.0) for theta in (theta_conv, theta_skip)]
    alpha_conv, alpha_skip = (math.log(theta) if theta > 0 else -math.inf for theta in within)
    return Optimum(theta_conv, theta_skip, alpha_conv, alpha_skip, reachable=within == [theta_conv, theta_skip])


def proposition_1_simplified(o: Tensor, x: Tensor, m: Tensor) -> tuple[float, float]:
    """Eq. 3-4 (20-21): (Var(x_e - m*), Var(o_e(x_e) - m*)), to which the paper says that α*_conv and α*_skip are
    proportional. Where the covariance of the two deviations vanishes these are the optimal weights times their sum.
    """
    conv, skip = _deviations(o, x, m)
    return skip.square().mean().item(), conv.square().mean().item()


def _deviations(o: Tensor, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """o_e(x_e) - m* and x_e - m*, centred, in double precision on the CPU."""
    if not o.shape == x.shape == m.shape or o.numel() < 2:
        raise ValueError(f"samples of one shape, two at least, are needed: {o.shape}, {x.shape}, {m.shape}")
    conv, skip = ((branch.cpu().double() - m.cpu().double()).flatten() for branch in (o, x))
    return conv - conv.mean(), skip - skip.mean()


def standardize(samples: Tensor) -> Tensor:
    """Samples brought to mean 0 and variance 1, the one scale that Proposition 1 assumes; constant ones become 0."""
    centred = samples - samples.mean()
    deviation = centred.square().mean().sqrt()
    return centred / deviation if deviation > 0 else centred


def group(outputs: Tensor, weights: Tensor) -> Tensor:
    """Footnote 1: several non-skip operations as a single o_e(x_e), so that Proposition 1 applies to them.

    outputs: (operations, ...); weights: (operations,), their shares in the mixture (Eq. 1), not all zero. The result
    has θ_conv = Σ weights: θ_conv · o_e is what these operations add to the mixture.
    """
    return torch.tensordot(weights / weights.sum(), outputs, dims=1)


class Branches(NamedTuple):
    """Samples of o_e(x_e), x_e and m* of an edge, each (samples,) with mean 0 and variance 1 in every cell; and by what
    the first two were divided for it, (cells,)."""

    o: Tensor
    x: Tensor
    m: Tensor
    scale_o: Tensor
    scale_x: Tensor


def branching(supernet: Supernet) -> list[tuple[str, int]]:
    """The edges that Proposition 1 speaks of, by cell type and index: undecided ones with skip_connect and other
    operations, `none` aside."""
    return [
        (cell_type, edge)
        for cell_type, rows in supernet.space.operations.items()
        for edge in supernet.undecided(cell_type)
        if "skip_connect" in rows[edge] and set(rows[edge]) - {"skip_connect", "none"}
    ]


@torch.no_grad()
def branches(supernet: Supernet, images: Tensor) -> dict[tuple[str, int], Branches]:
    """What Proposition 1 speaks of, on every edge of `branching`, from the feature maps of images (N, image channels,
    H, W). x_e is what skip_connect puts out, o_e all other operations but `none`, grouped. As α is shared, the samples
    come from all cells of the type, every value of a feature map being one.

    Nobody knows the optimal feature map m*. In the unrolled view every edge of a cell estimates it (Sec. 3.2), so their
    mean is a better estimate than any of them, and m* here is the mean of the outputs of the cell's edges, all brought
    to one scale. An edge's output is the plain mean of its operations, so that the α learnt have no say in it, and the
    edges that end in the node x_e or start there are left out: no branch is measured against itself. Still, x_e reaches
    most of the others through skip connections and nodes between, in an untrained supernet too: what training adds
    shows only beside an untrained one.
    """
    seen: dict[MixedOp, Tensor] = {}
    found: dict[tuple[str, int], list[tuple[Tensor, ...]]] = {edge: [] for edge in branching(supernet)}

    def see(edge: MixedOp, args: tuple, _: Tensor | None) -> None:
        seen[edge] = args[0]

    def visit(cell: SearchCell, args: tuple, _: Tensor) -> None:
        rows, present = args[1][cell.cell_type], args[2][cell.cell_type]
        inputs = [seen.pop(edge) for edge in cell.edges]
        outputs = [
            torch.stack([edge.operations[index](x) for index in each.operations]) if each.operations else None
            for edge, each, x in zip(cell.edges, present, inputs, strict=True)
        ]
        estimates = [None if each is None else standardize(each.mean(dim=0)) for each in outputs]
        for edge, names in enumerate(supernet.space.operations[cell.cell_type]):
            if (cell.cell_type, edge) not in found:
                continue
            apart = [
                estimate
                for estimate, ends in zip(estimates, supernet.space.edges, strict=True)
                if estimate is not None and cell.sources[edge] not in ends
            ]
            if apart:
                others = [index for index, name in enumerate(names) if name not in ("skip_connect", "none")]
                o, x = group(outputs[edge][others], rows[edge][others]), outputs[edge][names.index("skip_connect")]
                samples = [standardize(each).flatten().cpu() for each in (o, x, sum(apart))]
                found[cell.cell_type, edge].append((*samples, *(each.std().cpu()[None] for each in (o, x))))

    modules = [(edge, see) for cell in supernet.skeleton.cells for edge in cell.edges]
    hooks = [m.register_forward_hook(hook) for m, hook in [*modules, *((c, visit) for c in supernet.skeleton.cells)]]
    try:
        supernet(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {edge: Branches(*map(torch.cat, zip(*cells, strict=True))) for edge, cells in found.items() if cells}


# ==== Sec. 3.1 and 4.1: criteria, how strong an operation is ========================================================


class Score(NamedTuple):
    """rank: larger is stronger, compared lexicographically; measured: the figures behind it, by name."""

    rank: tuple[float, ...]
    measured: dict[str, float]


class Judge(Protocol):
    """What a criterion needs to know: the supernet and how it does without each of some candidates; for
    `discretization` how another one does after tuning, for `chance` a seed."""

    supernet: Supernet
    metric: str
    seed: int

    def measure_without(self, candidates: Sequence[Candidate]) -> list[Measurement]: ...

    def measure_tuned(self, supernet: Supernet) -> Measurement: ...


def perturbation(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """Sec. 4.1: how the supernet does when the candidate is removed; the worse, the stronger the candidate."""
    return [_score(judge, without, sign=-1) for without in judge.measure_without(candidates)]


def magnitude(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """DARTS: softmax(α) of an operation; of an edge the largest among the operations that may be chosen, decided or
    not (DARTS+PT-Mag, Sec. 6.2)."""
    weights = {cell_type: rows.tolist() for cell_type, rows in judge.supernet.weights().items()}
    scores = []
    for cell_type, edge, operation in candidates:
        eligible = judge.supernet.space.candidates(cell_type, edge) if operation is None else [operation]
        weight = max(weights[cell_type][edge][index] for index in eligible)
        scores.append(Score((weight,), {"weight": weight}))
    return scores


def discretization(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """Sec. 3.1, discretisation accuracy at convergence: on a copy of the supernet discretise the edge to the
    operation, tune, measure. An edge as a whole is pruned on the copy instead, and is strong if that hurts."""
    scores = []
    for cell_type, edge, operation in candidates:
        trial = copy.deepcopy(judge.supernet)
        if operation is None:
            trial.prune(cell_type, edge)
        else:
            trial.decide(cell_type, edge, operation)
        scores.append(_score(judge, judge.measure_tuned(trial), sign=-1 if operation is None else 1))
    return scores


def chance(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """The baseline that any criterion must beat: a random number that depends on the seed and the candidate."""
    draws = [random.Random(f"{judge.seed} {candidate}").random() for candidate in candidates]
    return [Score((draw,), {"draw": draw}) for draw in draws]


CRITERIA: dict[str, Callable[[Judge, Sequence[Candidate]], list[Score]]] = {
    "perturbation": perturbation,
    "magnitude": magnitude,
    "discretization": discretization,
    "random": chance,
}


def _score(judge: Judge, measured: Measurement, sign: int) -> Score:
    """Rank by accuracy or by loss, and by the other where these are equal, as accuracies on few images often are."""
    by = (sign * measured.accuracy, -sign * measured.loss)
    rank = by if judge.metric == "accuracy" else by[::-1]
    return Score(rank, {"accuracy": measured.accuracy, "loss": measured.loss})


# ==== Sec. 4.2: selection (Algorithm 1; with topology Algorithm 2, A.3) =============================================


def decide_edge(judge: Judge, criterion: str, cell_type: str, edge: int) -> dict[str, Any]:
    """Algorithm 1: decide the edge for the strongest of its operations by this criterion; of equals, for the first.
    Returns the decision, with the figures behind it."""
    space = judge.supernet.space
    candidates = [Candidate(cell_type, edge, operation) for operation in space.candidates(cell_type, edge)]
    scores = CRITERIA[criterion](judge, candidates)
    best = candidates[max(range(len(scores)), key=lambda index: scores[index].rank)].operation
    judge.supernet.decide(cell_type, edge, best)
    names = space.operations[cell_type][edge]
    measured = {names[each.operation]: score.measured for each, score in zip(candidates, scores, strict=True)}
    return {"cell": cell_type, "edge": list(space.edges[edge]), "operation": names[best], "scores": measured}


@dataclass(frozen=True)
class SelectionSettings:
    """How an architecture is selected. The defaults are the paper's."""

    criterion: str = "perturbation"  # of CRITERIA
    metric: str = "accuracy"  # or "loss": what `perturbation` and `discretization` compare
    tune_epochs: int = 5  # after every round
    tune: str = "fixed"  # or "converge": no further, once the supernet has converged again
    noise_passes: int = 1  # over the validation images in every measurement, where the space has `noise`
    seed: int = 0  # of the order of edges and nodes


class Selection(Steps):
    """From a trained supernet to a genotype, one round per `step`.

    A round decides a random undecided edge of each cell type, then tunes the supernet. When all edges are decided, a
    round decides a random node of each cell type: of more than two input edges, the two that hurt most when removed
    remain. SGD restarts at a tenth of the search's learning rate and stays there; α is trained on unless it is fixed.
    Tuning takes a fixed number of epochs, as in the paper's experiments, or as many of them as it takes until the
    supernet "converges again" (A.3): until its validation accuracy is that of the supernet before the selection, up to
    its standard error, or an epoch has not made it better.
    """

    state = (*Steps.state, "bilevel", "tuned", "decisions", "accuracy")

    def __init__(
        self, supernet: Supernet, search: SearchSettings, settings: SelectionSettings, train: Data, valid: Data,
        trained: int | None = None,
    ):  # fmt: skip
        """trained: for how many epochs the supernet was, all of the search by default."""
        self.supernet, self.search, self.settings, self.train, self.valid = supernet, search, settings, train, valid
        self.metric, self.seed = settings.metric, settings.seed
        self.scale = noise_scale((trained or search.epochs) - 1, search.epochs)
        self.bilevel = Bilevel(supernet, search, search.lr / 10, self.scale)
        self.rounds = self._rounds()
        super().__init__(len(self.rounds))
        self.tuned = search.epochs  # epochs of training data used so far: tuning continues where the search ended
        self.decisions: list[dict[str, Any]] = []
        self.accuracy: float | None = None  # in percent, of the supernet before the selection, where it matters

    def _rounds(self) -> list[list[Callable[[], dict[str, Any]]]]:
        """What is to be decided, in the order of the rounds."""
        shuffle = random.Random(self.seed).shuffle
        decide_one = partial(decide_edge, self, self.settings.criterion)
        rounds = []
        for index_of, decide in ((self.supernet.undecided, decide_one), (self._crowded, self._decide_node)):
            columns = []
            for cell_type in self.supernet.space.cell_types:
                indices = index_of(cell_type)
                shuffle(indices)
                columns.append([partial(decide, cell_type, index) for index in indices])
            rounds += [[each for each in row if each] for row in itertools.zip_longest(*columns)]
        return rounds

    def _crowded(self, cell_type: str) -> list[int]:
        """Nodes with more inputs than they keep: than two, if the space selects topology."""
        space = self.supernet.space
        return [node for node in space.nodes if len(self.supernet.inputs(cell_type, node)) > space.keeps(node)]

    @property
    def lr(self) -> float:
        """The learning rate of w."""
        return self.bilevel.lr

    def _step(self) -> dict[str, Any]:
        """One round. Returns its record: the decisions with the scores behind them, validation accuracy in percent and
        loss after discretising, and again after tuning (the trajectory of Fig. 6)."""
        converges, goal = self.settings.tune == "converge", self.accuracy
        if converges and goal is None:
            goal = self.measure(self.progress).accuracy
        decisions = [self.progress.part(decide) for decide in self.rounds[self.done]]
        reached = [self.measure(self.progress)]
        epochs = 0
        while epochs < self.settings.tune_epochs and not (converges and self._converged(reached, goal)):
            self.bilevel.epoch(self.train, self.valid, self.tuned + epochs, self.progress)
            epochs += 1
            if converges or epochs == self.settings.tune_epochs:
                reached.append(self.measure(self.progress))
        self.decisions += decisions
        self.tuned += epochs
        self.accuracy = goal
        return {
            "round": self.done + 1,
            "decisions": decisions,
            "tuned_epochs": epochs,
            **named("discretised", reached[0]),
            **named("valid", reached[-1]),
        }

    def _converged(self, reached: Sequence[Measurement], goal: float) -> bool:
        """Whether tuning, which has reached this after the decisions and after every epoch, has converged again."""
        share = goal / 100
        deviation = 100 * math.sqrt(share * (1 - share) / len(self.valid))
        *earlier, now = (each.accuracy for each in reached)
        return now >= goal - deviation or (earlier != [] and now <= earlier[-1])

    def _decide_node(self, cell_type: str, node: int) -> dict[str, Any]:
        """Algorithm 2, topology: the two input edges of a node whose removal hurts most; of equals, the first."""
        edges = self.supernet.inputs(cell_type, node)
        scores = CRITERIA[self.settings.criterion](self, [Candidate(cell_type, edge, None) for edge in edges])
        ranked = sorted(range(len(edges)), key=lambda index: scores[index].rank, reverse=True)
        for index in ranked[2:]:
            self.supernet.prune(cell_type, edges[index])
        sources = [self.supernet.space.edges[edge][0] for edge in edges]
        return {
            "cell": cell_type,
            "node": node,
            "inputs": sorted(sources[index] for index in ranked[:2]),
            "scores": {str(source): score.measured for source, score in zip(sources, scores, strict=True)},
        }

    def measure(self, progress: Progress | None = None, supernet: Supernet | None = None) -> Measurement:
        """How the supernet, or another one, does on the validation images."""
        size = self.search.eval_batch_size
        return evaluate(supernet or self.supernet, self.valid, size, passes=self._passes, progress=progress)

    def measure_without(self, candidates: Sequence[Candidate]) -> list[Measurement]:
        """How it does without each of the candidates."""
        size = self.search.eval_batch_size
        return evaluate_without(self.supernet, candidates, self.valid, size, self._passes, self.progress)

    @property
    def _passes(self) -> int:
        return self.settings.noise_passes if self.supernet.noises else 1

    def measure_tuned(self, supernet: Supernet) -> Measurement:
        """How `supernet`, a copy that may be changed, does after all epochs of tuning. All copies see the same batches
        and noise."""

        def tune_and_measure() -> tuple:
            # A run that stops here begins again with this copy, which is not part of its state.
            progress = Progress(partial(self.progress.pause, saves=False))
            bilevel = Bilevel(supernet, self.search, self.search.lr / 10, self.scale)
            device = next(supernet.parameters()).device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                for epoch in range(self.settings.tune_epochs):
                    bilevel.epoch(self.train, self.valid, self.tuned + epoch, progress)
            return tuple(self.measure(progress, supernet))

        return Measurement(*self.progress.part(tune_and_measure))


# ==== SGAS: decide during the search (Li et al., 2020; A.1.3) =======================================================


class Sgas(Search):
    """A search in which edges are decided one after another, most important first, so that its supernet ends as a
    genotype. `settings.sgas` says by which criterion the operation of an edge is chosen: magnitude, or perturbation.

    A round decides an edge of each cell type; where that gives a node two inputs, its other inputs are pruned. The
    first round is after a fifth of the epochs and the others follow evenly: of 50 epochs on the DARTS space, after the
    10th, 15th, ..., 45th. α trains from the start, as in the release of SGAS: with w alone trained before, as A.1.3 has
    it, the first decision would be random. What is absent takes no memory, so batches grow with every round.
    """

    state = (*Search.state, "decisions")

    def __init__(self, supernet: Supernet, settings: SearchSettings, train: Data, valid: Data):
        super().__init__(supernet, settings, train, valid)
        self.metric = settings.sgas_metric
        rounds = sum(supernet.space.keeps(node) for node in supernet.space.nodes)
        steps = [settings.epochs * (rounds + 4 * number) // (5 * rounds) for number in range(rounds)]
        self.schedule = [max(epochs, 1) for epochs in steps]  # after how many epochs each round is
        self.decisions: list[dict[str, Any]] = []

    def rounds_due(self, done: int) -> int:
        """The rounds that are due after so many epochs."""
        return sum(epochs <= done for epochs in self.schedule)

    def _step(self) -> dict[str, Any]:
        """One epoch and the rounds that are due after it. Returns its record, with the decisions."""
        taken = self.rounds_due(self.done)
        self.bilevel.batch_size = self.settings.batch_size + taken * self.settings.sgas_batch_growth
        record = super()._step()
        decisions = []
        for _ in range(taken, self.rounds_due(self.done + 1)):
            for cell_type in self.supernet.space.cell_types:
                decisions += self.progress.part(partial(self._decide, cell_type))
        self.decisions += decisions
        return record | {"decisions": decisions}

    def _decide(self, cell_type: str) -> list[dict[str, Any]]:
        """Decide the best edge, and the inputs of its node if they are complete."""
        supernet, space = self.supernet, self.supernet.space
        scores = sgas_scores(supernet, cell_type)
        edge = max(supernet.undecided(cell_type), key=lambda index: scores[index].rank)
        decisions = [decide_edge(self, self.settings.sgas, cell_type, edge) | {"sgas": scores[edge].measured}]
        node = space.edges[edge][1]
        kept = [each for each in space.into(node) if each in supernet.decided(cell_type)]
        others = [each for each in space.into(node) if each not in kept]
        if others and len(kept) == space.keeps(node):
            for each in others:
                supernet.prune(cell_type, each)
            measured = {str(space.edges[each][0]): scores[each].measured for each in space.into(node)}
            inputs = [space.edges[each][0] for each in kept]
            decisions.append({"cell": cell_type, "node": node, "inputs": inputs, "scores": measured})
        return decisions

    def measure_without(self, candidates: Sequence[Candidate]) -> list[Measurement]:
        """How the supernet does without each of the candidates on the validation images, in one pass over them."""
        size = self.settings.eval_batch_size
        return evaluate_without(self.supernet, candidates, self.valid, size, progress=self.progress)


@torch.no_grad()
def sgas_scores(supernet: Supernet, cell_type: str) -> list[Score]:
    """Criterion 1 of SGAS for every edge: importance x certainty, each brought to [0, 1] over all edges of the cell.

    Importance is the share of softmax(α) on operations other than `none`; certainty is 1 - the entropy of these
    operations' shares, divided by its greatest possible value. A factor that is the same on all edges is 1.
    """
    importances, certainties = [], []
    rows = F.softmax(supernet.alpha[cell_type].cpu().double(), dim=-1).tolist()
    for names, row in zip(supernet.space.operations[cell_type], rows, strict=True):
        weights = [weight for name, weight in zip(names, row, strict=True) if name != "none"]
        importance = sum(weights)
        entropy = -sum(weight / importance * math.log(weight / importance) for weight in weights if weight > 0)
        importances.append(importance)
        certainties.append(1 - entropy / math.log(len(weights)) if len(weights) > 1 else 1.0)
    products = [a * b for a, b in zip(_min_maxed(importances), _min_maxed(certainties), strict=True)]
    return [
        Score((product,), {"score": product, "importance": importance, "certainty": certainty})
        for product, importance, certainty in zip(products, importances, certainties, strict=True)
    ]


def _min_maxed(values: Sequence[float]) -> list[float]:
    least, most = min(values), max(values)
    if most - least < 1e-9:  # equal but for rounding
        return [1.0] * len(values)
    return [(value - least) / (most - least) for value in values]


# ==== Sec. 5: the discrete network ==================================================================================


class Cell(nn.Module):
    """A cell of the discrete network: every node sums the operations that feed it."""

    def __init__(self, cells: dict[str, DiscreteCell], cell_type: str, channels: int, preprocess: Sequence[nn.Module]):
        super().__init__()
        plan = cells[cell_type]
        self.concat, self.c_out = plan.concat, len(plan.concat) * channels
        self.edges = tuple((source, node) for _, source, node in plan.operations)
        self.preprocess = nn.ModuleList(preprocess)
        self.operations = nn.ModuleList(
            build_operation(name, channels, _stride(cell_type, source), nn.BatchNorm2d)
            for name, source, _ in plan.operations
        )

    def forward(self, inputs: Sequence[Tensor], drop_path: float) -> Tensor:
        """inputs: outputs of earlier cells; drop_path: a probability."""
        states = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        for operation, (source, node) in zip(self.operations, self.edges, strict=True):
            spared = isinstance(operation, nn.Identity)
            term = _drop_path(operation(states[source]), 0.0 if spared else drop_path)
            states[node:] = [states[node] + term if node < len(states) else term]
        return torch.cat([states[node] for node in self.concat], dim=1)


def _drop_path(x: Tensor, probability: float) -> Tensor:
    """Drop the whole path for each image with this probability, and scale up those that remain."""
    if not probability:
        return x
    keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= probability
    return x * keep / (1 - probability)


class AuxiliaryHead(nn.Module):
    """A second classifier on the output of the second reduction cell, for training only.

    DARTS pools windows of 5 with stride 3 on 8x8 maps (CIFAR) and stride 2 on 7x7 maps (ImageNet): in both cases to
    2x2. So it is done on all maps that such windows cover; others are pooled to 2x2 adaptively.
    """

    def __init__(self, channels: int, classes: int, norm_last: bool):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768) if norm_last else nn.Identity(),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> logits (N, classes)."""
        x = F.relu(x)
        if all(6 <= side <= 10 for side in x.shape[2:]):
            x = F.avg_pool2d(x, 5, stride=[side - 5 for side in x.shape[2:]], count_include_pad=False)
        else:
            x = F.adaptive_avg_pool2d(x, 2)
        return self.classifier(self.features(x).flatten(1))


class Network(nn.Module):
    """The discrete network of an architecture; of a genotype in CIFAR or in ImageNet form.

    In evaluation `forward` returns logits (N, classes), in training a pair of these and the auxiliary logits, which
    are None without `auxiliary` and on NAS-Bench-201.
    """

    def __init__(
        self, architecture: Genotype | Arch, layers: int, channels: int, classes: int, image_channels: int = 3,
        form: str = "cifar", auxiliary: bool = False,
    ):  # fmt: skip
        super().__init__()
        build, norm = partial(Cell, architecture.cells), nn.BatchNorm2d
        size = (layers, channels, classes, image_channels)
        if isinstance(architecture, Arch):
            self.skeleton = Nb201Skeleton(build, norm, norm, *size)
        else:
            self.skeleton = DartsSkeleton(build, norm, norm, *size, form, auxiliary)
        self.noises = Noise.all_in(self)

    def forward(self, x: Tensor, batch: int = 0, drop_path: float = 0.0) -> Tensor | tuple[Tensor, Tensor | None]:
        """x: (N, image channels, H, W); `batch` numbers the batch for `noise`; drop_path: a probability."""
        Noise.announce(self.noises, batch)
        logits, auxiliary = self.skeleton(x, drop_path)
        return (logits, auxiliary) if self.training else logits


def count_parameters(network: Network) -> int:
    """Without the auxiliary head, as the paper counts."""
    named = network.named_parameters()
    return sum(parameter.numel() for name, parameter in named if "auxiliary" not in name)


@torch.no_grad()
def count_multiply_adds(network: Network, image_channels: int, image_size: int) -> int:
    """Multiply-adds of convolutions and linear layers for one image."""
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, image_channels, image_size, image_size))
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class RetrainSettings:
    """How a discrete network is trained. The defaults are the paper's on CIFAR-10 (those of DARTS)."""

    form: str = "cifar"  # or "imagenet"
    layers: int = 20
    channels: int = 36
    epochs: int = 600
    batch_size: int = 96
    eval_batch_size: int = 512
    lr: float = 0.025
    decay: str = "cosine"  # to zero; or "exponential": times 0.97 after every epoch
    momentum: float = 0.9
    weight_decay: float = 3e-4
    nesterov: bool = False
    clip: float = 5.0  # or infinite: never
    auxiliary: float = 0.4  # weight of the auxiliary loss
    drop_path: float = 0.2  # reached linearly over the epochs
    cutout: float = 0.5  # side of the square, as a share of the image's: 16 of 32 pixels
    label_smoothing: float = 0.0


class Retraining(Steps):
    """Training of a discrete network from scratch, one epoch per `step`. Drop-path draws from the global generator."""

    state = (*Steps.state, "network", "optimizer", "steps")

    def __init__(self, network: Network, settings: RetrainSettings, train: Data, test: Data):
        super().__init__(settings.epochs)
        self.network, self.settings, self.train, self.test = network, settings, train, test
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
            fused=True,
        )
        self.steps = 0

    @property
    def lr(self) -> float:
        """The learning rate now."""
        return self.optimizer.param_groups[0]["lr"]

    def _step(self) -> dict[str, Any]:
        """One epoch. Returns its record: learning rate, accuracies and test errors in percent, losses."""
        settings = self.settings
        exponential = settings.decay == "exponential"
        lr = settings.lr * 0.97**self.done if exponential else cosine(settings.lr, 0.0, self.done, self.total)
        self.optimizer.param_groups[0]["lr"] = lr
        train = self._epoch(settings.drop_path * self.done / self.total)
        imagenet = settings.form == "imagenet"
        size = settings.eval_batch_size
        test = evaluate(self.network.eval(), self.test, size, top5=imagenet, progress=self.progress)
        record = {
            "epoch": self.done + 1,
            "lr": lr,
            **named("train", train),
            **named("test", test),
            "test_error": 100 - test.accuracy,
        }
        return record | ({"test_error_top5": 100 - test.top5} if imagenet else {})

    def _epoch(self, drop_path: float) -> Measurement:
        settings, meter = self.settings, Meter()
        self.network.train()
        statistics = [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]  # running ones
        for images, labels in self.progress.each(partial(self.train.batches, settings.batch_size, self.done), meter):
            logits, auxiliary = self.network(images, batch=self.steps, drop_path=drop_path)
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
            if auxiliary is not None:
                smoothed = F.cross_entropy(auxiliary, labels, label_smoothing=settings.label_smoothing)
                loss = loss + settings.auxiliary * smoothed
            self.optimizer.zero_grad()
            loss.backward()
            average(itertools.chain((parameter.grad for parameter in self.network.parameters()), statistics))
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
            self.optimizer.step()
            meter.add(logits, labels)
            self.steps += 1
        return meter.read()
