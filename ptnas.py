"""Rethinking Architecture Selection in Differentiable NAS (Wang et al., ICLR 2021): the method, in the paper's order.

    Sec. 2          the supernet: an edge mixes its operations with softmax(α); masks, decisions
    Measuring       the one loop that measures accuracy, under any masks
    Sec. 2, 6.3     the search: bilevel optimisation of w and α (Eq. 1), or of w alone with α fixed at zero
    Sec. 3.1        is α the strength of an operation? Discretization accuracy, and the judge that measures it
    Sec. 3.2        why α prefers skip connections: the gap of Fig. 3, Proposition 1 (Eq. 2-4, A.4)
    Sec. 4.1        perturbation and the other criteria, Algorithm 1
    Sec. 4.2, A.3   the whole selection, Algorithm 2
    A.1.2, A.1.3    SDARTS-RS and SGAS
    Sec. 5          the discrete network and its training

What it stands on follows: skeletons, operations, settings, several processes.

One idea carries it all: PRESENCE. Each edge of each cell type has a set of operations that are present, and is
undecided or decided. Three methods of `Supernet` change it: `mask` removes an operation or an edge for a while,
`decide` leaves one operation with weight 1, `prune` leaves nothing. Presence is plain Python, and what is absent is
not computed.

This file reads and writes no files, prints nothing and draws nothing. The algorithms are generators: `search`,
`search_sgas`, `select` and `retrain` yield a record of plain values after each step. The caller seeds torch's
generators before it asks for the next one.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from genotypes import OPERATIONS, Arch, DiscreteCell, Genotype, Space, is_convolution

Norm = Callable[[int], nn.Module]  # channels -> norm
Batch = tuple[Tensor, Tensor]  # images (N, C, H, W), labels (N,)
Theta = dict[str, Tensor]  # θ = softmax(α) per cell type: (edges, operations), rows sum to 1
Record = dict[str, Any]  # what a step reports, in plain values


class Data(Protocol):
    """One split of a data set, as `data.Images` implements it.

    len: images; count: batches of at most about `size`; batches: shuffled and augmented, the same ones for the same
    epoch; clean: unchanged, always in the same order, each with its number. No batch holds a single image, because
    norms need more. Of several processes each trains on its part of every batch, and evaluates some of the batches.
    """

    def __len__(self) -> int: ...

    def count(self, size: int) -> int: ...

    def batches(self, size: int, epoch: int) -> Iterator[Batch]: ...

    def clean(self, size: int) -> Iterator[tuple[int, Batch]]: ...


# ==== Sec. 2: the supernet ===========================================================================================


class Presence(NamedTuple):
    """The state of one edge: the indices of the operations that are present, and whether the edge is decided. A pruned
    edge is decided and has no operations. An edge without operations adds nothing; a node without inputs is zero."""

    operations: tuple[int, ...]
    decided: bool = False


class Candidate(NamedTuple):
    """An operation on an edge; with operation None, the edge as a whole. Also a mask: what is to be removed."""

    cell_type: str
    edge: int
    operation: int | None


Masks = Sequence[Candidate | None]  # None: nothing is masked


class MixedOp(nn.Module):
    """An edge of the supernet, the mixed output (Sec. 2, the formula before Eq. 1):

    m(x) = Σ_o θ_o · o(x),  θ = softmax(α)
    """

    def __init__(self, names: Sequence[str], channels: int, stride: int, norm_pooling: bool, shared: dict[str, Shared]):
        super().__init__()
        self.names, self.stride, self.operations = tuple(names), stride, nn.ModuleList()
        for name in names:
            operation = build_operation(name, channels, stride, supernet_norm)
            if "pool" in name:  # pooling has no norm of its own; DARTS adds one in the supernet
                operation = nn.Sequential(operation, supernet_norm(channels) if norm_pooling else nn.Identity())
            self.operations.append(share_start(operation, shared))

    def forward(self, x: Tensor, theta: Tensor, presence: Presence) -> Tensor | None:
        """x: (N, C, H, W); theta: (operations,). Absent operations are left out of the sum; the θ of the others stay.
        On a decided edge the operation has weight 1. Returns None if no operation but `none` is present."""
        present = [index for index in presence.operations if self.names[index] != "none"]
        if presence.decided:
            return add(self.operations[index](x) for index in present)
        return add(theta[index] * self.operations[index](x) for index in present)


def add(terms: Iterable[Tensor | None]) -> Tensor | None:
    """Returns the sum of the terms that are not None, or None if there are none."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


class Shared(nn.Module):
    """The start of several operations, computed once: remembers its last input and the result for it.

    Edges from the same node begin alike: the ReLU before a convolution, pooling with its norm, `Halves`. These have no
    parameters, so their result depends on the node only. `forget` must follow each pass over the cell.
    """

    def __init__(self, start: Sequence[nn.Module]):
        super().__init__()
        self.start, self.x, self.y = nn.Sequential(*start), None, None

    def forward(self, x: Tensor) -> Any:
        if self.x is not x:
            self.x, self.y = x, self.start(x)
        return self.y

    def forget(self) -> None:
        self.x = self.y = None


def share_start(operation: nn.Module, shared: dict[str, Shared]) -> nn.Module:
    """Replaces an operation's modules up to the first that has parameters by those of an equal start from the same
    node. `shared` holds the starts from this node by their text: modules without parameters are equal if it is."""
    if not isinstance(operation, nn.Sequential):
        return operation
    start = list(itertools.takewhile(lambda module: not list(module.parameters()), operation))
    first = shared.setdefault(str(start), Shared(start))
    return nn.Sequential(first, *operation[len(start) :])


class SearchCell(nn.Module):
    """A cell of the supernet. A node sums its incoming edges; the cell concatenates the nodes `space.concat`.

    low_memory: the backward pass computes the cell again instead of keeping its feature maps (Chen et al., 2016,
    "Training Deep Nets with Sublinear Memory Cost"). No bit of the result changes.
    """

    def __init__(self, space: Space, low_memory: bool, cell_type: str, channels: int, preprocess: list[nn.Module]):
        super().__init__()
        self.space, self.low_memory, self.cell_type = space, low_memory, cell_type
        self.c_out = len(space.concat) * channels
        self.preprocess, self.edges = nn.ModuleList(preprocess), nn.ModuleList()
        shared: dict[int, dict[str, Shared]] = {}
        for names, (source, _) in zip(space.operations[cell_type], space.edges, strict=True):
            starts = shared.setdefault(source, {})
            stride = get_stride(cell_type, source)
            self.edges.append(MixedOp(names, channels, stride, space.family == "darts", starts))
        self.shared = [module for module in self.modules() if isinstance(module, Shared)]

    def forward(self, inputs: Sequence[Tensor], theta: Theta, presence: dict[str, list[Presence]]) -> Tensor:
        """inputs: outputs of the earlier cells."""
        context = inputs, theta[self.cell_type], presence[self.cell_type]
        if self.low_memory and torch.is_grad_enabled():
            return checkpoint(self.compute, *context, use_reentrant=False, preserve_rng_state=False)
        return self.compute(*context)

    def compute(self, inputs: Sequence[Tensor], theta: Tensor, presence: list[Presence]) -> Tensor:
        """theta: (edges, operations), presence: one per edge, both those of this cell type."""
        states = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        try:
            for node in self.space.nodes:
                edges = [(edge, states[self.space.edges[edge][0]]) for edge in self.space.into(node)]
                total = add(self.edges[edge](x, theta[edge], presence[edge]) for edge, x in edges)
                edge, x = edges[0]
                states.append(Zero(self.edges[edge].stride)(x) if total is None else total)
        finally:  # `checkpoint` ends a recomputation by an exception, once it has the tensors that it needs
            for shared in self.shared:
                shared.forget()
        return torch.cat([states[node] for node in self.space.concat], dim=1)


def get_stride(cell_type: str, source: int) -> int:
    """Returns the stride of an edge from the node `source`: a reduction cell halves its two inputs."""
    return 2 if cell_type == "reduce" and source < 2 else 1


class Supernet(nn.Module):
    """The supernet: a skeleton of search cells that share α by cell type.

    layers: the number of cells, on NAS-Bench-201 that of each stage. alpha: per cell type (edges, operations).
    fixed_alpha: α = 0, not trained (Sec. 6.3). low_memory: see `SearchCell`. The state dict includes the presence.
    """

    def __init__(
        self, space: Space, layers: int, channels: int, classes: int, image_channels: int = 3,
        fixed_alpha: bool = False, low_memory: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.space, self.fixed_alpha = space, fixed_alpha
        self.alpha = nn.ParameterDict()
        self.presence: dict[str, list[Presence]] = {}
        for cell_type, rows in space.operations.items():
            shape = len(rows), len(rows[0])
            start = torch.zeros(shape) if fixed_alpha else 1e-3 * torch.randn(shape)
            self.alpha[cell_type] = nn.Parameter(start, requires_grad=not fixed_alpha)
            self.presence[cell_type] = [Presence(tuple(range(len(names)))) for names in rows]
        build = partial(SearchCell, space, low_memory)
        norm = partial(nn.BatchNorm2d, track_running_stats=False)  # affine outside the cells
        skeleton = DartsSkeleton if space.family == "darts" else Nb201Skeleton
        self.skeleton = skeleton(build, norm, supernet_norm, layers, channels, classes, image_channels)
        self.noise_operations = number_noise_operations(self)

    def theta(self) -> Theta:
        """Returns θ = softmax(α)."""
        return {cell_type: F.softmax(alpha, dim=-1) for cell_type, alpha in self.alpha.items()}

    def forward(self, x: Tensor, number: int = 0, theta: Theta | None = None) -> Tensor:
        """x: (N, image channels, H, W), H and W at least 8 -> logits (N, classes). number: of the batch, for `noise`.
        theta: used in place of softmax(α)."""
        for operation in self.noise_operations:
            operation.number = number
        return self.skeleton(x, self.theta() if theta is None else theta, self.presence)[0]

    # ---- mask, decide, prune

    @contextmanager
    def mask(self, cell_type: str, edge: int, operation: int | None = None) -> Iterator[None]:
        """Removes an operation (Sec. 4.1), or with None the whole edge, inside a `with` block. All else stays: the θ of
        the other operations are not renormalised."""
        before = self.presence[cell_type][edge]
        remaining = () if operation is None else tuple(index for index in before.operations if index != operation)
        self.presence[cell_type][edge] = before._replace(operations=remaining)
        try:
            yield
        finally:
            self.presence[cell_type][edge] = before

    def decide(self, cell_type: str, edge: int, operation: int) -> None:
        """Discretizes an edge: one operation remains, with weight 1."""
        self.presence[cell_type][edge] = Presence((operation,), decided=True)

    def prune(self, cell_type: str, edge: int) -> None:
        """Removes an edge for good."""
        self.presence[cell_type][edge] = Presence((), decided=True)

    # ---- what is left

    def undecided(self, cell_type: str) -> list[int]:
        """Returns the undecided edges."""
        return [edge for edge, presence in enumerate(self.presence[cell_type]) if not presence.decided]

    def decided(self, cell_type: str) -> list[int]:
        """Returns the decided edges, pruned ones too."""
        return [edge for edge, presence in enumerate(self.presence[cell_type]) if presence.decided]

    def inputs(self, cell_type: str, node: int) -> list[int]:
        """Returns the edges into a node that are not pruned or masked."""
        return [edge for edge in self.space.into(node) if self.presence[cell_type][edge].operations]

    def genotype(self) -> Genotype | Arch:
        """Returns the architecture that was decided. Raises ValueError unless every edge is decided and every node has
        as many inputs as the space keeps."""
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
        """Returns w: every parameter but α."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("alpha.")]

    def alpha_parameters(self) -> list[nn.Parameter]:
        return list(self.alpha.values())

    def get_extra_state(self) -> dict[str, list]:
        return {kind: [[list(each.operations), each.decided] for each in rows] for kind, rows in self.presence.items()}

    def set_extra_state(self, state: dict[str, list]) -> None:
        """Raises ValueError unless each edge has all its operations, or is decided with at most one."""
        for cell_type, rows in self.presence.items():
            whole = tuple(range(self.alpha[cell_type].shape[1]))
            read = [Presence(tuple(operations), decided) for operations, decided in state[cell_type]]
            allowed = {Presence(whole), Presence((), True), *(Presence((each,), True) for each in whole)}
            if len(read) != len(rows) or not allowed.issuperset(read):
                raise ValueError(f"the presence of the {cell_type} cell is {read}")
            self.presence[cell_type] = read


# ==== Measuring ======================================================================================================


class Measurement(NamedTuple):
    """accuracy and top5: percent; loss: mean cross-entropy in nats; by_class: for each class, how many of its images
    are right, and how many it has."""

    accuracy: float
    loss: float
    top5: float
    by_class: Sequence[tuple[int, int]] = ()

    def record(self, name: str) -> Record:
        """Returns accuracy and loss as entries of a record."""
        return {f"{name}_accuracy": self.accuracy, f"{name}_loss": self.loss}


class Meter:
    """Adds up batches. Sums stay on the device until `read`, so that training does not wait for them."""

    def __init__(self):
        self.losses: list[Tensor] = []
        self.counts: Tensor | int = 0  # (3, classes): images that are right, or right among five classes, and all

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """logits: (N, classes); labels: (N,)."""
        logits = logits.detach().float()
        self.losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        right = logits.gather(1, labels[:, None])
        earlier = torch.arange(logits.shape[1], device=labels.device) < labels[:, None]
        better = ((logits > right) | (logits == right) & earlier).sum(dim=1)  # classes that `argmax` would take first
        each = torch.stack([better < 1, better < 5, better >= 0])
        self.counts = self.counts + (each[:, :, None] & F.one_hot(labels, logits.shape[1]).bool()).sum(dim=1)

    def read(self) -> Measurement:
        """Returns the measurement over the batches of all processes. The sums are exact, so that it does not matter
        which process added which batch. Raises FloatingPointError if a loss is not finite."""
        losses = gather_lists(torch.stack(self.losses).tolist() if self.losses else [])
        counts = gather_lists([self.counts.tolist()] if self.losses else [])
        loss = math.fsum(losses)
        if not math.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        right, among_five, images = torch.tensor(counts).sum(dim=0).tolist()
        count = sum(images)
        accuracy, top5 = 100 * sum(right) / count, 100 * sum(among_five) / count
        return Measurement(accuracy, loss / count, top5, list(zip(right, images, strict=True)))


@contextmanager
def true_float32() -> Iterator[None]:
    """Computes in true float32: no autocast and no TF32, whatever was asked for. A `with` block, or a decorator."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


@torch.no_grad()
@true_float32()
def evaluate(model: Any, data: Data, batch_size: int, masks: Masks = (None,), passes: int = 1) -> list[Measurement]:
    """Measures a model on the clean images under each of the masks: ACC\\o of Sec. 4.1, or ACC where the mask is None.

    The images are clean: not augmented, always in the same batches. So masks differ by what they mask only. The
    norms of a supernet use the statistics of the batch, as in the release, so `batch_size` should be large. With
    several `passes` the `noise` operation draws anew in each. Several processes share the batches.
    """
    meters, count = [Meter() for _ in masks], data.count(batch_size)
    for number_of_pass in range(passes):
        for number, (images, labels) in data.clean(batch_size):
            for mask, meter in zip(masks, meters, strict=True):
                with model.mask(*mask) if mask else nullcontext():
                    meter.add(model(images, number_of_pass * count + number), labels)
    return [meter.read() for meter in meters]


# ==== Sec. 2: the search, bilevel optimisation; Sec. 6.3: fixed α ====================================================

# In tuning, as in the authors' release: learning rate of w, as a share of the search's, and noise scale of SDARTS-RS
TUNING_RATE, TUNING_NOISE = 0.1, 0.3


class Bilevel:
    """The bilevel objective of DARTS, by alternating gradient steps (Sec. 2; Liu et al., 2019):

    min_α L_val(w*, α)  s.t.  w* = argmin_w L_train(w, α)   (Eq. 1)

    Each step moves α by Adam on a validation batch, then w by SGD on a training batch: w* is approximated by the w at
    hand (first order), or by w after one step of SGD (second order).
    """

    def __init__(self, supernet: Supernet, settings: SearchSettings):
        self.supernet, self.settings = supernet, settings
        # What may change from epoch to epoch: the learning rate of w, the noise scale of SDARTS-RS, the batch size.
        self.lr, self.noise_scale, self.batch_size = settings.lr, 0.0, settings.batch_size
        self.learns_alpha = not supernet.fixed_alpha
        self.epochs, self.number = 0, 0  # epochs and batches of training so far; S4's `noise` draws by the batch
        self.w, self.alpha = supernet.weight_parameters(), supernet.alpha_parameters()
        self.w_optimizer = torch.optim.SGD(self.w, self.lr, settings.momentum, 0, settings.weight_decay, fused=True)
        decay = settings.alpha_weight_decay
        self.alpha_optimizer = torch.optim.Adam(self.alpha, settings.alpha_lr, (0.5, 0.999), 1e-8, decay, fused=True)

    def train_epoch(self, train: Data, valid: Data) -> Measurement:
        """Trains α and w for one pass over the training half. Returns the measurement on the training batches. Each
        goes with a batch of valid; raises ValueError if that has fewer."""
        meter, supernet = Meter(), self.supernet
        self.w_optimizer.param_groups[0]["lr"] = self.lr
        learns_alpha = self.learns_alpha and any(map(supernet.undecided, supernet.space.cell_types))
        if learns_alpha and valid.count(self.batch_size) < train.count(self.batch_size):
            raise ValueError("the validation half has fewer batches than the training half")
        train_batches = train.batches(self.batch_size, self.epochs)
        valid_batches = valid.batches(self.batch_size, self.epochs) if learns_alpha else itertools.repeat(None)
        for train_batch, valid_batch in zip(train_batches, valid_batches, strict=False):
            if learns_alpha:
                self.step_alpha(train_batch, valid_batch)
            meter.add(self.step_w(train_batch), train_batch[1])
            self.number += 1
        self.epochs += 1
        return meter.read()

    def start_tuning(self, alpha: str = "bilevel") -> None:
        """Goes from the search to tuning, before a selection: SGD starts anew, at a constant learning rate; SDARTS-RS
        has a constant noise scale. Adam trains α on, with its moments and its rate, unless `alpha` is "fixed"."""
        self.w_optimizer.state.clear()
        self.learns_alpha = self.learns_alpha and alpha == "bilevel"
        self.lr, self.noise_scale = self.settings.lr * TUNING_RATE, TUNING_NOISE

    def step_alpha(self, train: Batch, valid: Batch) -> None:
        """Takes one step of Adam on α. The rows of decided edges stay as they are."""
        second_order = self.settings.order == 2
        gradient = self.compute_unrolled_gradient(train, valid) if second_order else self.compute_gradient(valid)
        before = [alpha.detach().clone() for alpha in self.alpha]
        for alpha, each in zip(self.alpha, gradient, strict=True):
            alpha.grad = each.contiguous()
        self.alpha_optimizer.step()
        with torch.no_grad():
            for (cell_type, alpha), former in zip(self.supernet.alpha.items(), before, strict=True):
                for edge in self.supernet.decided(cell_type):
                    alpha[edge].copy_(former[edge])

    def step_w(self, train: Batch) -> Tensor:
        """Takes one step of SGD on w, under SDARTS-RS with a distorted θ (A.1.2). Returns the logits before the
        step, (N, classes). Absent operations get no gradient and stay as they are."""
        theta = None
        if self.settings.noise != "none":
            theta = distort(self.supernet.theta(), self.settings.noise, self.noise_scale)
        logits, loss = self._compute_loss(train, theta, self.settings.amp)
        gradients = torch.autograd.grad(loss, self.w, allow_unused=True)
        average(gradients)
        for w, gradient in zip(self.w, gradients, strict=True):
            w.grad = None if gradient is None else gradient.contiguous()  # fused SGD needs the memory layout of w
        nn.utils.clip_grad_norm_(self.w, self.settings.clip)
        self.w_optimizer.step()
        return logits

    def compute_gradient(self, valid: Batch) -> Sequence[Tensor]:
        """Returns the first-order gradient of α: ∇_α L_val(w, α)."""
        return self._differentiate(valid, self.alpha, self.settings.amp)

    @true_float32()
    def compute_unrolled_gradient(self, train: Batch, valid: Batch) -> Sequence[Tensor]:
        """Returns the second-order gradient of α, that of L_val(w', α) (Liu et al., 2019, Eq. 6-8):

        ∇_α L_val(w', α) - ξ · ∇²_{α,w} L_train(w, α) · v,  v = ∇_w' L_val(w', α)
        ∇²_{α,w} L_train · v ≈ (∇_α L_train(w + εv, α) - ∇_α L_train(w - εv, α)) / 2ε,  ε = 0.01 / ||v||

        w' = w - ξ (momentum · buffer + ∇_w L_train(w, α) + decay · w) is the next step of SGD, not clipped; ξ is the
        learning rate of w. SDARTS-RS distorts θ in `step_w` only, not here. The difference of two nearly equal
        gradients needs true float32, also under `amp`: in bfloat16 only rounding is left of it.
        """
        step = []
        for w, gradient in zip(self.w, self._differentiate(train, self.w), strict=True):
            buffer = self.w_optimizer.state[w].get("momentum_buffer") if w in self.w_optimizer.state else None
            kept = 0.0 if buffer is None else self.settings.momentum * buffer
            step.append(kept + gradient + self.settings.weight_decay * w.detach())
        with _move(self.w, step, -self.lr):
            gradients = self._differentiate(valid, [*self.alpha, *self.w])
        direct, v = gradients[: len(self.alpha)], gradients[len(self.alpha) :]
        epsilon = 0.01 / torch.linalg.vector_norm(torch.stack([part.norm() for part in v]))
        with _move(self.w, v, epsilon):
            ahead = self._differentiate(train, self.alpha)
        with _move(self.w, v, -epsilon):
            behind = self._differentiate(train, self.alpha)
        return [d - self.lr * (a - b) / (2 * epsilon) for d, a, b in zip(direct, ahead, behind, strict=True)]

    def _compute_loss(self, batch: Batch, theta: Theta | None = None, amp: bool = False) -> tuple[Tensor, Tensor]:
        with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=amp):
            logits = self.supernet(batch[0], self.number, theta)
            return logits, F.cross_entropy(logits, batch[1])

    def _differentiate(self, batch: Batch, parameters: list[nn.Parameter], amp: bool = False) -> Sequence[Tensor]:
        loss = self._compute_loss(batch, amp=amp)[1]
        gradient = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        average(gradient)
        return gradient

    def state_dict(self) -> dict[str, Any]:
        parts = {"supernet": self.supernet, "w": self.w_optimizer, "alpha": self.alpha_optimizer}
        counts = {"epochs": self.epochs, "number": self.number}
        return {name: part.state_dict() for name, part in parts.items()} | counts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises an error of some kind if the state does not fit."""
        self.supernet.load_state_dict(state["supernet"])
        self.w_optimizer.load_state_dict(state["w"])
        self.alpha_optimizer.load_state_dict(state["alpha"])
        self.epochs, self.number = int(state["epochs"]), int(state["number"])


@contextmanager
def _move(parameters: Sequence[nn.Parameter], direction: Sequence[Tensor], by: Tensor | float) -> Iterator[None]:
    """Moves the parameters by `by` · direction inside a `with` block, and back to the same bits after it."""
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


def anneal(start: float, end: float, done: int, total: int) -> float:
    """Returns the cosine learning rate after `done` of `total` epochs."""
    return end + (start - end) * (1 + math.cos(math.pi * done / total)) / 2


def search(bilevel: Bilevel, train: Data, valid: Data) -> Iterator[Record]:
    """Trains a supernet for the epochs that are left (Eq. 1). Yields the record of each: learning rate, accuracies in
    percent, losses, the gap of Fig. 3, and softmax(α) per cell type, (edges, operations)."""
    supernet, settings = bilevel.supernet, bilevel.settings
    for epoch in range(bilevel.epochs, settings.epochs):
        bilevel.lr = anneal(settings.lr, min(settings.lr_min, settings.lr), epoch, settings.epochs)
        bilevel.noise_scale = grow_noise(epoch, settings.epochs)
        trained = bilevel.train_epoch(train, valid)
        (measured,) = evaluate(supernet, valid, settings.eval_batch_size)
        yield {
            "epoch": epoch + 1,
            "lr": bilevel.lr,
            **trained.record("train"),
            **measured.record("valid"),
            "skip_gap": skip_gap(supernet),
            "weights": {cell_type: weights.tolist() for cell_type, weights in supernet.theta().items()},
        }


# ==== Sec. 3.1: is α the strength of an operation? ===================================================================


class Score(NamedTuple):
    """rank: the larger, the stronger; the first entry counts first. measured: the figures behind it, by name."""

    rank: tuple[float, ...]
    measured: dict[str, float]


class Judge:
    """Holds a supernet and the images that judge it. A criterion may `measure` it, and may `tune` a `copy` of it."""

    def __init__(self, bilevel: Bilevel, settings: SelectionSettings, train: Data, valid: Data):
        """bilevel: the supernet with its optimisers; for a selection call its `start_tuning` first. train, valid: the
        halves of the training images, as its search had them."""
        self.bilevel, self.supernet, self.settings = bilevel, bilevel.supernet, settings
        self.train, self.valid = train, valid

    def measure(self, masks: Masks = (None,)) -> list[Measurement]:
        """Measures the supernet on the validation images under each of the masks."""
        passes = self.settings.passes if self.supernet.noise_operations else 1
        return evaluate(self.supernet, self.valid, self.bilevel.settings.eval_batch_size, masks, passes)

    def tune(self) -> Measurement:
        """Tunes the supernet for `tune_epochs` epochs (Sec. 4.2) and measures it. w trains, and so does the α of
        undecided edges unless it is fixed. The paper says "tune the supernet", and not what of it."""
        for _ in range(self.settings.tune_epochs):
            self.bilevel.train_epoch(self.train, self.valid)
        return self.measure()[0]

    def copy(self) -> Judge:
        """Returns a judge of a copy of the supernet, with copies of its optimisers."""
        return Judge(copy.deepcopy(self.bilevel), self.settings, self.train, self.valid)

    def score(self, measured: Measurement, sign: int) -> Score:
        """Ranks by accuracy or by loss. The other one breaks ties, which are frequent with few images. sign: 1 if a
        good measurement makes a strong candidate, -1 if a bad one does."""
        rank = sign * measured.accuracy, -sign * measured.loss
        measures = {"accuracy": measured.accuracy, "loss": measured.loss}
        return Score(rank if self.settings.metric == "accuracy" else rank[::-1], measures)


# A criterion scores candidates: the operations of an edge, or the edges into a node.


def magnitude(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """Scores by α, as DARTS selects: o* = argmax_o softmax(α)_o. An edge as a whole has the largest θ among the
    operations that may be chosen on it, even if it is decided. The paper does not say how DARTS+PT-Mag (Sec. 6.2) ranks
    edges; this is our reading."""
    weights = {cell_type: rows.tolist() for cell_type, rows in judge.supernet.theta().items()}
    scores = []
    for cell_type, edge, operation in candidates:
        eligible = judge.supernet.space.candidates(cell_type, edge) if operation is None else [operation]
        weight = max(weights[cell_type][edge][index] for index in eligible)
        scores.append(Score((weight,), {"weight": weight}))
    return scores


def discretization(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """Scores by discretization accuracy at convergence, the paper's definition of strength (Sec. 3.1): on a copy of the
    supernet discretize the edge to the operation, tune, measure the accuracy; the higher, the stronger.

    "Until it converges again" is a fixed number of epochs here, `tune_epochs`. All copies see the same batches and
    random draws. To score an edge as a whole, the copy prunes it: the lower its accuracy, the stronger the edge.
    `analyze.py fig1` draws these scores beside α.
    """
    scores, device = [], judge.bilevel.w[0].device
    for cell_type, edge, operation in candidates:
        trial = judge.copy()
        if operation is None:
            trial.supernet.prune(cell_type, edge)
        else:
            trial.supernet.decide(cell_type, edge, operation)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            scores.append(judge.score(trial.tune(), sign=-1 if operation is None else 1))
    return scores


# ==== Sec. 3.2: why α prefers skip connections =======================================================================


@torch.no_grad()
def skip_gap(supernet: Supernet) -> float | None:
    """Returns the gap of Fig. 3: mean(α_skip - α_conv), softmaxed; None if no edge has both kinds of operation.

    The mean is over the edges of all cell types; a decided edge counts with the α that it had. `skip_connect` counts
    even if it halves the map. Every operation with "conv" in its name counts as a convolution. S2 has one per edge, but
    DARTS several, and the paper does not say which α_conv is meant then. Here it is the mean over the edge's
    convolutions, so that the gap is 0 where α prefers nothing.
    """
    gaps = []
    for cell_type, weights in supernet.theta().items():
        for names, row in zip(supernet.space.operations[cell_type], weights.tolist(), strict=True):
            convolutions = [weight for name, weight in zip(names, row, strict=True) if is_convolution(name)]
            if convolutions and "skip_connect" in names:
                gaps.append(row[names.index("skip_connect")] - sum(convolutions) / len(convolutions))
    return sum(gaps) / len(gaps) if gaps else None


class Optimum(NamedTuple):
    """The answer of Proposition 1 for one edge.

    theta_conv, theta_skip: the optimal weights, which sum to 1. They may lie outside [0, 1], where no softmax reaches;
    `reachable` says so. alpha_conv, alpha_skip: the optimal α, with the constant C chosen so that exp(α_conv) +
    exp(α_skip) = 1. If they do, the variance is least at the nearer end of [0, 1]: one α is 0, the other -inf.
    """

    theta_conv: float
    theta_skip: float
    alpha_conv: float
    alpha_skip: float
    reachable: bool


def proposition_1(o: Tensor, x: Tensor, m: Tensor) -> Optimum:
    """Returns the optimal α of an edge that mixes a convolution and a skip connection (Proposition 1, A.4).

    o: samples of o_e(x_e), the output of the convolution; x: of x_e, the input of the edge; m: of m*, the optimal
    feature map that all edges of a cell estimate. Nobody knows m*: you choose a stand-in, and the answer depends on it.
    Three tensors of one shape, say feature maps that a forward hook has recorded; bring them to one scale first, as the
    proposition assumes (`standardize`). Variances are over all entries: images, channels and pixels alike.

        m̄(x) = θ_conv · o(x) + θ_skip · x,  θ = softmax(α)                                         (Eq. 2)
        minimise Var(m̄(x) - m*)  s.t.  θ_conv + θ_skip = 1                                         (Eq. 5-6)
        θ*_conv = (Var(x - m*) - Cov(o - m*, x - m*)) / Z
        θ*_skip = (Var(o - m*) - Cov(o - m*, x - m*)) / Z                                           (Eq. 15-17)
        Z = Var(o - m*) + Var(x - m*) - 2 Cov(o - m*, x - m*) = Var(o - x)                          (below Eq. 17)
        α*_conv = log(Var(x - m*) - Cov(o - m*, x - m*)) + C,  α*_skip = log(Var(o - m*) - ...) + C (Eq. 18-19)

    Where Z is 0, o and x differ by a constant and all weights are equally good: the answer is 1/2 and 1/2.
    Raises ValueError unless the shapes agree and there are at least two samples.
    """
    conv, skip = _center_deviations(o, x, m)
    var_conv, var_skip, cov = (conv * conv).mean(), (skip * skip).mean(), (conv * skip).mean()
    z = (conv - skip).square().mean().item()
    if z <= 1e-12 * (var_conv + var_skip).item():
        return Optimum(0.5, 0.5, math.log(0.5), math.log(0.5), reachable=True)
    theta_conv, theta_skip = ((var_skip - cov) / z).item(), ((var_conv - cov) / z).item()
    within = [min(max(theta, 0.0), 1.0) for theta in (theta_conv, theta_skip)]
    alpha_conv, alpha_skip = (math.log(theta) if theta > 0 else -math.inf for theta in within)
    return Optimum(theta_conv, theta_skip, alpha_conv, alpha_skip, reachable=within == [theta_conv, theta_skip])


def proposition_1_simplified(o: Tensor, x: Tensor, m: Tensor) -> tuple[float, float]:
    """Returns what α*_conv and α*_skip are proportional to in the paper's statement of Proposition 1:

    α*_conv ∝ Var(x - m*)   (Eq. 3, 20),   α*_skip ∝ Var(o - m*)   (Eq. 4, 21)

    So the skip connection gets the larger α exactly when x is closer to m* than o is. Strictly, these are the optimal
    weights θ times one factor, and only where the covariance of the two deviations vanishes. Arguments as above.
    """
    conv, skip = _center_deviations(o, x, m)
    return skip.square().mean().item(), conv.square().mean().item()


def _center_deviations(o: Tensor, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Returns o - m* and x - m*, each minus its mean, in double precision on the CPU."""
    if not o.shape == x.shape == m.shape or o.numel() < 2:
        raise ValueError(f"samples of one shape, two at least, are needed: {o.shape}, {x.shape}, {m.shape}")
    conv, skip = ((branch.cpu().double() - m.cpu().double()).flatten() for branch in (o, x))
    return conv - conv.mean(), skip - skip.mean()


def standardize(samples: Tensor) -> Tensor:
    """Brings samples to mean 0 and variance 1, the one scale that Proposition 1 assumes; constant ones become 0."""
    centred = samples - samples.mean()
    deviation = centred.square().mean().sqrt()
    return centred / deviation if deviation > 0 else centred


def group(outputs: Tensor, weights: Tensor) -> Tensor:
    """Makes several non-skip operations one o_e(x_e), so that Proposition 1 applies (footnote 1):

    o(x) = Σ_o θ_o · o(x) / Σ_o θ_o,  with θ_conv = Σ_o θ_o,  that is α_conv = log Σ_o exp(α_o)

    outputs: (operations, ...); weights: (operations,), not all zero. Returns o(x): (...).
    """
    return torch.tensordot(weights / weights.sum(), outputs, dims=1)


# ==== Sec. 4.1: perturbation, Algorithm 1 ============================================================================


def perturbation(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """Scores by perturbation (Sec. 4.1): mask the candidate, keep all else, measure ACC\\o. The lower, the stronger.

    o* = argmin_o ACC\\o
    """
    return [judge.score(without, sign=-1) for without in judge.measure(candidates)]


def draw_at_random(judge: Judge, candidates: Sequence[Candidate]) -> list[Score]:
    """Scores at random, from the seed and the candidate: the baseline that every criterion must beat."""
    draws = [random.Random(f"{judge.settings.seed} {candidate}").random() for candidate in candidates]
    return [Score((draw,), {"draw": draw}) for draw in draws]


# The settings and `--criterion` take their choices from here.
CRITERIA: dict[str, Callable[[Judge, Sequence[Candidate]], list[Score]]] = {
    "perturbation": perturbation,
    "magnitude": magnitude,
    "discretization": discretization,
    "random": draw_at_random,
}


def decide_edge(judge: Judge, cell_type: str, edge: int) -> Record:
    """Algorithm 1, the loop body: discretizes an edge to the strongest of its operations; of equals, the first.

    forall operations o on edge e: evaluate ACC\\o;  o* ← argmin_o ACC\\o;  discretize edge e to o*

    `plan_rounds` picks the edges, `select` tunes. Another criterion has its score in place of ACC\\o. `none` is no
    candidate on the DARTS space (A.1.1), nor, as we read it, on S3. On NAS-Bench-201 it is one, but masking it changes
    nothing: it is chosen only if no other mask hurts.
    """
    space = judge.supernet.space
    candidates = [Candidate(cell_type, edge, operation) for operation in space.candidates(cell_type, edge)]
    scores = CRITERIA[judge.settings.criterion](judge, candidates)
    best = candidates[max(range(len(scores)), key=lambda index: scores[index].rank)].operation
    judge.supernet.decide(cell_type, edge, best)
    names = space.operations[cell_type][edge]
    measured = {names[each.operation]: score.measured for each, score in zip(candidates, scores, strict=True)}
    return {"cell": cell_type, "edge": list(space.edges[edge]), "operation": names[best], "scores": measured}


# ==== Sec. 4.2, A.3: the whole selection, Algorithm 2 ================================================================


Round = tuple[Callable[[Judge, str, int], Record], list[tuple[str, int]]]  # decide_edge or decide_node, and of what


def select(judge: Judge, rounds: Sequence[Round], done: int = 0) -> Iterator[Record]:
    """Algorithm 2 (A.3): from a trained supernet to an architecture. Yields the record of each round.

    while edges are left:  pick a random edge e;  decide_edge(e);  tune        (operation selection phase, Algorithm 1)
    while nodes are left:  pick a random node n;  decide_node(n);  tune        (topology selection phase)

    rounds: one edge or node of each cell type, picked by `plan_rounds` before any was decided; a selection that goes on
    leaves out the first `done`. A record has the decisions with their scores, and validation accuracy in percent and
    loss after discretizing and after tuning (the trajectory of Fig. 6). The paper tunes "until it converges again"
    (A.3), in its experiments for 5 epochs (Sec. 5.1): `Judge.tune`.
    """
    for number, (decide, choices) in enumerate(rounds[done:], done + 1):
        decisions = [decide(judge, cell_type, choice) for cell_type, choice in choices]
        (discretized,) = judge.measure()
        tuned = judge.tune()
        yield {
            "round": number,
            "decisions": decisions,
            "tuned_epochs": judge.settings.tune_epochs,
            **discretized.record("discretised"),
            **tuned.record("valid"),
        }


def decide_node(judge: Judge, cell_type: str, node: int) -> Record:
    """Algorithm 2, topology: keeps those inputs of a node (two) whose removal hurts most, prunes the others.

    forall input edges e of node n: evaluate ACC\\e;  keep the edges with the lowest and second lowest ACC\\e
    """
    edges, space = judge.supernet.inputs(cell_type, node), judge.supernet.space
    scores = CRITERIA[judge.settings.criterion](judge, [Candidate(cell_type, edge, None) for edge in edges])
    ranked = sorted(range(len(edges)), key=lambda index: scores[index].rank, reverse=True)
    for index in ranked[space.keeps(node) :]:
        judge.supernet.prune(cell_type, edges[index])
    sources = [space.edges[edge][0] for edge in edges]
    measured = {str(source): score.measured for source, score in zip(sources, scores, strict=True)}
    inputs = sorted(sources[index] for index in ranked[: space.keeps(node)])
    return {"cell": cell_type, "node": node, "inputs": inputs, "scores": measured}


def plan_rounds(supernet: Supernet, seed: int) -> list[Round]:
    """Returns the rounds of Algorithm 2: all undecided edges in random order, then in random order the nodes that have
    more inputs than they keep. A round has one of each cell type: (decide_edge, [("normal", 7), ("reduce", 2)]).

    Algorithm 2 takes one edge or node of the supernet at a time. The release takes one of each cell type before it
    tunes, and so do we: the second is measured when the first is decided, but before the supernet is tuned for it.
    Algorithm 2 visits all nodes; nodes that keep all their inputs get no round here, nor in the release.
    """
    space, shuffle = supernet.space, random.Random(seed).shuffle
    rounds: list[Round] = []
    for decide in (decide_edge, decide_node):
        columns = []
        for cell_type in space.cell_types:
            crowded = [node for node in space.nodes if len(supernet.inputs(cell_type, node)) > space.keeps(node)]
            left = supernet.undecided(cell_type) if decide is decide_edge else crowded
            shuffle(left)
            columns.append([(cell_type, choice) for choice in left])
        rounds += [(decide, [choice for choice in row if choice]) for row in itertools.zip_longest(*columns)]
    return rounds


# ==== A.1.2: SDARTS-RS (Chen & Hsieh, 2020) ==========================================================================


@torch.no_grad()
def distort(theta: Theta, noise: str, scale: float) -> Theta:
    """Distorts softmax(α) while w is trained: the regulariser of SDARTS-RS (A.1.2).

    θ' = clip(θ + δ, 0, 1), each row divided by its sum;  δ ~ N(0, scale²) or δ ~ U(-scale, scale)

    scale: the standard deviation of Gaussian noise, half the width of uniform noise. Departures: the paper distorts α,
    here it is θ, as in the releases of SDARTS and of this paper. The paper's noise is Gaussian, both releases draw it
    uniformly; the argument `noise` says which. If clipping leaves only zeros in a row, its largest entry becomes 1.
    Draws from torch's global generator, which several processes must seed alike.
    """
    distorted = {}
    for cell_type, rows in theta.items():
        draws = torch.randn_like(rows) if noise == "gaussian" else 2 * torch.rand_like(rows) - 1
        noisy = rows + scale * draws
        clipped = noisy.clamp(0, 1)
        sums = clipped.sum(dim=-1, keepdim=True)
        largest = F.one_hot(noisy.argmax(dim=-1), noisy.shape[-1]).to(noisy.dtype)
        distorted[cell_type] = torch.where(sums > 0, clipped / torch.where(sums > 0, sums, 1.0), largest)
    return distorted


def grow_noise(epoch: int, epochs: int) -> float:
    """Returns the noise scale of SDARTS-RS, as in its release: 0.03 + 0.27 · epoch / epochs; epoch counts from 0."""
    return 0.03 + 0.27 * epoch / epochs


# ==== A.1.3: SGAS, decisions during the search (Li et al., 2020) =====================================================


def search_sgas(bilevel: Bilevel, train: Data, valid: Data) -> Iterator[Record]:
    """A search that decides edge after edge, the most important first, so that its supernet ends as a genotype (A.1.3).

    A round decides, in each cell type, the edge with the largest score of `score_edges`. The criterion `settings.sgas`
    chooses the operation: magnitude (SGAS) or perturbation (SGAS+PT, the paper's). Once a node has two decided inputs,
    its others are pruned. Absent operations take no memory, so the batch grows with each round, as in SGAS. Yields the
    records of `search`, measured before the decisions, with the decisions.

    The paper says that w trains alone for the first 10 epochs. Here α trains from the start, as in the release of SGAS:
    otherwise the first decision would be random.
    """
    space, settings = bilevel.supernet.space, bilevel.settings
    judge = Judge(bilevel, SelectionSettings(criterion=settings.sgas, metric=settings.sgas_metric), train, valid)
    schedule = schedule_sgas(space, settings.epochs)
    played = sum(epoch <= bilevel.epochs for epoch in schedule)  # rounds, before a search that goes on
    bilevel.batch_size += settings.sgas_batch_growth * played
    for record in search(bilevel, train, valid):
        decisions = []
        for _ in range(schedule.count(record["epoch"])):
            for cell_type in space.cell_types:
                decisions += decide_best_edge(judge, cell_type)
            bilevel.batch_size += settings.sgas_batch_growth
        yield record | {"decisions": decisions}


def schedule_sgas(space: Space, epochs: int) -> list[int]:
    """Returns the epoch after which each round of SGAS takes place: the first after a fifth of all epochs, the others
    at even distances. So they are 10, 15, ..., 45 of 50 on the DARTS space, as in SGAS; other spaces and numbers of
    epochs are our extension."""
    rounds = sum(map(space.keeps, space.nodes))
    return [max(epochs * (rounds + 4 * number) // (5 * rounds), 1) for number in range(rounds)]


def decide_best_edge(judge: Judge, cell_type: str) -> list[Record]:
    """Decides the undecided edge with the best score, and prunes its node's other inputs once two are decided."""
    supernet, space = judge.supernet, judge.supernet.space
    scores = score_edges(supernet, cell_type)
    edge = max(supernet.undecided(cell_type), key=lambda index: scores[index].rank)
    decisions = [decide_edge(judge, cell_type, edge) | {"sgas": scores[edge].measured}]
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


@torch.no_grad()
def score_edges(supernet: Supernet, cell_type: str) -> list[Score]:
    """Scores every edge by criterion 1 of SGAS (Li et al., 2020):

    score = scaled importance · scaled certainty
    importance = Σ_{o ≠ none} θ_o,  certainty = 1 - entropy(θ_o / importance) / log(number of o ≠ none),  θ = softmax(α)

    Both are scaled to [0, 1] over all edges of the cell, decided ones too. A factor that is equal on all edges, as the
    importance in a space without `none`, counts as 1; in SGAS it would count as 0, and so would every score.
    """
    importances, certainties = [], []
    rows = F.softmax(supernet.alpha[cell_type].cpu().double(), dim=-1).tolist()
    for names, row in zip(supernet.space.operations[cell_type], rows, strict=True):
        weights = [weight for name, weight in zip(names, row, strict=True) if name != "none"]
        importance = sum(weights)
        entropy = -sum(weight / importance * math.log(weight / importance) for weight in weights if weight > 0)
        importances.append(importance)
        certainties.append(1 - entropy / math.log(len(weights)) if len(weights) > 1 else 1.0)
    scaled = []
    for values in (importances, certainties):
        least, spread = min(values), max(values) - min(values)
        # Rounding can tell equal values apart.
        scaled.append([(value - least) / spread if spread > 1e-9 else 1.0 for value in values])
    return [
        Score((i * c,), {"score": i * c, "importance": importance, "certainty": certainty})
        for i, c, importance, certainty in zip(*scaled, importances, certainties, strict=True)
    ]


# ==== Sec. 5: the discrete network ===================================================================================


class Cell(nn.Module):
    """A cell of the discrete network. A node sums the operations that feed it."""

    def __init__(self, cells: dict[str, DiscreteCell], cell_type: str, channels: int, preprocess: list[nn.Module]):
        super().__init__()
        cell = cells[cell_type]
        self.concat, self.c_out = cell.concat, len(cell.concat) * channels
        self.edges = [(source, node) for _, source, node in cell.operations]
        self.preprocess = nn.ModuleList(preprocess)
        self.operations = nn.ModuleList(
            build_operation(name, channels, get_stride(cell_type, source), nn.BatchNorm2d)
            for name, source, _ in cell.operations
        )

    def forward(self, inputs: Sequence[Tensor], drop_probability: float) -> Tensor:
        """inputs: outputs of the earlier cells. Identities are never dropped."""
        states = dict(enumerate(module(x) for module, x in zip(self.preprocess, inputs, strict=True)))
        for operation, (source, node) in zip(self.operations, self.edges, strict=True):
            term = operation(states[source])
            if not isinstance(operation, nn.Identity):
                term = drop_path(term, drop_probability)
            states[node] = states[node] + term if node in states else term
        return torch.cat([states[node] for node in self.concat], dim=1)


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Drops the whole map of an image with this probability and scales up those that remain. x: (N, C, H, W)."""
    if not probability:
        return x
    keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= probability
    return x * keep / (1 - probability)


class AuxiliaryHead(nn.Module):
    """A second classifier on the output of the second reduction cell, for training only.

    DARTS pools windows of 5 with stride 3 on 8x8 maps (CIFAR) and with stride 2 on 7x7 maps (ImageNet), in both cases
    to 2x2. Maps of 6 to 10 pixels are pooled alike; all others adaptively to 2x2.
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
    """The discrete network of an architecture. A genotype's network has a CIFAR or an ImageNet form.

    `forward` returns logits (N, classes); in training a pair, these and the auxiliary logits, which are None without
    `auxiliary` and on NAS-Bench-201.
    """

    def __init__(
        self, architecture: Genotype | Arch, layers: int, channels: int, classes: int, image_channels: int = 3,
        form: str = "cifar", auxiliary: bool = False,
    ):  # fmt: skip
        super().__init__()
        build, norm = partial(Cell, architecture.cells), nn.BatchNorm2d
        size = layers, channels, classes, image_channels
        if isinstance(architecture, Arch):
            self.skeleton = Nb201Skeleton(build, norm, norm, *size)
        else:
            self.skeleton = DartsSkeleton(build, norm, norm, *size, form, auxiliary)
        self.noise_operations = number_noise_operations(self)

    def forward(self, x: Tensor, number: int = 0, drop_probability: float = 0.0) -> Any:
        """x: (N, image channels, H, W); number: of the batch, for `noise`."""
        for operation in self.noise_operations:
            operation.number = number
        logits, auxiliary = self.skeleton(x, drop_probability)
        return (logits, auxiliary) if self.training else logits


class Training:
    """Trains a discrete network by SGD."""

    def __init__(self, network: Network, settings: RetrainSettings):
        self.network, self.settings = network, settings
        values = settings.lr, settings.momentum, 0, settings.weight_decay, settings.nesterov
        self.optimizer = torch.optim.SGD(network.parameters(), *values, fused=True)

    def train_epoch(self, train: Data, epoch: int, drop_probability: float) -> Measurement:
        """Trains for one pass over the training images. Returns the measurement on the training batches."""
        settings, meter, network = self.settings, Meter(), self.network.train()
        statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]  # running ones, of norms
        cross_entropy = partial(F.cross_entropy, label_smoothing=settings.label_smoothing)
        first = epoch * train.count(settings.batch_size)
        for number, (images, labels) in enumerate(train.batches(settings.batch_size, epoch), first):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.amp):
                logits, auxiliary = network(images, number, drop_probability)
                loss = cross_entropy(logits, labels)
                if auxiliary is not None:
                    loss += settings.auxiliary * cross_entropy(auxiliary, labels)
            self.optimizer.zero_grad()
            loss.backward()
            average([*(parameter.grad for parameter in network.parameters()), *statistics])
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            self.optimizer.step()
            meter.add(logits, labels)
        return meter.read()

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises an error of some kind if the state does not fit."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def retrain(training: Training, train: Data, test: Data, done: int = 0) -> Iterator[Record]:
    """Trains a discrete network for the epochs that are left after `done`. Yields the record of each: learning rate,
    accuracies and test error in percent, losses; in ImageNet form also the top-5 error; after the last epoch also
    accuracy and number of test images of each class."""
    settings = training.settings
    for epoch in range(done, settings.epochs):
        lr = anneal(settings.lr, 0.0, epoch, settings.epochs)
        if settings.decay == "exponential":
            lr = settings.lr * 0.97**epoch
        training.optimizer.param_groups[0]["lr"] = lr
        trained = training.train_epoch(train, epoch, settings.drop_path * epoch / settings.epochs)
        (tested,) = evaluate(training.network.eval(), test, settings.eval_batch_size)
        record = {"epoch": epoch + 1, "lr": lr, **trained.record("train"), **tested.record("test")}
        record["test_error"] = 100 - tested.accuracy
        if settings.form == "imagenet":
            record["test_error_top5"] = 100 - tested.top5
        if epoch + 1 == settings.epochs:
            record["class_accuracy"] = [100 * right / images if images else None for right, images in tested.by_class]
            record["class_images"] = [images for _, images in tested.by_class]
        yield record


# ==== Skeletons: where the cells stand ===============================================================================

# The cells stand in a skeleton, the same for the supernet and for the discrete network. The two differ in their norms,
# in the cells that `build(cell type, channels, preprocessing modules)` makes, and in `context`, what each cell is given
# beside its inputs.
BuildCell = Callable[[str, int, list[nn.Module]], nn.Module]


class DartsSkeleton(nn.Module):
    """Stem, cells, global pooling, linear classifier (Liu et al., 2019). The cells at 1/3 and 2/3 of the depth are
    reduction cells. In CIFAR form the stem keeps the size of the map; in ImageNet form the first cell gets 1/4 and 1/8.
    """

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
            self.second_stem = relu_conv_norm(channels, channels, norm, kernel=3, stride=2)
            c_before = c_last = channels
        else:
            c_before = c_last = 3 * channels
            self.stem = nn.Sequential(nn.Conv2d(image_channels, c_last, 3, padding=1, bias=False), norm(c_last))
            self.second_stem = nn.Identity()
        self.cells, self.auxiliary, self.auxiliary_layer = nn.ModuleList(), None, 2 * layers // 3
        halved_before = imagenet
        for layer in range(layers):
            reduces = layer in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduces else 1
            older = factorized_reduce if halved_before else relu_conv_norm  # to the map size of the newer input
            preprocess = [older(c_before, channels, cell_norm), relu_conv_norm(c_last, channels, cell_norm)]
            self.cells.append(build("reduce" if reduces else "normal", channels, preprocess))
            c_before, c_last, halved_before = c_last, self.cells[-1].c_out, reduces
            if auxiliary and layer == self.auxiliary_layer:
                self.auxiliary = AuxiliaryHead(c_last, classes, norm_last=not imagenet)
        self.classifier = nn.Linear(c_last, classes)

    def forward(self, x: Tensor, *context: Any) -> tuple[Tensor, Tensor | None]:
        """x: (N, image channels, H, W) -> logits (N, classes), and in training those of the auxiliary head, if any."""
        before = to_channels_last(self.stem(to_channels_last(x)))
        last, auxiliary = self.second_stem(before), None
        for layer, cell in enumerate(self.cells):
            before, last = last, cell((before, last), *context)
            if self.training and self.auxiliary is not None and layer == self.auxiliary_layer:
                auxiliary = self.auxiliary(last)
        return self.classifier(pool(last)), auxiliary


def to_channels_last(x: Tensor) -> Tensor:
    """Stores x with the channels last, which is up to twice as fast on a CPU. The values stay."""
    return x.contiguous(memory_format=torch.channels_last)


def pool(x: Tensor) -> Tensor:
    """Returns the means of the feature maps: (N, C, H, W) -> (N, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1)  # so written, the gradient has the channels last too


class Nb201Skeleton(nn.Module):
    """Stem, three stages of `layers` cells, norm, ReLU, global pooling, linear classifier (Dong & Yang, 2020). Between
    stages a residual block halves the map and doubles the channels."""

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

    def forward(self, x: Tensor, *context: Any) -> tuple[Tensor, None]:
        """x: (N, image channels, H, W) -> logits (N, classes), None."""
        x, per_stage = to_channels_last(self.stem(to_channels_last(x))), len(self.cells) // 3
        for layer, cell in enumerate(self.cells):
            if layer in (per_stage, 2 * per_stage):
                x = self.residual_blocks[layer // per_stage - 1](x)
            x = cell((x,), *context)
        return self.classifier(pool(self.head(x))), None


class ResidualBlock(nn.Module):
    """Two convolutions beside a pooled shortcut: (N, C, H, W) -> (N, 2C, ceil(H / 2), ceil(W / 2))."""

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


# ==== Operations (Liu et al., 2019; Dong & Yang, 2020; A.1.1, A.2) ===================================================

# In a supernet α must be an operation's only scale, so its norms have no affine parameters. They always use the
# statistics of the batch: running ones would describe a network in which nothing is masked.
supernet_norm: Norm = partial(nn.BatchNorm2d, affine=False, track_running_stats=False)


class Zero(nn.Module):
    """`none`: zeros, (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """`noise` of S4: draws from N(0, 1), whatever the input (A.2). Shapes as for `Zero`.

    The draws depend on the number of the batch and on the place in the network only. So two passes over a batch differ
    by what is masked and by nothing else.
    """

    def __init__(self, stride: int):
        super().__init__()
        self.stride, self.place, self.number = stride, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        pixels = x[:, :, :: self.stride, :: self.stride]
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # an exported network has no generator of its own
            return torch.randn_like(pixels)
        generator = torch.Generator(x.device).manual_seed((self.number << 10) + self.place)
        return to_channels_last(torch.randn(pixels.shape, generator=generator, device=x.device, dtype=x.dtype))


def number_noise_operations(network: nn.Module) -> tuple[Noise, ...]:
    """Returns the noise operations of a network and gives each its place. Raises SettingError if they are too many for
    seeds of their own."""
    operations = tuple(module for module in network.modules() if isinstance(module, Noise))
    if len(operations) > 1 << 10:
        raise SettingError(f"the cells have {len(operations)} `noise` operations, and 1,024 is the most: fewer layers")
    for place, operation in enumerate(operations):
        operation.place = place
    return operations


class Halves(nn.Module):
    """ReLU, then every second pixel, once straight and once shifted by one: twice (N, C, ceil(H / 2), ceil(W / 2))."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        x = x.permute(0, 2, 3, 1)  # slices of this view have gradients with the channels last, which is faster
        straight, shifted = (F.relu(x[:, start::2, start::2]).permute(0, 3, 1, 2) for start in (0, 1))
        if height % 2 or width % 2:
            shifted = F.pad(shifted, (0, width % 2, 0, height % 2))
        return straight, shifted


class ConvolveHalves(nn.Module):
    """A 1x1 convolution of each half, side by side: (N, C_out, H, W)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.straight = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.shifted = nn.Conv2d(c_in, c_out - c_out // 2, 1, bias=False)

    def forward(self, halves: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat([self.straight(halves[0]), self.shifted(halves[1])], dim=1)


def factorized_reduce(c_in: int, c_out: int, norm: Norm) -> nn.Sequential:
    """Halves the map: (N, C_in, H, W) -> (N, C_out, ceil(H / 2), ceil(W / 2))."""
    return nn.Sequential(Halves(), ConvolveHalves(c_in, c_out), norm(c_out))


def relu_conv_norm(c_in: int, c_out: int, norm: Norm, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, norm: (N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, norm(c_out))


def _separable(channels: int, kernel: int, stride: int, dilation: int, norm: Norm) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
    ]


def _sep_conv(kernel: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    first, second = (_separable(channels, kernel, each, 1, norm) for each in (stride, 1))
    second[0] = nn.ReLU(inplace=True)
    return nn.Sequential(*first, *second)


def _dil_conv(kernel: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    return nn.Sequential(*_separable(channels, kernel, stride, 2, norm))


def _conv_7x1_1x7(channels: int, stride: int, norm: Norm) -> nn.Module:
    first = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
    second = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
    return nn.Sequential(nn.ReLU(), first, second, norm(channels))


_BUILDERS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "none": lambda c, stride, norm: Zero(stride),
    "skip_connect": lambda c, stride, norm: nn.Identity() if stride == 1 else factorized_reduce(c, c, norm),
    "noise": lambda c, stride, norm: Noise(stride),
    "max_pool_3x3": lambda c, stride, norm: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda c, stride, norm: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "sep_conv_3x3": partial(_sep_conv, 3),
    "sep_conv_5x5": partial(_sep_conv, 5),
    "sep_conv_7x7": partial(_sep_conv, 7),
    "dil_conv_3x3": partial(_dil_conv, 3),
    "dil_conv_5x5": partial(_dil_conv, 5),
    "conv_7x1_1x7": _conv_7x1_1x7,
    "nor_conv_1x1": lambda c, stride, norm: relu_conv_norm(c, c, norm, 1, stride),
    "nor_conv_3x3": lambda c, stride, norm: relu_conv_norm(c, c, norm, 3, stride),
}
assert set(_BUILDERS) == set(OPERATIONS)


def build_operation(name: str, channels: int, stride: int, norm: Norm) -> nn.Module:
    """Builds an operation (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)); `norm` follows its convolutions.

    Raises KeyError for a name that is not in `genotypes.OPERATIONS`.
    """
    return _BUILDERS[name](channels, stride, norm)


# ==== Settings =======================================================================================================


class SettingError(ValueError):
    """A setting has a value that it must not have."""


class Settings:
    """Base of the settings below, which are frozen data classes. A field's annotation says what it may hold: one of
    the choices of a Literal, or a number between the two bounds of an Annotated."""

    def __post_init__(self):
        """Raises SettingError, naming the setting, unless every value is allowed."""
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal:
                good = any(type(value) is type(choice) and value == choice for choice in get_args(hint))
                wanted = " or ".join(map(str, get_args(hint)))
            elif get_origin(hint) is Annotated:
                kinds, least, most = get_args(hint)
                kinds = get_args(kinds) or (kinds,)
                good = type(value) in (int, *kinds) and (value is None or least <= value <= most)
                wanted = f"a {'whole number' if int in kinds else 'number'} from {least} to {most}"
            else:
                good, wanted = isinstance(value, hint), f"of type {hint}"
            if not good:
                raise SettingError(f"{name} is {str(value)[:80]!r}, and must be {wanted}")

    @classmethod
    def of(cls, values: dict[str, Any]):
        """Returns settings from those of the values that are theirs; others have their defaults."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})


Number = Annotated[int, 1, 10**6]
Factor = Annotated[float, 0.0, 1e6]


@dataclass(frozen=True)
class SearchSettings(Settings):
    """How a supernet is trained. The defaults are the paper's on the DARTS space and S1-S4 (those of DARTS)."""

    layers: Annotated[int, 1, 1000] = 8  # cells; on NAS-Bench-201 cells of each stage
    channels: Annotated[int, 1, 4096] = 16
    epochs: Annotated[int, 0, 10**6] = 50  # 0: an untrained supernet
    batch_size: Annotated[int, 2, 10**6] = 64
    eval_batch_size: Annotated[int, 2, 10**6] = 512  # large: a supernet is evaluated with the statistics of the batch
    lr: Factor = 0.025  # of w, cosine to lr_min, one step per epoch
    lr_min: Factor = 0.001
    momentum: Factor = 0.9
    weight_decay: Factor = 3e-4
    clip: Annotated[float, 0.0, math.inf] = 5.0
    alpha: Literal["bilevel", "fixed"] = "bilevel"  # fixed: α = 0 throughout (Sec. 6.3)
    order: Literal[1, 2] = 1  # of the gradient in α; 2 unrolls one step of w. The paper names neither.
    alpha_lr: Factor = 3e-4
    alpha_weight_decay: Factor = 1e-3
    noise: Literal["none", "gaussian", "uniform"] = "none"  # SDARTS-RS (A.1.2); uniform is what the releases do
    sgas: Literal["none", "magnitude", "perturbation"] = "none"  # how SGAS (A.1.3) chooses operations
    sgas_metric: Literal["accuracy", "loss"] = "accuracy"  # what SGAS by perturbation compares
    sgas_batch_growth: Annotated[int, 0, 10**6] = 8  # images by which the batches of SGAS grow with each round
    amp: bool = False  # bfloat16 by autocast and TF32 in training; `evaluate` and the unrolled step stay float32

    def build_supernet(self, space: Space, classes: int, image_channels: int, low_memory: bool = False) -> Supernet:
        fixed = self.alpha == "fixed"
        return Supernet(space, self.layers, self.channels, classes, image_channels, fixed, low_memory)


@dataclass(frozen=True)
class SelectionSettings(Settings):
    """How an architecture is selected. The defaults are the paper's."""

    criterion: Literal[tuple(CRITERIA)] = "perturbation"
    metric: Literal["accuracy", "loss"] = "accuracy"  # what perturbation and discretization compare
    tune_epochs: Annotated[int, 0, 10**6] = 5  # after each round
    alpha: Literal["bilevel", "fixed"] = "bilevel"  # fixed: α stays as the search left it. The paper says neither.
    passes: Annotated[int, 1, 1000] = 1  # passes over the validation images in a measurement, if there is S4's `noise`
    seed: Annotated[int, 0, 2**31 - 1] = 0  # of the order of edges and nodes


@dataclass(frozen=True)
class RetrainSettings(Settings):
    """How a discrete network is trained. The defaults are the paper's on CIFAR-10 (those of DARTS)."""

    form: Literal["cifar", "imagenet"] = "cifar"
    layers: Annotated[int, 1, 1000] = 20
    channels: Annotated[int, 1, 4096] = 36
    epochs: Number = 600
    batch_size: Annotated[int, 2, 10**6] = 96
    eval_batch_size: Annotated[int, 2, 10**6] = 512
    lr: Factor = 0.025
    decay: Literal["cosine", "exponential"] = "cosine"  # to zero; exponential: times 0.97 after each epoch
    momentum: Factor = 0.9
    weight_decay: Factor = 3e-4
    nesterov: bool = False
    clip: Annotated[float, 0.0, math.inf] = 5.0
    auxiliary: Factor = 0.4  # weight of the auxiliary loss
    drop_path: Annotated[float, 0.0, 0.99] = 0.2  # probability, which grows linearly from 0 over the epochs
    cutout: Annotated[float, 0.0, 1.0] = 0.5  # side of the square, as a share of the image's: 16 of 32 pixels
    label_smoothing: Annotated[float, 0.0, 1.0] = 0.0
    amp: bool = False  # as in `SearchSettings`

    def build_network(self, architecture: Genotype | Arch, classes: int, image_channels: int) -> Network:
        size = self.layers, self.channels, classes, image_channels
        return Network(architecture, *size, self.form, auxiliary=self.auxiliary > 0)


# ==== Several processes ==============================================================================================

# Several processes: each has the whole network and computes on its part of the data. What they compute is averaged or
# gathered, and what they draw in common has one seed, so their networks stay equal.


def count_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def average(tensors: Iterable[Tensor | None]) -> None:
    """Replaces the tensors by their means over all processes. A tensor is None in all processes or in none."""
    tensors = [tensor for tensor in tensors if tensor is not None]
    if count_processes() == 1 or not tensors:
        return
    means = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(means)
    means /= count_processes()
    for tensor, mean in zip(tensors, means.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def gather_lists(values: list) -> list:
    """Returns the values of all processes, one list after the other."""
    if count_processes() == 1:
        return values
    lists: list[list] = [[] for _ in range(count_processes())]
    dist.all_gather_object(lists, values)
    return list(itertools.chain.from_iterable(lists))
