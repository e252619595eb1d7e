"""Search spaces, genotypes and published cells: data, and the forms in which an architecture is written.

A search space says which candidate operations stand on which edge of which cell. A genotype is what a search ends
with: for every intermediate node of a normal and of a reduction cell the two operations that feed it and the nodes
they come from. Nodes 0 and 1 are the outputs of the two previous cells, c_{k-2} and c_{k-1}. On NAS-Bench-201 there is
a single cell type with one input, node 0, and every edge keeps one operation: an `Arch`.

Sources: the spaces S1-S4 are those of Zela et al. (2020) as Appendix A.2 of the paper describes them; the DARTS space
is that of Liu et al. (2019), NAS-Bench-201 that of Dong & Yang (2020); the published cells come from the papers and
releases named beside them.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

# ------------------------------------------------------------------------------------------------- operations

# name -> code in the tables below
OPERATIONS = {
    "none": "no",
    "skip_connect": "id",
    "noise": "nz",
    "max_pool_3x3": "mp",
    "avg_pool_3x3": "ap",
    "sep_conv_3x3": "s3",
    "sep_conv_5x5": "s5",
    "sep_conv_7x7": "s7",
    "dil_conv_3x3": "d3",
    "dil_conv_5x5": "d5",
    "conv_7x1_1x7": "f7",
    "nor_conv_1x1": "n1",
    "nor_conv_3x3": "n3",
}
_NAMES = {code: name for name, code in OPERATIONS.items()}


def is_convolution(operation: str) -> bool:
    """Whether an operation is a convolution: the operations with parameters, red in Fig. 2 and Fig. 5."""
    return "conv" in operation


# ---------------------------------------------------------------------------------------------- search spaces

Edge = tuple[int, int]  # (input node, output node)


@dataclass(frozen=True)
class Space:
    """A search space as data.

    `edges` holds the edges of a cell as (input node, output node), ordered by output node; `operations` maps a cell
    type to the candidate operations of each edge, as many on every edge. `topology` says whether each node keeps only
    two of its inputs in the end, `none_allowed` whether `none` may be the answer on an edge. `family`, "darts" or
    "nb201", is the skeleton that the cells stand in.
    """

    name: str
    family: str
    edges: tuple[Edge, ...]
    operations: dict[str, tuple[tuple[str, ...], ...]]
    topology: bool
    none_allowed: bool

    @property
    def cell_types(self) -> tuple[str, ...]:
        return tuple(self.operations)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The intermediate nodes of a cell: those with incoming edges."""
        return tuple(sorted({output for _, output in self.edges}))

    @property
    def concat(self) -> tuple[int, ...]:
        """The nodes whose concatenation is the output of a cell: all intermediate ones, on NAS-Bench-201 the last."""
        return self.nodes if self.family == "darts" else self.nodes[-1:]

    def into(self, node: int) -> list[int]:
        """Indices of the edges that end in `node`."""
        return [index for index, (_, output) in enumerate(self.edges) if output == node]

    def keeps(self, node: int) -> int:
        """How many of its inputs a node keeps in the end."""
        count = len(self.into(node))
        return min(count, 2) if self.topology else count

    def candidates(self, cell_type: str, edge: int) -> list[int]:
        """Indices of the operations that may be the answer on an edge."""
        names = self.operations[cell_type][edge]
        return [index for index, name in enumerate(names) if self.none_allowed or name != "none"]

    def check(self, genotype: Genotype) -> None:
        """Raises ValueError, naming what is wrong, unless the genotype is an answer in this space."""
        for cell_type, cell in genotype.cells.items():
            kept = {node: [source for _, source, end in cell.operations if end == node] for node in self.nodes}
            if len(cell.operations) != sum(map(self.keeps, self.nodes)) or cell.concat != self.concat:
                raise ValueError(f"{cell_type}: not the nodes of a cell of the space {self.name}")
            for node, sources in kept.items():
                if len(set(sources)) < len(sources):
                    raise ValueError(f"{cell_type}: node {node} takes both inputs from node {sources[0]}")
            for operation, *edge in cell.operations:
                index = self.edges.index(tuple(edge))
                if operation not in [
                    self.operations[cell_type][index][each] for each in self.candidates(cell_type, index)
                ]:
                    place = f"the edge from {edge[0]} to {edge[1]} in the space {self.name}"
                    raise ValueError(f"{cell_type}: {operation} is no answer on {place}")


def _darts_like(name: str, normal: list[tuple[str, ...]], reduce: list[tuple[str, ...]]) -> Space:
    edges = tuple((source, node) for node in range(2, 6) for source in range(node))
    if len(normal) == 1:
        normal, reduce = normal * len(edges), reduce * len(edges)
    operations = {"normal": tuple(normal), "reduce": tuple(reduce)}
    return Space(name, "darts", edges, operations, topology=True, none_allowed=False)


def _everywhere(name: str, *operations: str) -> Space:
    return _darts_like(name, [operations], [operations])


def _by_edge(row: str) -> list[tuple[str, ...]]:
    return [tuple(_NAMES[code] for code in edge.split("+")) for edge in row.split()]


def _nb201() -> Space:
    edges = tuple((source, node) for node in range(1, 4) for source in range(node))
    names = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    return Space("nb201", "nb201", edges, {"cell": (names,) * len(edges)}, topology=False, none_allowed=True)


_DARTS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

SPACES = {
    space.name: space
    for space in (
        _everywhere("darts", *_DARTS),
        _everywhere("darts+none", "none", *_DARTS),  # `none` stands beside the seven in the magnitude baseline, A.1.1
        _darts_like(
            "s1",
            _by_edge("id+d3 id+d5 id+d5 id+s3 id+d3 mp+id id+s3 id+s3 id+d3 id+s3 mp+id id+d3 d3+d5 d3+d5"),
            _by_edge("mp+ap mp+d3 mp+ap mp+ap id+d5 mp+ap mp+s3 id+d3 id+d5 mp+ap mp+ap id+d5 id+d5 id+d5"),
        ),
        _everywhere("s2", "skip_connect", "sep_conv_3x3"),
        _everywhere("s3", "none", "skip_connect", "sep_conv_3x3"),
        _everywhere("s4", "noise", "sep_conv_3x3"),
        _nb201(),
    )
}

# -------------------------------------------------------------------------------------------------- genotypes

Cell = tuple[tuple[str, int], ...]


class DiscreteCell(NamedTuple):
    """A discrete cell as both families have it, to build and to draw: (operation, input node, output node) ordered by
    output node, the number of input nodes, and the nodes whose concatenation is the output."""

    operations: tuple[tuple[str, int, int], ...]
    inputs: int
    concat: tuple[int, ...]


class Genotype(NamedTuple):
    """A discrete architecture: (operation, input node) twice per intermediate node, and the nodes that are
    concatenated into the output of the cell, for the normal and for the reduction cell."""

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]

    @property
    def cells(self) -> dict[str, DiscreteCell]:
        """By cell type."""
        return {
            name: DiscreteCell(
                tuple((operation, source, 2 + entry // 2) for entry, (operation, source) in enumerate(cell)), 2, concat
            )
            for name, cell, concat in (
                ("normal", self.normal, self.normal_concat), ("reduce", self.reduce, self.reduce_concat)
            )
        }  # fmt: skip

    def __str__(self) -> str:
        """The text that DARTS code prints and reads."""
        fields = (
            f"{name}={_concat_text(value) if name.endswith('concat') else list(value)}"
            for name, value in zip(self._fields, self, strict=True)
        )
        return f"Genotype({', '.join(fields)})"

    def to_json(self) -> dict[str, list]:
        return {
            name: [list(item) if isinstance(item, tuple) else item for item in value]
            for name, value in self._asdict().items()
        }

    @staticmethod
    def from_json(value: Any) -> Genotype:
        """Raises ValueError, naming what is wrong, unless `value` is a well-formed genotype as `to_json` gives it."""
        if not isinstance(value, dict) or set(value) != set(Genotype._fields):
            raise ValueError(f"a genotype needs exactly the fields {', '.join(Genotype._fields)}")
        cells = {name: _checked_cell(name, value[name]) for name in ("normal", "reduce")}
        concats = {
            f"{name}_concat": _checked_concat(name, value[f"{name}_concat"], len(cell) // 2)
            for name, cell in cells.items()
        }
        return Genotype(**cells, **concats)

    @staticmethod
    def from_text(text: str) -> Genotype:
        """Parse `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`; nothing is evaluated.

        Raises ValueError, naming what is wrong.
        """
        if len(text) > 20_000:
            raise ValueError("a genotype of more than 20,000 characters")
        try:
            call = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError("not of the form Genotype(normal=[...], normal_concat=..., ...)") from None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError("not of the form Genotype(normal=[...], normal_concat=..., ...)")
        if len(call.args) > len(Genotype._fields):
            raise ValueError(f"more than the fields {', '.join(Genotype._fields)}")
        fields = dict(zip(Genotype._fields, call.args, strict=False))
        for keyword in call.keywords:
            if keyword.arg in fields:
                raise ValueError(f"field {keyword.arg} is given twice")
            fields[keyword.arg] = keyword.value
        return Genotype.from_json({name: _literal(node) for name, node in fields.items()})


def _literal(node: ast.expr) -> Any:
    """The value of a literal, of `range(...)` or of `list(range(...))`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        arguments = [_literal(argument) for argument in node.args]
        if node.func.id == "list" and len(arguments) == 1 and isinstance(arguments[0], list):
            return arguments[0]
        if node.func.id == "range" and 1 <= len(arguments) <= 2 and all(_is_index(value) for value in arguments):
            return list(range(*arguments))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("something else than lists, tuples, names in quotes, numbers and range(...)") from None


def _is_index(value: Any) -> bool:
    return type(value) is int and 0 <= value < 100


def _checked_cell(name: str, value: Any) -> Cell:
    if not isinstance(value, list | tuple) or not value or len(value) % 2 or len(value) > 40:
        raise ValueError(f"{name}: two (operation, input node) pairs are needed for each node")
    cell = []
    for position, pair in enumerate(value):
        node = 2 + position // 2
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{name}: entry {position} is not an (operation, input node) pair")
        operation, source = pair
        if operation not in tuple(OPERATIONS):
            raise ValueError(f"{name}: unknown operation {operation!r}; the operations are {', '.join(OPERATIONS)}")
        if not _is_index(source) or source >= node:
            raise ValueError(f"{name}: node {node} cannot take its input from node {source!r}")
        cell.append((operation, source))
    return tuple(cell)


def _checked_concat(name: str, value: Any, nodes: int) -> tuple[int, ...]:
    inside = isinstance(value, list | tuple) and all(_is_index(node) and 2 <= node < 2 + nodes for node in value)
    if not inside or not value or len(set(value)) < len(value):
        raise ValueError(f"{name}_concat: distinct nodes from 2 to {1 + nodes} are needed")
    return tuple(value)


def _concat_text(nodes: tuple[int, ...]) -> str:
    first, past = nodes[0], nodes[-1] + 1
    return f"range({first}, {past})" if nodes == tuple(range(first, past)) else str(list(nodes))


@dataclass(frozen=True)
class Arch:
    """A discrete NAS-Bench-201 cell: one operation for each edge, in the order of the edges of the space `nb201`."""

    operations: tuple[str, ...]

    @property
    def cells(self) -> dict[str, DiscreteCell]:
        """By cell type, of which there is one."""
        edges = SPACES["nb201"].edges
        operations = tuple((name, *edge) for name, edge in zip(self.operations, edges, strict=True))
        return {"cell": DiscreteCell(operations, 1, SPACES["nb201"].concat)}

    def __str__(self) -> str:
        """The text that NAS-Bench-201 prints and reads, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
        space = SPACES["nb201"]
        nodes = ([f"{self.operations[edge]}~{space.edges[edge][0]}" for edge in space.into(n)] for n in space.nodes)
        return "+".join(f"|{'|'.join(inputs)}|" for inputs in nodes)

    @staticmethod
    def from_text(text: str) -> Arch:
        """Raises ValueError, naming what is wrong."""
        space = SPACES["nb201"]
        operations = re.findall(r"([^|~+]+)~", text[:1000])
        unknown = [name for name in operations if name not in space.operations["cell"][0]]
        if unknown:
            known = ", ".join(space.operations["cell"][0])
            raise ValueError(f"unknown operation {unknown[0]!r}; those of NAS-Bench-201 are {known}")
        arch = Arch(tuple(operations))
        if len(operations) != len(space.edges) or str(arch) != text.strip():
            raise ValueError("not of the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
        return arch


# -------------------------------------------------------------------------------------------- published cells

# A line is a name, the normal cell and the reduction cell; `s3.1` is sep_conv_3x3 on node 1, two entries per node.
# NASNET_A: Zoph et al. (2018). AMOEBANET_A: Real et al. (2019). DARTS_V1 and DARTS_V2, first and second order: Liu et
# al. (2019). SGAS: Li et al. (2020), criterion 1. SDARTS_RS: Chen & Hsieh (2020). DARTS_PT and PT_FIXED (fixed α) on
# S1-S4 and the DARTS space, for CIFAR-10 unless C100 or SVHN is named: the paper, Appendix A.9 and its release.
_CELLS = """
NASNET_A           s5.1 s3.0 s5.0 s3.0 ap.1 id.0 ap.0 ap.0 s3.1 id.1 | s5.1 s7.0 mp.1 s7.0 ap.1 s5.0 id.3 ap.2 s3.2 mp.1
AMOEBANET_A        ap.0 mp.1 s3.0 s5.2 s3.0 ap.3 s3.1 id.1 id.0 ap.1 | ap.0 s3.1 mp.0 s7.2 s7.0 ap.1 mp.0 mp.1 f7.0 s3.5
DARTS_V1           s3.1 s3.0 id.0 s3.1 id.0 s3.1 s3.0 id.2 | mp.0 mp.1 id.2 mp.0 mp.0 id.2 id.2 ap.0
DARTS_V2           s3.0 s3.1 s3.0 s3.1 s3.1 id.0 id.0 d3.2 | mp.0 mp.1 id.2 mp.1 mp.0 id.2 id.2 mp.1
SGAS_1             id.0 s3.1 s3.0 s5.1 s3.1 s3.2 d5.2 d3.3 | mp.0 d3.1 s3.0 s5.2 mp.1 id.2 id.2 id.3
SGAS_2             s3.0 d3.1 id.0 d3.2 s3.1 s3.2 s3.2 s5.4 | ap.0 s3.1 mp.0 id.2 mp.0 s5.2 mp.1 d5.3
SGAS_3             s3.0 d3.1 s3.0 s3.1 s5.1 s5.3 id.0 d5.2 | mp.0 d5.1 s3.0 id.2 s3.1 id.2 mp.0 mp.1
SGAS_4             s3.0 s3.1 id.0 id.2 s3.1 s3.2 d3.2 d5.4 | ap.0 s5.1 ap.0 d5.2 mp.0 d5.2 mp.0 id.2
SGAS_5             d5.0 s3.1 id.0 s3.1 id.0 s3.2 d5.2 s5.3 | mp.0 s5.1 mp.0 id.2 s3.2 s5.3 ap.0 id.2
SGAS_6             s3.0 s3.1 d3.1 d3.2 s3.1 d5.2 id.1 s3.2 | ap.0 mp.1 mp.1 d5.2 mp.0 d3.3 id.2 d5.3
SGAS_7             s3.0 s5.1 id.0 s5.2 s3.2 d5.3 s3.0 d3.2 | d3.0 ap.1 mp.0 s3.2 mp.1 d5.3 ap.0 s5.2
SGAS_8             s5.0 s3.1 d3.1 d3.2 id.0 s3.1 d5.1 s3.2 | s3.0 s3.1 mp.1 id.2 mp.1 s5.2 mp.0 s5.3
SGAS_9             s5.0 s5.1 s3.1 d3.2 s3.1 d5.3 s3.1 d3.3 | ap.0 s3.1 mp.0 d5.2 mp.0 s3.2 mp.1 id.2
SGAS_10            s3.0 d5.1 s3.0 d3.2 s3.1 d3.3 d3.2 d3.4 | mp.0 s3.1 s3.0 s5.2 mp.0 mp.1 mp.0 s3.2
SGAS_BEST          s3.0 d3.1 s3.0 s3.1 s5.1 s5.3 id.0 d5.2 | mp.0 d5.1 s3.0 id.2 s3.1 id.2 mp.0 mp.1
SDARTS_RS          s3.1 s3.0 s5.1 id.0 s3.3 id.1 s3.1 d3.2 | mp.0 s3.1 id.2 mp.0 d5.3 mp.0 s3.2 s5.3
DARTS_PT_S1_1      id.0 id.1 id.0 id.1 id.0 id.1 d3.3 d5.4 | mp.0 d3.1 mp.0 mp.1 s3.1 id.3 id.2 d5.3
DARTS_PT_S1_2      d3.0 id.1 id.0 id.2 id.0 id.3 d3.3 d5.4 | mp.0 mp.1 mp.0 mp.1 s3.1 id.2 id.2 d5.4
DARTS_PT_S2_1      id.0 id.1 s3.0 id.2 s3.1 id.3 s3.1 s3.4 | s3.0 s3.1 s3.0 id.2 s3.0 id.2 s3.1 id.4
DARTS_PT_S2_2      id.0 s3.1 id.1 id.2 s3.0 id.3 id.3 s3.4 | s3.0 s3.1 s3.0 id.2 s3.1 s3.3 s3.1 id.3
DARTS_PT_S3_1      s3.0 s3.1 s3.0 id.1 id.0 id.2 s3.0 s3.1 | s3.0 id.1 s3.0 id.2 s3.0 id.3 id.3 s3.4
DARTS_PT_S3_2      s3.0 s3.1 id.0 s3.1 id.0 s3.3 s3.1 id.4 | s3.0 s3.1 s3.0 id.1 s3.0 s3.1 s3.2 id.3
DARTS_PT_S4_1      s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.1 s3.2 | s3.0 s3.1 s3.0 s3.2 s3.0 s3.3 s3.0 s3.1
DARTS_PT_S4_2      s3.0 s3.1 s3.0 s3.1 s3.0 s3.3 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.2
PT_FIXED_S1_1      id.0 d5.1 s3.1 id.2 mp.0 id.3 s3.0 mp.1 | ap.0 mp.1 mp.0 mp.1 id.2 d5.3 d5.2 id.3
PT_FIXED_S1_2      id.0 id.1 s3.1 id.2 mp.0 s3.1 id.2 d5.3 | ap.0 d3.1 mp.1 d5.2 ap.0 id.3 id.2 d5.3
PT_FIXED_S2_1      s3.0 s3.1 id.0 id.2 s3.1 s3.2 s3.0 id.3 | s3.0 s3.1 s3.1 id.2 s3.0 id.3 s3.2 id.4
PT_FIXED_S2_2      s3.0 s3.1 s3.0 s3.2 s3.0 s3.1 s3.0 id.4 | s3.0 s3.1 s3.0 s3.2 s3.0 id.1 s3.1 s3.2
PT_FIXED_S3_1      s3.0 id.1 id.0 s3.1 s3.0 id.2 id.3 id.4 | s3.0 s3.1 s3.0 s3.2 s3.0 s3.1 s3.1 s3.3
PT_FIXED_S3_2      s3.0 s3.1 s3.0 id.1 s3.0 s3.1 id.0 s3.2 | s3.0 s3.1 s3.0 s3.1 s3.0 id.3 id.2 id.3
PT_FIXED_S4_1      s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.2 s3.0 s3.3 s3.0 s3.1
PT_FIXED_S4_2      s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1
DARTS_PT_S1_C100_1 id.0 id.1 d5.0 id.2 s3.2 id.3 s3.0 id.2 | mp.0 mp.1 mp.1 d5.2 s3.1 id.2 id.2 d5.3
DARTS_PT_S1_C100_2 d3.0 id.1 id.0 id.2 id.0 d3.3 id.2 d5.3 | ap.0 mp.1 mp.0 d5.2 ap.0 s3.1 mp.1 id.4
DARTS_PT_S2_C100_1 id.0 s3.1 s3.0 id.2 s3.1 id.3 id.3 s3.4 | s3.0 s3.1 id.0 id.2 id.0 id.3 s3.2 id.4
DARTS_PT_S2_C100_2 id.0 s3.1 s3.0 id.2 id.2 s3.3 id.3 s3.4 | s3.0 s3.1 id.1 id.2 s3.1 id.3 s3.0 id.3
DARTS_PT_S3_C100_1 s3.0 s3.1 s3.0 s3.1 id.0 id.1 s3.0 s3.1 | s3.0 id.1 s3.0 id.2 id.2 s3.3 s3.1 id.3
DARTS_PT_S3_C100_2 s3.0 id.1 s3.0 id.1 s3.0 s3.3 s3.1 id.4 | s3.0 id.1 s3.0 id.2 id.1 id.3 s3.2 id.4
DARTS_PT_S4_C100_1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1
DARTS_PT_S4_C100_2 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.1 s3.0 s3.2 s3.0 s3.4
PT_FIXED_S1_C100_1 id.0 d5.1 s3.1 id.2 mp.0 id.3 s3.0 mp.1 | mp.0 d3.1 mp.1 id.2 s3.1 d5.3 id.3 id.4
PT_FIXED_S1_C100_2 id.0 d5.1 id.0 s3.1 mp.0 id.3 s3.0 mp.1 | mp.0 d3.1 ap.1 id.2 mp.1 d5.3 d5.2 id.3
PT_FIXED_S2_C100_1 id.0 s3.1 s3.0 id.2 s3.0 s3.1 id.3 id.4 | s3.0 s3.1 s3.0 s3.1 s3.1 id.2 id.3 id.4
PT_FIXED_S2_C100_2 id.0 s3.1 s3.0 id.2 id.0 s3.1 id.3 id.4 | s3.0 s3.1 s3.0 s3.1 s3.1 id.2 s3.2 id.4
PT_FIXED_S3_C100_1 s3.0 s3.1 id.0 id.2 s3.0 s3.1 s3.0 s3.4 | s3.0 id.1 s3.0 s3.1 id.2 s3.3 s3.1 id.3
PT_FIXED_S3_C100_2 s3.0 s3.1 id.0 s3.1 id.0 s3.3 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.1 s3.2 id.3 id.0 s3.1
PT_FIXED_S4_C100_1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.2 s3.0 s3.3 s3.0 s3.1
PT_FIXED_S4_C100_2 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.2 s3.0 s3.1 s3.0 s3.1
DARTS_PT_S1_SVHN_1 id.0 id.1 d5.0 id.2 mp.0 s3.2 d3.3 d3.4 | mp.0 d3.1 ap.1 d5.2 id.2 d5.3 ap.0 id.4
DARTS_PT_S1_SVHN_2 id.0 id.1 d5.0 id.2 mp.0 id.3 d3.3 d3.4 | ap.0 mp.1 ap.0 d5.2 s3.1 d5.3 id.3 id.4
DARTS_PT_S2_SVHN_1 s3.0 id.1 id.0 id.2 s3.0 id.3 s3.1 s3.4 | s3.0 id.1 id.0 s3.2 id.2 s3.3 id.3 s3.4
DARTS_PT_S2_SVHN_2 id.0 id.1 s3.0 id.2 s3.0 s3.3 s3.2 id.4 | s3.0 id.1 id.0 id.2 s3.1 s3.2 s3.0 s3.4
DARTS_PT_S3_SVHN_1 s3.0 id.1 s3.1 s3.2 id.2 id.3 s3.3 s3.4 | s3.0 id.1 id.1 s3.2 id.2 s3.3 s3.3 s3.4
DARTS_PT_S3_SVHN_2 id.0 id.1 id.0 id.1 s3.1 s3.3 s3.0 id.4 | id.0 s3.1 s3.1 s3.2 s3.2 s3.3 id.2 s3.4
DARTS_PT_S4_SVHN_1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.1 s3.2 | s3.0 s3.1 s3.0 s3.2 s3.0 s3.3 s3.0 s3.1
DARTS_PT_S4_SVHN_2 s3.0 s3.1 s3.0 s3.2 s3.1 s3.3 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.2 s3.0 s3.2 s3.1 s3.3
PT_FIXED_S1_SVHN_1 d3.0 d5.1 s3.1 id.2 s3.2 id.3 d5.3 d5.4 | ap.0 mp.1 ap.1 id.2 id.2 d5.3 id.3 d5.4
PT_FIXED_S1_SVHN_2 d3.0 d5.1 s3.1 d3.2 s3.1 s3.2 s3.0 mp.1 | ap.0 d3.1 mp.0 ap.1 ap.0 id.2 mp.1 d5.4
PT_FIXED_S2_SVHN_1 s3.0 s3.1 id.1 s3.2 s3.1 s3.2 s3.1 s3.3 | s3.0 id.1 s3.0 s3.2 s3.2 s3.3 id.2 id.4
PT_FIXED_S2_SVHN_2 s3.0 s3.1 s3.1 s3.2 s3.1 s3.3 s3.3 id.4 | s3.0 s3.1 s3.0 s3.2 id.1 s3.3 s3.0 id.2
PT_FIXED_S3_SVHN_1 s3.0 s3.1 s3.1 id.2 s3.0 id.3 s3.1 s3.3 | s3.0 s3.1 id.1 s3.2 s3.2 s3.3 id.2 s3.4
PT_FIXED_S3_SVHN_2 s3.0 s3.1 s3.0 s3.1 s3.1 s3.2 s3.0 s3.1 | s3.0 s3.1 id.1 s3.2 id.0 s3.3 s3.2 s3.4
PT_FIXED_S4_SVHN_1 s3.0 s3.1 s3.0 s3.1 s3.1 s3.2 s3.0 s3.1 | s3.0 s3.1 s3.1 s3.2 s3.1 s3.3 s3.0 s3.2
PT_FIXED_S4_SVHN_2 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 s3.0 s3.1 | s3.0 s3.1 s3.0 s3.1 s3.2 s3.3 s3.1 s3.4
DARTS_PT_DARTS_0   s3.0 s3.1 s5.0 d3.1 id.0 id.2 id.0 mp.4 | s3.0 ap.1 d5.1 d3.2 ap.0 mp.2 s3.2 id.4
DARTS_PT_DARTS_1   s3.0 s3.1 s3.0 d3.1 mp.0 id.2 id.0 d3.4 | d5.0 ap.1 mp.0 s5.2 mp.1 d3.3 s5.0 s3.4
DARTS_PT_DARTS_2   id.0 s3.1 s3.0 d3.1 id.2 d3.3 mp.1 id.2 | ap.0 mp.1 ap.0 s3.1 d5.2 id.3 s3.2 s5.4
DARTS_PT_DARTS_3   s3.0 s3.1 s3.0 s3.1 id.0 id.2 s3.1 id.3 | ap.0 s5.1 mp.1 id.2 d5.1 mp.3 s5.2 id.3
PT_FIXED_DARTS_0   s3.0 s5.1 s3.0 s3.1 ap.1 id.3 mp.0 ap.2 | id.0 s5.1 d3.1 s5.2 mp.0 id.3 mp.0 mp.2
PT_FIXED_DARTS_1   ap.0 ap.1 s3.0 mp.2 id.2 s3.3 s5.0 s5.1 | mp.0 d5.1 s3.0 id.1 ap.2 mp.3 s5.3 s5.4
PT_FIXED_DARTS_2   ap.0 d3.1 s5.0 mp.1 mp.0 id.1 s5.1 ap.2 | s3.0 ap.1 ap.0 s5.1 mp.0 s5.3 mp.2 d5.4
PT_FIXED_DARTS_3   s3.0 s3.1 s3.0 id.1 mp.2 s3.3 ap.0 s5.1 | d5.0 s5.1 s5.0 d3.1 ap.1 id.2 mp.0 id.4
"""
_CONCATS = {"NASNET_A": ((2, 3, 4, 5, 6), (4, 5, 6)), "AMOEBANET_A": ((4, 5, 6), (3, 4, 6))}


def _published(line: str) -> tuple[str, Genotype]:
    name, *entries = line.split()
    cells = [[]]
    for entry in entries:
        if entry == "|":
            cells.append([])
        else:
            code, source = entry.split(".")
            cells[-1].append((_NAMES[code], int(source)))
    normal, reduce = map(tuple, cells)
    normal_concat, reduce_concat = _CONCATS.get(name, ((2, 3, 4, 5), (2, 3, 4, 5)))
    return name, Genotype(normal, normal_concat, reduce, reduce_concat)


PUBLISHED = dict(_published(line) for line in _CELLS.strip().splitlines())
