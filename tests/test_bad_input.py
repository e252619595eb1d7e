"""Hostile and broken input: files, folders and command lines that are refused in one line, and leave nothing behind."""

from __future__ import annotations

import copy
import json
import pickle
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import runs
from genotypes import PUBLISHED, SPACES, Arch
from ptnas import Search, SearchSettings
from tests.conftest import load_script, write_image_folder

SEARCH = ["--space", "s2", "--epochs", "2", "--channels", "4", "--limit", "200", "--lr", "0.1", "--threads", "1"]
train_search, select, retrain, analyze, reproduce = (
    load_script(name).main for name in ("train_search", "select", "retrain", "analyze", "reproduce")
)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which all three commands have run, as short as can be."""
    folder = tmp_path_factory.mktemp("finished")
    small = ["--epochs", "1", "--channels", "2", "--limit", "64", "--threads", "1", "--save"]
    assert train_search(["--space", "s2", *small, str(folder / "supernet.pt")]) == 0
    none = ["--tune-epochs", "0", "--threads", "1", "--save", str(folder / "genotype.json")]
    assert select(["--ckpt", str(folder / "supernet.pt"), *none]) == 0
    assert retrain(["--arch", str(folder / "genotype.json"), *small, str(folder / "network.pt")]) == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(finished, tmp_path / "copy")


def bad_inputs(folder):
    """(command, arguments, words of the message). FOLDER has the files of a finished run."""
    supernet, genotype, network = (str(folder / name) for name in ("supernet.pt", "genotype.json", "network.pt"))
    whole = (folder / "supernet.pt").read_bytes()
    (folder / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "foreign.pt").write_bytes(b"PK\x03\x04 something else")
    (folder / "empty.pt").write_bytes(b"")
    torch.save({"state_dict": {}}, folder / "other_project.pt")
    torch.save(torch.zeros(3), folder / "tensor.pt")
    content = torch.load(supernet)
    runs.save_checkpoint(folder / "future.pt", {**content, "schema": 99})
    runs.save_checkpoint(folder / "other_space.pt", {**content, "settings": {**content["settings"], "space": "s3"}})
    runs.save_checkpoint(folder / "other_shape.pt", {**content, "settings": {**content["settings"], "channels": 8}})
    runs.save_checkpoint(folder / "no_state.pt", {key: value for key, value in content.items() if key != "state"})
    fixed = {**content, "settings": {**content["settings"], "alpha": "fixed"}}
    runs.save_checkpoint(folder / "fixed.pt", fixed)
    (folder / "not.json").write_text("{")
    (folder / "list.json").write_text("[1, 2]")
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    found = json.loads((folder / "genotype.json").read_text())
    bad = json.loads(json.dumps(found))
    bad["genotype"]["normal"][0][0] = "sep_conv_9x9"
    (folder / "operation.json").write_text(json.dumps(bad))
    (folder / "preset.json").write_text(json.dumps({**found, "preset": "desktop"}))
    (folder / "arch.json").write_text(json.dumps({**found, "arch": "|none~0|"}))
    (folder / "schema.json").write_text(json.dumps({**found, "schema": 99}))
    write_image_folder(folder / "broken" / "images")
    (folder / "broken" / "images" / "train" / "pear" / "0.png").write_bytes(b"nothing")
    (folder / "nothing").mkdir()
    sealed(folder / "schema1.pt", content, ["schema"], 1)
    for name, (place, value) in HOSTILE_CHECKPOINTS.items():
        sealed(folder / f"{name}.pt", content, place, value)
    for name, (place, value) in HOSTILE_GENOTYPES.items():
        (folder / f"{name}.json").write_text(json.dumps(changed(found, place, value)))
    epoch = {"epoch": 1, "valid_accuracy": 9.0, "skip_gap": 0.1}
    for name, bad in (("null", None), ("infinite", float("inf"))):
        (folder / f"{name}.jsonl").write_text(json.dumps({**epoch, "valid_accuracy": bad}))
    (folder / "huge.json").write_text(json.dumps(found) + " " * (10 << 20))
    (folder / "deep.json").write_text("[" * 100_000)
    write_benchmarks(folder)
    sealed(folder / "nb201.pt", content, ["settings", "space"], "nb201")
    benchmark = ["--ckpt", str(folder / "nb201.pt"), "--benchmark"]
    search = ["--space", "s2"]
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    return [
        (train_search, [], "--space"),
        (train_search, ["--space", "s9"], "'darts', 'darts+none', 's1'"),
        (train_search, [*search, "--dataset", "cifar11"], "digits, cifar10"),
        (train_search, [*search, "--dataset", str(folder / "nothing")], "needs the folders train/"),
        (train_search, [*search, "--dataset", str(folder / "broken" / "images")], "cannot read the image"),
        (train_search, [*search, "--dataset", str(folder / "broken" / "images"), "--workers", "1"], "0.png"),
        (train_search, [*search, "--dataset", "imagenet"], "for retraining"),
        (train_search, [*search, "--epochs", "0"], "at least 1"),
        (train_search, [*search, "--epochs", "-3"], "at least 1"),
        (train_search, [*search, "--epochs", "two"], "'two'"),
        (train_search, [*search, "--epochs", "1.5"], "'1.5'"),
        (train_search, [*search, "--lr", "nan"], "above 0"),
        (train_search, [*search, "--lr", "0"], "above 0"),
        (train_search, [*search, "--lr", "inf"], "above 0"),
        (train_search, [*search, "--alpha-lr", "-1"], "above 0"),
        (train_search, [*search, "--batch-size", "0"], "at least 2"),
        (train_search, [*search, "--image-size", "7"], "at least 8"),
        (train_search, [*search, "--limit", "0"], "at least 8"),
        (train_search, [*search, "--layers", "2"], "3 cells at least"),
        (train_search, [*search, "--threads", "0"], "at least 1"),
        (train_search, [*search, "--seed", "-1"], "at least 0"),
        (train_search, [*search, "--order", "3"], "--order"),
        (train_search, [*search, "--alpha", "random"], "'bilevel', 'fixed'"),
        (train_search, [*search, "--device", "tpu"], "--device"),
        (train_search, [*search, "--device", absent], f"no device {absent}"),
        (train_search, [*search, "--preset", "desktop"], "'paper', 'laptop'"),
        (train_search, [*search, "--what"], "--what"),
        (train_search, [*search, "--save", str(folder / "no" / "supernet.pt")], "there is no folder"),
        (train_search, [*search, "--save", str(folder)], "folder"),
        (train_search, [*search, "--save", str(folder / "supernet.png")], "ends in .pt"),
        (train_search, [*search, "--save", str(folder / "supernet.json")], "ends in .pt"),
        (select, ["--ckpt", supernet, "--save", str(folder / "other.pt")], "ends in .json"),
        (select, ["--ckpt", supernet, "--save", str(folder / "supernet.json")], "would take the place of"),
        (retrain, ["--arch", "DARTS_V2", "--save", str(folder / "network.json")], "ends in .pt"),
        (retrain, ["--arch", str(folder / "preset.json")], "holds no genotype"),
        (train_search, [*search, "--save", str(folder / "not.json" / "supernet.pt")], "there is no folder"),
        (train_search, ["--space", "s3", "--save", supernet, "--resume"], "space s2, and now it is s3"),
        (train_search, [*search, "--save", str(folder / "truncated.pt"), "--resume"], "damaged"),
        (train_search, [*search, "--save", network, "--resume"], "holds a network"),
        (select, [], "--ckpt"),
        (select, ["--ckpt", str(folder / "missing.pt")], "there is no file"),
        (select, ["--ckpt", str(folder)], "damaged or no checkpoint"),
        (select, ["--ckpt", str(folder / "truncated.pt")], "damaged or no checkpoint"),
        (select, ["--ckpt", str(folder / "empty.pt")], "damaged or no checkpoint"),
        (select, ["--ckpt", str(folder / "foreign.pt")], "damaged or no checkpoint"),
        (select, ["--ckpt", genotype], "damaged or no checkpoint"),
        (select, ["--ckpt", str(folder / "other_project.pt")], "not a checkpoint of these commands"),
        (select, ["--ckpt", str(folder / "tensor.pt")], "not a checkpoint of these commands"),
        (select, ["--ckpt", str(folder / "future.pt")], "schema version 99"),
        (select, ["--ckpt", str(folder / "other_space.pt")], "does not fit"),
        (select, ["--ckpt", str(folder / "other_shape.pt")], "does not fit"),
        (select, ["--ckpt", str(folder / "no_state.pt")], "not a checkpoint of these commands"),
        (select, ["--ckpt", network], "holds a network, and a supernet is needed"),
        (select, ["--ckpt", str(folder / "fixed.pt"), "--criterion", "magnitude"], "kept at 0"),
        (select, ["--ckpt", supernet, "--criterion", "strength"], "'perturbation', 'magnitude'"),
        (select, ["--ckpt", supernet, "--metric", "f1"], "'accuracy', 'loss'"),
        (select, ["--ckpt", supernet, "--tune-epochs", "-1"], "at least 0"),
        (select, ["--ckpt", supernet, "--dataset", str(write_image_folder(folder / "pears"))], "other classes"),
        (select, ["--ckpt", supernet, "--save", genotype, "--resume", "--tune-epochs", "3"], "now it is 3"),
        (select, ["--ckpt", supernet, "--save", str(folder / "no" / "genotype.json")], "there is no folder"),
        (retrain, [], "--arch"),
        (retrain, ["--arch", "DARTS_V3"], "DARTS_V1, DARTS_V2"),
        (retrain, ["--arch", str(folder / "not.json")], "holds no genotype"),
        (retrain, ["--arch", str(folder / "list.json")], "not a JSON object"),
        (retrain, ["--arch", str(folder / "binary.json")], "holds no genotype"),
        (retrain, ["--arch", str(folder / "operation.json")], "unknown operation 'sep_conv_9x9'"),
        (retrain, ["--arch", str(folder / "schema.json")], "schema version 99"),
        (retrain, ["--arch", supernet], "holds no genotype"),
        (retrain, ["--arch", "Genotype(normal=__import__('os').abort())"], "--arch"),
        (retrain, ["--arch", str(PUBLISHED["DARTS_V2"]).replace("dil_conv_3x3", "conv")], "unknown operation 'conv'"),
        (retrain, ["--arch", "|conv~0|"], "unknown operation 'conv'"),
        (retrain, ["--arch", "|none~0|+|none~0|none~1|+|none~0|none~1|none~1|"], "not of the form"),
        (retrain, ["--arch", str(folder / "arch.json")], "not of the form"),
        (train_search, ["--space", "nb201", "--dataset", "imagenet16-120", "--data", str(folder)], "data_batch_1 is"),
        (train_search, [*search, "--keep-every", "0"], "at least 1"),
        (select, ["--ckpt", supernet, "--benchmark", "nb201.csv"], "belongs to the space nb201"),
        (retrain, ["--arch", "DARTS_V2", "--dataset", str(folder), "--summary"], "--summary needs no data"),
        (retrain, ["--arch", "DARTS_V2", "--dataset", "imagenet", "--data", str(folder)], "train/ and val/"),
        (retrain, ["--arch", "DARTS_V2", "--epochs", "none"], "'none'"),
        (select, ["--ckpt", str(folder / "schema1.pt")], "schema version 1, and this program reads 2"),
        *((select, ["--ckpt", str(folder / f"{name}.pt")], words) for name, words in IN_CHECKPOINTS.items()),
        *((retrain, ["--arch", str(folder / f"{name}.json")], words) for name, words in IN_GENOTYPES.items()),
        (retrain, ["--arch", str(folder / "huge.json")], "more than 10 MiB"),
        (retrain, ["--arch", str(folder / "deep.json")], "holds no genotype"),
        *((select, [*benchmark, str(folder / f"{name}.csv")], words) for name, words in IN_BENCHMARKS.items()),
        (select, [*benchmark, str(folder / "none.csv")], "there is no file"),
        (select, [*benchmark, str(folder)], "--benchmark"),
        (train_search, [*search, "--batch-size", "1"], "at least 2"),
        (train_search, [*search, "--threads", "100000"], "at most 1024"),
        (train_search, [*search, "--workers", "100000"], "at most 256"),
        (train_search, [*search, "--layers", "100000"], "at most 1000"),
        (train_search, [*search, "--channels", "1000000"], "at most 4096"),
        (train_search, [*search, "--image-size", "100000"], "at most 4096"),
        (train_search, [*search, "--epochs", "9" * 30], "at most 1000000"),
        (train_search, [*search, "--seed", "9" * 30], "at least 0"),
        (train_search, [*search, "--checkpoint-minutes", "0"], "above 0"),
        (train_search, [*search, "--checkpoint-minutes", "soon"], "'soon'"),
        (train_search, [*search, "--sgas", "magnitude", "--alpha", "fixed"], "orders the edges by α"),
        (train_search, [*search, "--epochs"], "expected one argument"),
        (train_search, [*search, "supernet.pt"], "unrecognized arguments"),
        (train_search, [*search, "--amp", "yes"], "unrecognized arguments"),
        (select, ["--ckpt", supernet, "--compile"], "unrecognized arguments"),
        (select, ["--ckpt", supernet, "--tune", "never"], "'fixed', 'converge'"),
        (select, ["--ckpt", supernet, "--limit", "100"], "unrecognized arguments"),
        (retrain, ["--arch", ""], "no architecture ''"),
        (retrain, ["--arch", str(folder)], "no architecture"),
        (retrain, ["--arch", "Genotype(normal=[], normal_concat=[], reduce=[], reduce_concat=[])"], "normal"),
        (retrain, ["--arch", "Genotype(" + "(" * 5000], "not of the form"),
        (retrain, ["--arch", "x" * 100_000], "no architecture"),
        (retrain, ["--arch", "x" * 1000], "File name too long"),
        (train_search, [*search, "--save", "x" * 1000 + ".pt"], "File name too long"),
        (train_search, [*search, "--dataset", "x" * 1000], "File name too long"),
        (select, ["--ckpt", "x" * 1000], "File name too long"),
        (retrain, ["--arch", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "--dataset", "imagenet"], "ImageNet"),
        (analyze, [], "COMMAND"),
        (analyze, ["fig5"], "invalid choice"),
        (analyze, ["fig1", "--ckpt", network], "holds a network, and a supernet is needed"),
        (analyze, ["fig1", "--ckpt", str(folder / "truncated.pt")], "damaged"),
        (analyze, ["fig1", "--ckpt", str(folder / "layers.pt")], "layers is 0"),
        (reproduce, ["fig6", str(folder / "supernet.jsonl")], "holds a supernet, and a selection is needed"),
        (reproduce, ["fig6", "log.txt"], "the log of a selection"),
        (analyze, ["fig3", str(folder / "null.jsonl")], "not the log of a search"),
        (analyze, ["fig3", str(folder / "infinite.jsonl")], "not the log of a search"),
        (reproduce, ["fig6", str(folder / "selection.jsonl")], "criterion is None"),
        (analyze, ["cells", str(folder / "edge.json")], "cannot take its input"),
        (analyze, ["table1", "--ckpt", supernet, "--shuffles", "9999999"], "at most 100000"),
        (reproduce, ["table4", "--benchmark", str(folder / "header.csv")], "the header"),
        (reproduce, ["table2", "--folder", str(folder / "not.json")], "no networks"),
        (reproduce, ["fig9", "--ckpt", str(folder / "schema1.pt")], "schema version 1"),
    ]  # fmt: skip


@given(place=st.integers(0, 10**6), value=JSON)
def test_a_sealed_checkpoint_with_anything_at_any_place_is_read_or_refused(finished, place, value):
    content = torch.load(finished / "supernet.pt", weights_only=True)
    places = [[key] for key in content] + [[part, key] for part in ("settings", "state") for key in content[part]]
    places += [["state", "bilevel", key] for key in content["state"]["bilevel"]]
    places += [["records", 0, key] for key in content["records"][0]] + [["records"], ["records", 0]]
    path = finished / "any.pt"
    sealed(path, content, places[place % len(places)], value)
    try:
        checkpoint = runs.load_search(path)
        supernet = SearchSettings.of(checkpoint["settings"]).supernet(SPACES["s2"], 10, 1)
        runs.load_state(Search(supernet, SearchSettings(epochs=1), None, None), checkpoint["state"], path)
    except runs.UserError as error:
        assert str(path) in str(error)
    finally:
        path.unlink()


def changed(content, place, value):
    """A copy with this value at this place."""
    *path, last = place
    result = inner = copy.deepcopy(content)
    for key in path:
        inner = inner[key]
    inner[last] = value
    return result


def sealed(path, content, place, value):
    runs.save_checkpoint(path, changed(content, place, value))


SUPERNET = ["state", "bilevel", "supernet"]
# A place in a checkpoint, and what is written there with a good checksum
HOSTILE_CHECKPOINTS = {
    "layers": (["settings", "layers"], 0),
    "many": (["settings", "layers"], 10**9),
    "text": (["settings", "channels"], "16"),
    "boolean": (["settings", "epochs"], True),
    "noise": (["settings", "noise"], "pink"),
    "rate": (["settings", "lr"], float("nan")),
    "unknown": (["settings", "space"], ["s2"]),
    "settings": (["settings"], None),
    "kind": (["kind"], {}),
    "classes": (["classes"], []),
    "size": (["image_size"], 1 << 40),
    "records": (["records"], [{"epoch": "one"}]),
    "unbegun": (["records"], []),
    "weights": ([*SUPERNET, "skeleton.classifier.weight"], torch.zeros(3)),
    "weightless": ([*SUPERNET, "skeleton.classifier.weight"], None),
    "infinite": ([*SUPERNET, "alpha.normal"], torch.full((14, 2), torch.inf)),
    "presence": ([*SUPERNET, "_extra_state", "normal"], [[[0, 7], False]] * 14),
    "undecided": ([*SUPERNET, "_extra_state", "normal"], [[[0, 1], True]] * 14),
    "state": (["state"], {"progress": [], "done": 1, "bilevel": {"supernet": []}}),
    "stateless": (["state"], {}),
    "sparse": ([*SUPERNET, "alpha.normal"], torch.ones(14, 2).to_sparse()),
    "complex": ([*SUPERNET, "alpha.normal"], torch.ones(14, 2, dtype=torch.complex64)),
    "clipped": (["settings", "clip"], torch.ones(2)),
    "version": (["schema"], torch.tensor(2)),
    "ended": (["finished"], torch.ones(2)),
    "generators": (["random"], {5: 1}),
    "turns": (["state", "progress"], [{"over": False, "turns": -3, "rows": None, "value": None}]),
    "rows": (["state", "progress"], [{"over": True, "turns": 3, "rows": [[1]], "value": None}]),
    "words": (["state", "progress"], [{"over": True, "turns": 3, "rows": [[("one",) * 5]], "value": None}]),
    "real": ([*SUPERNET, "_extra_state", "normal"], [[[0.0], True]] * 14),
    "timeless": (["records", 0], {"epoch": 1, "valid_accuracy": 9.0, "skip_gap": None, "weights": {}}),
    "tensor_record": (["records", 0, "extra"], torch.ones(2)),
    "selection": (["kind"], "selection"),
}
IN_CHECKPOINTS = {
    "layers": "layers is 0",
    "many": "layers is 1000000000",
    "text": "channels is '16'",
    "boolean": "epochs is True",
    "noise": "noise is 'pink'",
    "rate": "settings.lr is not finite",
    "unknown": "space is ['s2']",
    "settings": "settings is None",
    "kind": "not a checkpoint of these commands",
    "classes": "classes is []",
    "size": "image_size is 1099511627776",
    "records": "a record lacks something",
    "unbegun": "0 records of 1 steps",
    "weights": "size mismatch",
    "weightless": "does not fit",
    "infinite": "state.bilevel.supernet.alpha.normal is not finite",
    "presence": "presence",
    "undecided": "presence",
    "state": "bilevel is {'supernet': []}",
    "stateless": "progress is None",
    "sparse": "state.bilevel.supernet.alpha.normal is no tensor of numbers",
    "complex": "state.bilevel.supernet.alpha.normal is no tensor of numbers",
    "clipped": "settings.clip is no tensor",
    "version": "schema version tensor(2)",
    "ended": "finished is no tensor",
    "generators": "random is {5: 1}",
    "turns": "progress is",
    "rows": "progress is",
    "words": "progress is",
    "real": "presence",
    "timeless": "a record lacks something",
    "tensor_record": "records.0.extra is no tensor",
    "selection": "holds a selection, and a supernet is needed",
}
CELL = ["genotype", "normal"]
HOSTILE_GENOTYPES = {
    "future": (["schema"], 2),
    "edge": ([*CELL, 0, 1], 5),
    "negative": ([*CELL, 0, 1], -1),
    "fraction": ([*CELL, 0, 1], 0.5),
    "true": ([*CELL, 0, 1], True),
    "twice": (CELL, [["sep_conv_3x3", 0]] * 8),
    "foreign": ([*CELL, 0, 0], "max_pool_3x3"),
    "null": ([*CELL, 0], None),
    "lonely": (CELL, [["sep_conv_3x3", 0]] * 3),
    "nodes": (CELL, [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]] * 5),
    "concat": (["genotype", "normal_concat"], [2, 3, 4, 9]),
    "partial": (["genotype", "normal_concat"], [2, 3, 4]),
    "field": (["genotype", "extra"], 1),
    "genotype": (["genotype"], "Genotype()"),
    "space": (["space"], "s9"),
    "family": (["space"], "nb201"),
    "image": (["image_size"], "large"),
    "pixels": (["image_size"], 10**9),
    "path": (["data"], 3),
    "name": (["dataset"], ["digits"]),
    "accuracy": (["valid_accuracy"], float("nan")),
    "missing": (["schema"], None),
    "note": (["note"], [float("nan")]),
}
IN_GENOTYPES = {
    "future": "schema version 2",
    "edge": "node 2 cannot take its input from node 5",
    "negative": "cannot take its input from node -1",
    "fraction": "cannot take its input from node 0.5",
    "true": "cannot take its input from node True",
    "twice": "takes both inputs from node 0",
    "foreign": "max_pool_3x3 is no answer on the edge",
    "null": "is not an (operation, input node) pair",
    "lonely": "two (operation, input node) pairs",
    "nodes": "not the nodes of a cell of the space s2",
    "concat": "distinct nodes from 2 to 5",
    "partial": "not the nodes of a cell of the space s2",
    "field": "exactly the fields",
    "genotype": "exactly the fields",
    "space": "space is 's9'",
    "family": "does not fit its space, nb201",
    "image": "image_size is 'large'",
    "pixels": "image_size is '1000000000'",
    "path": "data is '3'",
    "name": "dataset is",
    "accuracy": "valid_accuracy is 'nan'",
    "missing": "schema version None",
    "note": "it.note.0 is not finite",
}
IN_BENCHMARKS = {
    "header": "the header",
    "void": "the header",
    "short": "is missing",
    "word": "line 2: could not convert",
    "percent": "line 2: accuracies are percentages",
    "nan": "line 2: accuracies are percentages",
    "columns": "line 2: four fields are needed",
    "arch": "line 2: unknown operation",
    "again": "line 3: |none~0|",
    "binary": "line 1",
}


def write_benchmarks(folder):
    header, arch = "arch,cifar10,cifar100,imagenet16-120\n", str(Arch(("none",) * 6))
    for name, text in {
        "header": "arch,error\n",
        "void": "",
        "short": f"{header}{arch},10,10,10\n",
        "word": f"{header}{arch},ten,10,10\n",
        "percent": f"{header}{arch},101,10,10\n",
        "nan": f"{header}{arch},nan,10,10\n",
        "columns": f"{header}{arch},10,10\n",
        "arch": f"{header}|conv~0|,10,10,10\n",
        "again": f"{header}{arch},10,10,10\n{arch},10,10,10\n",
    }.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")


def test_bad_input_ends_in_one_clear_line_and_leaves_nothing_behind(folder, capsys, monkeypatch):
    cases = bad_inputs(folder)
    assert len(cases) >= 150
    work = folder / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    state = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    wrong = []
    for command, arguments, words in cases:
        status = command(arguments)
        out, err = capsys.readouterr()
        after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        clear = words in err and len(err.strip().splitlines()) == 1 and "Traceback" not in err + out
        if status != 2 or not clear or after != state:
            wrong.append((arguments, status, words, err, sorted(after.keys() ^ state.keys())))
            state = after
    assert not wrong


def test_a_pickle_with_a_payload_is_not_executed(tmp_path, capsys):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload()))
    torch.save({"schema": 2, "kind": "supernet", "state": Payload()}, tmp_path / "zipped.pt")
    runs.save_checkpoint(tmp_path / "sealed.pt", {"schema": 2, "kind": "supernet", "state": Payload()})
    (tmp_path / "mark").unlink(missing_ok=True)
    for name in ("evil.pt", "zipped.pt", "sealed.pt"):
        assert select(["--ckpt", str(tmp_path / name)]) == 2
        assert train_search([*SEARCH, "--save", str(tmp_path / name), "--resume"]) == 2
        assert analyze(["proposition", "--ckpt", str(tmp_path / name), "--save", str(tmp_path / "p.png")]) == 2
    assert not (tmp_path / "mark").exists()
    assert capsys.readouterr().err.count("damaged or no checkpoint") == 9


@given(place=st.integers(0, 10**6), value=JSON)
def test_a_genotype_file_with_anything_at_any_place_is_read_or_refused(finished, place, value):
    """As a file that is read it can be trained from."""
    content = json.loads((finished / "genotype.json").read_text())
    places = [[key] for key in content] + [["genotype", key] for key in content["genotype"]]
    places += [["genotype", "reduce", index, part] for index in range(8) for part in range(2)]
    path = finished / "any.json"
    path.write_text(json.dumps(changed(content, places[place % len(places)], value)))
    try:
        architecture, origin = runs.load_architecture(str(path))
    except runs.UserError as error:
        assert str(path) in str(error)
    else:
        SPACES[origin["space"]].check(architecture)
        assert 8 <= origin["image_size"] <= 4096
    finally:
        path.unlink()


@given(data=st.binary(max_size=200), text=st.text(max_size=200))
def test_any_bytes_are_refused_as_any_of_the_files(finished, data, text):
    path = finished / "any.pt"
    for content in (data, text.encode("utf-8", "surrogatepass")):
        path.write_bytes(content)
        for read in (
            lambda: runs.load_checkpoint(path, "supernet"),
            lambda: runs.load_architecture(str(path)),
            lambda: runs.load_benchmark(path),
        ):
            with pytest.raises(runs.UserError):
                read()
    path.unlink()


def test_a_supernet_with_other_moments_is_refused_when_its_search_is_to_go_on(folder, capsys):
    save, small = folder / "supernet.pt", ["--epochs", "1", "--channels", "2", "--limit", "64", "--threads", "1"]
    content = torch.load(save, weights_only=True)
    moments = ["state", "bilevel", "w_optimizer", "state"]
    for place, value in (
        ([*moments, 0], {"momentum_buffer": torch.zeros(3)}),
        ([*moments, 0], {"speed": torch.zeros(3)}),
        ([*moments, 10**6], {"momentum_buffer": torch.zeros(3)}),
        (["state", "done"], -1),
        (["state", "done"], "0"),
        (["state", "bilevel", "steps"], None),
        (["state", "progress"], [{"over": True}]),
        (["state"], None),
        (["records"], []),
    ):
        runs.save_checkpoint(save, changed({**content, "finished": False}, place, value))
        assert train_search(["--space", "s2", *small, "--save", str(save), "--resume"]) == 2, place
        error = capsys.readouterr().err.splitlines()[-1]
        assert any(words in error for words in ("does not fit", "records", "random", "is not as")), (place, error)


def test_what_one_list_holds_many_times_is_looked_at_once():
    value = [1.0]
    for _ in range(50):
        value = [value, value]
    assert runs.odd(value, "value") is None


def test_a_finished_selection_whose_result_was_changed_is_told(folder, capsys):
    found = json.loads((folder / "genotype.json").read_text())
    for changed in ({k: v for k, v in found.items() if k != "valid_accuracy"}, found["genotype"]):
        (folder / "genotype.json").write_text(json.dumps(changed))
        line = ["--ckpt", str(folder / "supernet.pt"), "--tune-epochs", "0", "--threads", "1", "--resume"]
        assert select([*line, "--save", str(folder / "genotype.json")]) == 2
        assert "where it is missing, --resume writes it again" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named_before_the_work_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs.os, "access", lambda path, mode: False)
    assert train_search([*SEARCH, "--save", str(tmp_path / "supernet.pt")]) == 2
    assert "read-only" in capsys.readouterr().err
