"""SGAS end to end: what the search decides, select.py writes; what it leaves undecided, select.py decides."""

from __future__ import annotations

import json

import pytest
import torch

import runs
from data import load_supernet
from genotypes import SPACES
from ptnas import evaluate
from tests.conftest import blank, load_script

SCRIPTS = {f"{name}.py": load_script(name).main for name in ("train_search", "select")}


@pytest.mark.parametrize("criterion", ["magnitude", "perturbation"])
@pytest.mark.parametrize("space", ["s2", "nb201"])
def test_select_writes_the_genotype_of_a_supernet_that_sgas_has_decided(space, criterion, tmp_path, capsys):
    path, save = tmp_path / "supernet.pt", tmp_path / "genotype.json"
    flags = ["--space", space, "--epochs", "3", "--channels", "2", "--limit", "64", "--save", str(path)]
    assert SCRIPTS["train_search.py"]([*flags, "--sgas", criterion]) == 0
    assert SCRIPTS["select.py"](["--ckpt", str(path), "--save", str(save)]) == 0
    said = capsys.readouterr()
    assert "the search decided all edges" in said.err
    found = json.loads(save.read_text())
    assert found["search"]["sgas"] == criterion
    records = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert found["decisions"] == [made for record in records for made in record["decisions"]]
    edges = [made for made in found["decisions"] if "edge" in made]
    assert len(edges) == (6 if space == "nb201" else 16)
    architecture, _ = runs.load_architecture(str(save))
    for made in edges:
        source, node = made["edge"]
        assert (made["operation"], source, node) in architecture.cells[made["cell"]].operations
    assert found["valid_accuracy"] == pytest.approx(records[-1]["valid_accuracy"]), "nothing changed since"
    assert not blank(save.with_suffix(".png"))
    assert not blank(path.with_suffix(".png"))
    again = save.read_bytes()
    assert SCRIPTS["select.py"](["--ckpt", str(path), "--save", str(save), "--resume"]) == 0
    assert save.read_bytes() == again


def test_the_accuracy_of_a_genotype_is_measured_after_the_last_decision(tmp_path):
    """The records of a search are measured before the decisions of their epoch: here before all of them."""
    path, save = tmp_path / "supernet.pt", tmp_path / "genotype.json"
    flags = ["--space", "s3", "--epochs", "1", "--channels", "2", "--limit", "64", "--save", str(path)]
    assert SCRIPTS["train_search.py"]([*flags, "--sgas", "magnitude"]) == 0
    assert SCRIPTS["select.py"](["--ckpt", str(path), "--save", str(save)]) == 0
    found, trained = json.loads(save.read_text()), load_supernet(path)
    (measured,) = evaluate(trained.bilevel.supernet, trained.valid, 512)
    assert found["valid_accuracy"] == measured.accuracy != found["supernet_accuracy"]


def test_what_sgas_has_left_undecided_is_selected(tmp_path):
    path, save = tmp_path / "supernet.pt", tmp_path / "genotype.json"
    flags = ["--space", "s3", "--epochs", "4", "--channels", "2", "--limit", "64", "--save", str(path)]
    assert SCRIPTS["train_search.py"]([*flags, "--sgas", "magnitude", "--keep-every", "1"]) == 0
    snapshot = runs.name_snapshot(path, 2)
    records = torch.load(snapshot, weights_only=True)["records"]
    before = [made for record in records for made in record["decisions"] if "edge" in made]
    assert 0 < len(before) < 16
    assert SCRIPTS["select.py"](["--ckpt", str(snapshot), "--tune-epochs", "0", "--save", str(save)]) == 0
    decisions = json.loads(save.read_text())["decisions"]
    kept = [made for made in decisions if "edge" in made]
    assert kept[: len(before)] == before
    assert len(kept) > len(before)
    assert len({(made["cell"], *made["edge"]) for made in kept}) == len(kept), "no edge is decided twice"
    architecture, _ = runs.load_architecture(str(save))
    for made in before:
        source, node = made["edge"]
        stands = [o for o, s, n in architecture.cells[made["cell"]].operations if (s, n) == (source, node)]
        assert stands in ([made["operation"]], [])
    assert len(architecture.normal) == sum(SPACES["s3"].keeps(node) for node in SPACES["s3"].nodes)


def test_sgas_with_fixed_alpha_is_refused(tmp_path, capsys):
    flags = ["--space", "s2", "--alpha", "fixed", "--sgas", "magnitude", "--save", str(tmp_path / "s.pt")]
    assert SCRIPTS["train_search.py"](flags) == 2
    assert "orders the edges by α" in capsys.readouterr().err
