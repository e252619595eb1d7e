"""Spaces, published cells, and genotypes as text and JSON."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genotypes import OPERATIONS, PUBLISHED, SPACES, Arch, Genotype, read_architecture


@st.composite
def cells(draw):
    nodes = draw(st.integers(1, 6))
    cell = []
    for node in range(2, 2 + nodes):
        pair = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, node - 1))
        cell += [draw(pair), draw(pair)]
    concat = draw(st.lists(st.integers(2, 1 + nodes), min_size=1, unique=True))
    return tuple(cell), tuple(concat)


@given(cells(), cells())
def test_a_genotype_survives_text_and_json(normal, reduce):
    genotype = Genotype(*normal, *reduce)
    assert Genotype.from_text(str(genotype)) == genotype
    assert Genotype.from_json(json.loads(json.dumps(genotype._asdict()))) == genotype


def test_the_text_of_darts_is_read_in_all_forms_in_which_darts_code_prints_it():
    cell, pairs = (("sep_conv_3x3", 1), ("skip_connect", 0)), "[('sep_conv_3x3', 1), ('skip_connect', 0)]"
    wanted = Genotype(cell, (2,), cell, (2,))
    for text in (
        f"Genotype(normal={pairs}, normal_concat=range(2, 3), reduce={pairs}, reduce_concat=range(2, 3))",
        f"Genotype(normal={pairs}, normal_concat=[2], reduce={pairs}, reduce_concat=list(range(2, 3)))",
        f"  Genotype({pairs}, (2,), reduce_concat=[2],\n reduce={pairs.replace('(', '[').replace(')', ']')})\n",
    ):
        assert Genotype.from_text(text) == wanted


GOOD = str(PUBLISHED["DARTS_V2"])
BAD_TEXTS = {
    "no genotype": "print('hello')",
    "not python": "Genotype(normal=[",
    "a call in it": "Genotype(normal=__import__('os').getcwd(), normal_concat=[2], reduce=[], reduce_concat=[2])",
    "an attribute in it": "Genotype(normal=[('a'.upper, 1)]*2, normal_concat=[2], reduce=[], reduce_concat=[2])",
    "a field too few": "Genotype(normal=[('none', 0), ('none', 1)], normal_concat=[2])",
    "a field too many": GOOD.replace("Genotype(", "Genotype(extra=1, "),
    "a field twice": GOOD.replace("Genotype(", "Genotype(1, "),
    "unpacking": "Genotype(**{'normal': 1})",
    "five positions": re.sub(r"\w+=", "", GOOD).replace("))", "), 5)"),
    "an endless range": GOOD.replace("range(2, 6)", "range(10**12)"),
    "too long": "Genotype(" + " " * 30_000 + ")",
    "too deep": "Genotype(" + "[" * 9_000 + ")",
    "unknown operation": GOOD.replace("dil_conv_3x3", "dil_conv_9x9"),
    "a node feeding itself": GOOD.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)"),
    "negative input": GOOD.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', -1)"),
    "bool as input": GOOD.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"),
    "concat out of range": GOOD.replace("range(2, 6)", "range(2, 7)"),
    "concat empty": GOOD.replace("range(2, 6)", "[]"),
    "concat twice the same": GOOD.replace("range(2, 6)", "[2, 2]"),
    "unhashable operation": GOOD.replace("'dil_conv_3x3'", "['dil_conv_3x3']"),
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_a_bad_genotype_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        Genotype.from_text(text)


DICT = {name: list(value) for name, value in PUBLISHED["DARTS_V2"]._asdict().items()}
NESTED = DICT | {name: [DICT[name][at : at + 2] for at in range(0, 8, 2)] for name in ("normal", "reduce")}
CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
PASTED = {
    "a line of a log": f"2020-01-31 12:00:00,123 genotype = {GOOD}",
    "several lines": GOOD.replace(", ", ",\n    ").replace("Genotype(", "Genotype(\n"),
    "a log": f"epoch 1 {PUBLISHED['DARTS_V1']}\ntrain_acc (50.0)\n{{'lr': 0.1}}\nepoch 2 {GOOD}\nvalid_acc (60.0)\n",
    "a dict": f"genotype = {DICT}",
    "a dict with a range": str(DICT).replace("[2, 3, 4, 5]", "range(2, 6)"),
    "JSON": json.dumps(DICT, indent=1),
    "pairs by node": "Genotype({})".format(", ".join(f"{name}={value}" for name, value in NESTED.items())),
    "JSON by node": json.dumps(NESTED),
    "a log that goes on": f"{GOOD}\nsee class Genotype(NamedTuple)\n{{'normal': 1}}\nGenotype(normal=[('sep_conv",
    "a cell of NAS-Bench-201": f"arch: '{CELL}', test accuracy 10.0\n|---|---|\n100%|█████| 5/5",
}


@pytest.mark.parametrize("text", PASTED.values(), ids=PASTED)
def test_an_architecture_is_read_as_people_paste_it(text):
    wanted = Arch.from_text(CELL) if CELL in text else PUBLISHED["DARTS_V2"]
    assert read_architecture(text) == wanted


@pytest.mark.parametrize("text", [GOOD[:-1], "{'normal': []}", "{'normal': [], **{}}", "| a | table |", ""])
def test_a_text_without_an_architecture_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        read_architecture(text)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    attempts = text, f"Genotype({text})", f"{{'normal': {text}}}"
    for read, attempt in itertools.product((Genotype.from_text, read_architecture), attempts):
        try:
            read(attempt)
        except ValueError as error:
            assert str(error)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda x: st.lists(x, max_size=3)))
def test_any_json_is_a_genotype_or_refused(value):
    for attempt in (value, dict.fromkeys(Genotype._fields, value)):
        with pytest.raises(ValueError, match=r"\w"):
            Genotype.from_json(attempt)


def test_all_published_cells_are_well_formed():
    assert len(PUBLISHED) == 72
    for genotype in PUBLISHED.values():
        assert Genotype.from_json(genotype._asdict()) == genotype
    assert len(PUBLISHED["NASNET_A"].normal) == len(PUBLISHED["AMOEBANET_A"].reduce) == 10
    assert PUBLISHED["NASNET_A"].reduce_concat == (4, 5, 6)


def test_spaces_are_those_of_the_paper():
    assert list(SPACES) == ["darts", "darts+none", "s1", "s2", "s3", "s4", "nb201"]
    for space in (space for space in SPACES.values() if space.family == "darts"):
        assert space.edges[:5] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
        assert (space.nodes, space.concat, space.topology) == ((2, 3, 4, 5), (2, 3, 4, 5), True)
        assert [space.keeps(node) for node in space.nodes] == [2, 2, 2, 2]
        for rows in space.operations.values():
            assert len(rows) == len(space.edges) == 14
            assert all(set(names) <= set(OPERATIONS) and len(names) == len(rows[0]) for names in rows)
    assert SPACES["s1"].operations["normal"][3] == ("skip_connect", "sep_conv_3x3")
    assert SPACES["s1"].operations["reduce"][0] == ("max_pool_3x3", "avg_pool_3x3")
    assert SPACES["s2"].operations["normal"][0] == ("skip_connect", "sep_conv_3x3")
    assert SPACES["s3"].operations["reduce"][9] == ("none", "skip_connect", "sep_conv_3x3")
    assert SPACES["s4"].operations["normal"][13] == ("noise", "sep_conv_3x3")
    assert SPACES["darts+none"].operations["normal"][0] == ("none", *SPACES["darts"].operations["reduce"][13])
    assert len(SPACES["darts"].operations["normal"][0]) == 7


def test_the_space_of_nas_bench_201():
    space = SPACES["nb201"]
    assert space.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    names = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert space.operations == {"cell": (names,) * 6}
    assert (space.nodes, space.concat, space.topology) == ((1, 2, 3), (3,), False)
    assert [space.keeps(node) for node in space.nodes] == [1, 2, 3]


def test_none_is_a_candidate_on_nas_bench_201_only():
    for space in SPACES.values():
        for cell_type, rows in space.operations.items():
            for edge, names in enumerate(rows):
                wanted = [index for index, name in enumerate(names) if name != "none" or space.name == "nb201"]
                assert space.candidates(cell_type, edge) == wanted


def test_all_architectures_of_nas_bench_201_survive_being_written_and_read():
    names = SPACES["nb201"].operations["cell"][0]
    texts = {str(Arch(operations)): operations for operations in itertools.product(names, repeat=6)}
    assert len(texts) == 15_625
    assert all(Arch.from_text(text) == Arch(operations) for text, operations in texts.items())
    text = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    assert texts[text] == (*names, "none"), "the edges are in the order of their nodes"


@pytest.mark.parametrize(
    ("old", "new"),
    [("|none~0|+", ""), ("none~2", "none~1"), ("none~2|", "none~2|+|none~0|"), ("|none~0|+", "none~0+"), ("+", "")],
)
def test_the_text_of_an_architecture_must_have_its_form(old, new):
    text = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert Arch.from_text(f" {text}\n") == Arch(("none",) * 6)
    with pytest.raises(ValueError, match="not of the form"):
        Arch.from_text(text.replace(old, new))
    with pytest.raises(ValueError, match="unknown operation 'conv'"):
        Arch.from_text(text.replace("none", "conv"))


@given(st.text(alphabet="|~+012 none", max_size=80))
def test_any_text_is_an_architecture_or_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        Arch.from_text(text)
