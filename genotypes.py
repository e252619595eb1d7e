"""Search spaces and architectures as data: what a search chooses from, and what it ends with.

A cell is a small graph. Its nodes are feature maps, and an edge applies an operation to the map of its input node. A
search space names the candidate operations of each edge. An architecture has some of the edges, with one operation on
each. There are two families:

- DARTS-like spaces have a normal cell and a reduction cell, which halves the maps. Nodes 0 and 1 are the outputs of the
  two previous cells, c_{k-2} and c_{k-1}. Nodes 2 to 5, the intermediate nodes, sum their input edges. An architecture
  is a `Genotype`: it keeps two input edges of each node.
- NAS-Bench-201 has a single cell type. Node 0 is the input of the cell, node 3 its output. An architecture is an
  `Arch`: it keeps all six edges.

In the order to read: operations, search spaces, architectures with their text and JSON, published cells.

Sources: the DARTS space is that of Liu et al. (2019), S1-S4 are those of Zela et al. (2020) as Appendix A.2 of the
paper lists them, NAS-Bench-201 is that of Dong & Yang (2020). The published cells name their sources beside them.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

# ==== Operations ====================================================================================================

# The name of each operation, and its code in the tables below.
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
    """Returns True if an operation is a convolution. Only these have parameters, apart from a skip connection that
    halves the map; Fig. 2 and Fig. 5 show them in red."""
    return "conv" in operation


# ==== Search spaces =================================================================================================

Edge = tuple[int, int]  # (input node, output node)


@dataclass(frozen=True)
class Space:
    """A search space.

    family: the skeleton in which the cells stand, "darts" or "nb201".
    edges: all edges of a cell, ordered by output node.
    operations: for each cell type, the candidate operations of each edge, equally many on every edge.
    topology: True if a node keeps only two of its input edges; a topology phase then chooses them (Algorithm 2).
    none_allowed: True if the search may choose `none` for an edge. On DARTS-like spaces it may not (A.1.1): there
        `none` only takes part in the softmax. On S3 this is our reading: the authors' release admits it.
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
        """The intermediate nodes of a cell, which have input edges."""
        return tuple(sorted({output for _, output in self.edges}))

    @property
    def concat(self) -> tuple[int, ...]:
        """The nodes whose maps, concatenated along the channels, are the output of a cell: all intermediate nodes; on
        NAS-Bench-201 only the last."""
        return self.nodes if self.family == "darts" else self.nodes[-1:]

    @property
    def has_none(self) -> bool:
        return any("none" in names for rows in self.operations.values() for names in rows)

    def into(self, node: int) -> list[int]:
        """Returns the indices of the edges that end in `node`."""
        return [index for index, (_, output) in enumerate(self.edges) if output == node]

    def keeps(self, node: int) -> int:
        """Returns the number of input edges that a node keeps in the end."""
        count = len(self.into(node))
        return min(count, 2) if self.topology else count

    def candidates(self, cell_type: str, edge: int) -> list[int]:
        """Returns the indices of the operations that may be chosen on an edge."""
        names = self.operations[cell_type][edge]
        return [index for index, name in enumerate(names) if self.none_allowed or name != "none"]

    def check(self, genotype: Genotype) -> None:
        """Raises ValueError, which says what is wrong, unless a search in this space can end with the genotype."""
        for cell_type, cell in genotype.cells.items():
            kept = {node: [source for _, source, output in cell.operations if output == node] for node in self.nodes}
            if len(cell.operations) != sum(map(self.keeps, self.nodes)) or cell.concat != self.concat:
                raise ValueError(f"{cell_type}: not the nodes of a cell of the space {self.name}")
            for node, sources in kept.items():
                if len(set(sources)) < len(sources):
                    raise ValueError(f"{cell_type}: node {node} takes both inputs from node {sources[0]}")
            for operation, source, output in cell.operations:
                edge = self.edges.index((source, output))
                names = self.operations[cell_type][edge]
                if operation not in [names[index] for index in self.candidates(cell_type, edge)]:
                    place = f"the edge from {source} to {output} in the space {self.name}"
                    raise ValueError(f"{cell_type}: {operation} is no answer on {place}")


def _make_darts_space(name: str, normal: list[tuple[str, ...]], reduce: list[tuple[str, ...]]) -> Space:
    """Returns a DARTS-like space with these operations, by edge, in the normal and in the reduction cell."""
    edges = tuple((source, node) for node in range(2, 6) for source in range(node))
    operations = {"normal": tuple(normal), "reduce": tuple(reduce)}
    return Space(name, "darts", edges, operations, topology=True, none_allowed=False)


def _make_uniform_space(name: str, *operations: str) -> Space:
    """Returns a DARTS-like space with the same operations on all 14 edges of both cells."""
    return _make_darts_space(name, [operations] * 14, [operations] * 14)


def _read_edges(row: str) -> list[tuple[str, ...]]:
    """Returns the operations of each edge, in the order of `Space.edges`, from their codes: `id+d3 id+d5 ...`."""
    return [tuple(_NAMES[code] for code in edge.split("+")) for edge in row.split()]


def _make_nb201() -> Space:
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
        _make_uniform_space("darts", *_DARTS),
        _make_uniform_space("darts+none", "none", *_DARTS),  # as original DARTS has it (Appendix A.1.1)
        _make_darts_space(
            "s1",
            _read_edges("id+d3 id+d5 id+d5 id+s3 id+d3 mp+id id+s3 id+s3 id+d3 id+s3 mp+id id+d3 d3+d5 d3+d5"),
            _read_edges("mp+ap mp+d3 mp+ap mp+ap id+d5 mp+ap mp+s3 id+d3 id+d5 mp+ap mp+ap id+d5 id+d5 id+d5"),
        ),
        _make_uniform_space("s2", "skip_connect", "sep_conv_3x3"),
        _make_uniform_space("s3", "none", "skip_connect", "sep_conv_3x3"),
        _make_uniform_space("s4", "noise", "sep_conv_3x3"),
        _make_nb201(),
    )
}

# ==== Architectures =================================================================================================

Cell = tuple[tuple[str, int], ...]  # (operation, input node), twice for node 2, twice for node 3, ...


class DiscreteCell(NamedTuple):
    """A discrete cell in one form for both families, to build and to draw."""

    operations: tuple[tuple[str, int, int], ...]  # (operation, input node, output node), ordered by output node
    inputs: int  # number of input nodes: 2, on NAS-Bench-201 1
    concat: tuple[int, ...]  # the nodes whose concatenated maps are the output


class Genotype(NamedTuple):
    """A discrete DARTS-like architecture: for each cell type, two (operation, input node) for every intermediate node,
    and the nodes whose concatenated maps are the output."""

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]

    @property
    def cells(self) -> dict[str, DiscreteCell]:
        """The two cells by their type, "normal" and "reduce"."""
        cells = {}
        for name in ("normal", "reduce"):
            pairs, concat = getattr(self, name), getattr(self, f"{name}_concat")
            operations = tuple((operation, source, 2 + k // 2) for k, (operation, source) in enumerate(pairs))
            cells[name] = DiscreteCell(operations, 2, concat)
        return cells

    def __str__(self) -> str:
        """Returns the text that DARTS code prints and reads."""
        fields = (
            f"{name}={_write_concat(value) if name.endswith('concat') else list(value)}"
            for name, value in zip(self._fields, self, strict=True)
        )
        return f"Genotype({', '.join(fields)})"

    @staticmethod
    def from_json(value: Any) -> Genotype:
        """Reads the four fields, with tuples or lists. Raises ValueError, which says what is wrong."""
        if not isinstance(value, dict) or set(value) != set(Genotype._fields):
            raise ValueError(f"a genotype needs exactly the fields {', '.join(Genotype._fields)}")
        normal, reduce = (_check_cell(name, value[name]) for name in ("normal", "reduce"))
        normal_concat = _check_concat("normal", value["normal_concat"], len(normal) // 2)
        reduce_concat = _check_concat("reduce", value["reduce_concat"], len(reduce) // 2)
        return Genotype(normal, normal_concat, reduce, reduce_concat)

    @staticmethod
    def from_text(text: str) -> Genotype:
        """Reads `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`, or a dict of the same
        fields, without evaluating it. Raises ValueError, which says what is wrong."""
        if len(text) > 20_000:
            raise ValueError("a genotype of more than 20,000 characters")
        try:
            call = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError("not of the form Genotype(normal=[...], normal_concat=..., ...)") from None
        if isinstance(call, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in call.keys]
            return Genotype.from_json({key: _read_literal(each) for key, each in zip(keys, call.values, strict=True)})
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError("not of the form Genotype(normal=[...], normal_concat=..., ...)")
        if len(call.args) > len(Genotype._fields):
            raise ValueError(f"a genotype has only the fields {', '.join(Genotype._fields)}")
        fields = dict(zip(Genotype._fields, call.args, strict=False))
        for keyword in call.keywords:
            if keyword.arg in fields:
                raise ValueError(f"field {keyword.arg} is given twice")
            fields[keyword.arg] = keyword.value
        return Genotype.from_json({name: _read_literal(node) for name, node in fields.items()})


def _read_literal(node: ast.expr) -> Any:
    """Returns the value of a literal, of `range(...)` or of `list(range(...))`. Raises ValueError for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        arguments = [_read_literal(argument) for argument in node.args]
        if node.func.id == "list" and len(arguments) == 1 and isinstance(arguments[0], list):
            return arguments[0]
        if node.func.id == "range" and 1 <= len(arguments) <= 2 and all(_is_index(value) for value in arguments):
            return list(range(*arguments))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("a genotype has only lists, tuples, names in quotes, numbers and range(...)") from None


def _is_index(value: Any) -> bool:
    return type(value) is int and 0 <= value < 100


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _is_pair_of_pairs(value: Any) -> bool:
    return _is_pair(value) and all(map(_is_pair, value))


def _check_cell(name: str, value: Any) -> Cell:
    """Returns the pairs of a cell as tuples. Raises ValueError unless each is (operation, an earlier node)."""
    if isinstance(value, list | tuple) and all(map(_is_pair_of_pairs, value)):  # pt.darts has a list for each node
        value = [pair for node in value for pair in node]
    if not isinstance(value, list | tuple) or not value or len(value) % 2 or len(value) > 40:
        raise ValueError(f"{name}: two (operation, input node) pairs are needed for each node")
    cell = []
    for position, pair in enumerate(value):
        node = 2 + position // 2
        if not _is_pair(pair):
            raise ValueError(f"{name}: entry {position} is not an (operation, input node) pair")
        operation, source = pair
        if operation not in tuple(OPERATIONS):
            raise ValueError(f"{name}: unknown operation {operation!r:.80}; the operations are {', '.join(OPERATIONS)}")
        if not _is_index(source) or source >= node:
            raise ValueError(f"{name}: node {node} cannot take its input from node {source!r:.80}")
        cell.append((operation, source))
    return tuple(cell)


def _check_concat(name: str, value: Any, nodes: int) -> tuple[int, ...]:
    """Returns the nodes to concatenate as a tuple. Raises ValueError unless each is one of the intermediate nodes, of
    which there are `nodes`."""
    inside = isinstance(value, list | tuple) and all(_is_index(node) and 2 <= node < 2 + nodes for node in value)
    if not inside or not value or len(set(value)) < len(value):
        raise ValueError(f"{name}_concat: distinct nodes from 2 to {1 + nodes} are needed")
    return tuple(value)


def _write_concat(nodes: tuple[int, ...]) -> str:
    first, past = nodes[0], nodes[-1] + 1
    return f"range({first}, {past})" if nodes == tuple(range(first, past)) else str(list(nodes))


@dataclass(frozen=True)
class Arch:
    """A discrete NAS-Bench-201 cell: one operation for each edge, in the order of the edges of the space `nb201`."""

    operations: tuple[str, ...]

    @property
    def cells(self) -> dict[str, DiscreteCell]:
        """The one cell by its type, "cell"."""
        edges = SPACES["nb201"].edges
        operations = tuple((name, *edge) for name, edge in zip(self.operations, edges, strict=True))
        return {"cell": DiscreteCell(operations, 1, SPACES["nb201"].concat)}

    def __str__(self) -> str:
        """Returns the text that NAS-Bench-201 prints and reads: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, where `op~0`
        is an operation on the map of node 0."""
        space = SPACES["nb201"]
        nodes = ([f"{self.operations[edge]}~{space.edges[edge][0]}" for edge in space.into(n)] for n in space.nodes)
        return "+".join(f"|{'|'.join(inputs)}|" for inputs in nodes)

    @staticmethod
    def from_text(text: str) -> Arch:
        """Reads what `str` gives. Raises ValueError, which says what is wrong."""
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


def read_architecture(text: str) -> Genotype | Arch:
    """Finds an architecture in a text as people paste it: in a line of a log, or over several lines; of several the
    last. It has one of these forms:

    Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=...)
    {'normal': [[('sep_conv_3x3', 1), ('skip_connect', 0)], ...], 'normal_concat': [2, 3, 4, 5], ...}
    |op~0|+|op~0|op~1|+|op~0|op~1|op~2|

    Raises ValueError, which says what is wrong.
    """
    problem = ValueError("neither Genotype(...) nor a dict of its fields nor |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    for match in reversed(list(re.finditer(r"Genotype\(|\{\s*['\"](normal|reduce)|\|[^|~\s]+~0\|\+\S*\|", text))):
        try:
            if match.group().startswith("|"):
                return Arch.from_text(match.group())
            return Genotype.from_text(_cut_expression(text[match.start() : match.start() + 20_000]))
        except ValueError as error:
            problem = error
    raise problem


def _cut_expression(text: str) -> str:
    """Returns the text up to the bracket that closes its first one."""
    depth = 0
    for match in re.finditer(r"[([{]|[)\]}]", text):
        depth += 1 if match.group() in "([{" else -1
        if not depth:
            return text[: match.end()]
    raise ValueError("a bracket of the genotype is not closed")


# ==== Published cells ===============================================================================================

# A line has a name, the normal cell and the reduction cell, with two entries per node; `s3.1` is sep_conv_3x3 from
# node 1. Sources: NASNET_A is from Zoph et al. (2018), AMOEBANET_A from Real et al. (2019), DARTS_V1 (first order) and
# DARTS_V2 (second order) from Liu et al. (2019), SGAS (criterion 1) from Li et al. (2020), SDARTS_RS from Chen & Hsieh
# (2020). DARTS_PT and PT_FIXED (fixed α) are from Appendix A.9 of the paper and from its release, by space: S1-S4 and
# DARTS. They were searched on CIFAR-10 unless their name has C100 or SVHN.
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


def _read_published(line: str) -> tuple[str, Genotype]:
    """Returns the name and the genotype that stand on a line."""
    name, cells = line.split(maxsplit=1)
    normal, reduce = (tuple(map(_read_entry, cell.split())) for cell in cells.split("|"))
    normal_concat, reduce_concat = _CONCATS.get(name, ((2, 3, 4, 5), (2, 3, 4, 5)))
    return name, Genotype(normal, normal_concat, reduce, reduce_concat)


def _read_entry(entry: str) -> tuple[str, int]:
    code, source = entry.split(".")
    return _NAMES[code], int(source)


PUBLISHED = dict(map(_read_published, _CELLS.strip().splitlines()))
