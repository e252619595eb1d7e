"""Broken and hostile input: every command refuses it in one line on stderr, and leaves no file behind."""

import copy
import json
import math
import pickle
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import runs
from genotypes import PUBLISHED, SPACES
from ptnas import Bilevel, SearchSettings
from tests.conftest import SMALL, load_script, write_image_folder

COMMANDS = {name: load_script(name).main for name in ("train_search", "select", "retrain", "analyze")}


def change(content, place, value):
    """Returns a copy of the content with this value at this place."""
    *path, last = place
    result = inner = copy.deepcopy(content)
    for key in path:
        inner = inner[key]
    inner[last] = value
    return result


@pytest.fixture
def refuse(capsys, recwarn):
    """Returns a function that runs a command line in the current folder and checks that one line refuses it."""

    def list_files():
        return {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}

    def refuse(line, words):
        (script, *arguments), before = shlex.split(line), list_files()
        capsys.readouterr()
        assert COMMANDS[script](arguments) == 2
        out, err = capsys.readouterr()
        assert words in err
        assert err.startswith(f"{script}.py: error: ")
        assert len(err.splitlines()) == 1
        assert not [str(each.message) for each in recwarn], "warnings are lines on stderr too"
        assert "Traceback" not in out
        assert list_files() == before

    return refuse


@pytest.fixture(scope="module")
def inputs(finished, tmp_path_factory):
    """Returns a folder with the files of finished runs and with broken ones."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("inputs"), dirs_exist_ok=True)
    content, whole = torch.load(folder / "supernet.pt"), (folder / "supernet.pt").read_bytes()
    torch.save({"state_dict": {}}, folder / "other.pt")
    torch.save(torch.zeros(3), folder / "tensor.pt")
    torch.save(change(content, ["settings", "alpha"], "fixed"), folder / "fixed.pt")
    torch.save(change(content, ["settings", "space"], "nb201"), folder / "nb201.pt")
    damaged = {"half.pt": whole[: len(whole) // 2], "cut.pt": whole[:-80], "foreign.pt": b"PK\x03\x04 else"}
    damaged |= {"empty.json": b"", "binary.json": b"\xff\xfe\x00", "list.json": b"[1, 2]", "deep.json": b"[" * 100_000}
    for name, text in damaged.items():
        (folder / name).write_bytes(text)
    odd = json.loads((folder / "genotype.json").read_text()) | {"dataset": "mine", "classes": 5}
    (folder / "odd.json").write_text(json.dumps(odd))
    write_image_folder(folder / "images")
    (folder / "nothing").mkdir()
    return folder


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "alpha": "random",
        "alpha-lr": "-1 nan",
        "batch-size": "1 1000001",
        "channels": "0 5000",
        "device": f"tpu {'mps' if torch.cuda.is_available() else 'cuda'}",
        "epochs": "-1 -3 two 1.5 1000000000000000000000",
        "image-size": "7 100000",
        "keep-every": "0",
        "layers": "2 100000",
        "limit": "0 7",
        "lr": "nan inf -0.1 fast",
        "noise": "pink",
        "order": "3",
        "preset": "desktop",
        "seed": "-1 1000000000000000000000",
        "sgas": "yes",
        "threads": "0 100000",
        "workers": "-1 100000",
    }.items(),
)
def test_a_value_that_an_option_must_not_have_is_refused(inputs, monkeypatch, refuse, option, values):
    monkeypatch.chdir(inputs)
    for value in values.split():
        refuse(f"train_search --space s2 --{option} {value}", value if option == "device" else option[:5])


@pytest.mark.parametrize(
    "name", ["half.pt", "cut.pt", "foreign.pt", "other.pt", "tensor.pt", "empty.json", "binary.json", "deep.json"]
)
def test_a_damaged_or_foreign_file_is_refused(inputs, monkeypatch, refuse, name):
    monkeypatch.chdir(inputs)
    refuse(f"select --ckpt {name}", f"{name} is damaged or no checkpoint")
    refuse(f"analyze fig1 --ckpt {name}", f"{name} is damaged or no checkpoint")
    foreign = name in ("other.pt", "tensor.pt")  # but whole
    refuse(f"retrain --arch {name}", f"{name} {'is damaged' if foreign else 'holds no genotype'}")
    if name.endswith(".pt"):
        refuse(f"train_search --space s2 --save {name} --resume", f"{name} is damaged or no checkpoint")


UNKNOWN = shlex.quote(str(PUBLISHED["DARTS_V2"]).replace("dil_conv_3x3", "conv"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train_search", "--space"),
        ("train_search --space s9", "'darts', 'darts+none', 's1'"),
        ("train_search --space nb201 --dataset imagenet16-120 --data nothing", "train_data_batch_1"),
        ("train_search --space s2 --dataset cifar11", "digits, cifar10"),
        ("train_search --space s2 --dataset ''", "a name or a folder is needed"),
        ("train_search --space s2 --dataset nothing", "needs the folders train/"),
        ("train_search --space s2 --dataset imagenet", "for retraining"),
        ("train_search --space s2 --layers 2", "at least 3 cells"),
        ("train_search --space s2 --sgas magnitude --alpha fixed", "orders the edges by α"),
        ("train_search --space s2 --save no/supernet.pt", "there is no folder"),
        ("train_search --space s2 --save nothing", "it is a folder"),
        ("train_search --space s2 --save supernet.png", "ends in .pt"),
        ("train_search --space s2 --save ''", "a file name is needed"),
        ("analyze fig3 --save .", "a file name is needed"),
        (f"train_search --space s2 --save {'x' * 1000}.pt", "File name too long"),
        ("train_search --space s2 --save network.pt --resume", "holds a network, and a supernet is needed"),
        ("select --ckpt missing.pt", "there is no file missing.pt"),
        ("select --ckpt fixed.pt --criterion magnitude", "kept α at 0"),
        ("select --ckpt supernet.pt --criterion strength", "'perturbation', 'magnitude'"),
        ("select --ckpt supernet.pt --tune-epochs -1", "must be a whole number from 0"),
        ("select --ckpt supernet.pt --dataset images", "other classes"),
        ("select --ckpt supernet.pt --benchmark nb201.csv", "for the space nb201"),
        ("select --ckpt supernet.pt --tune-epochs 3 --resume", "tune_epochs 1, and now it is 3"),
        ("select --ckpt supernet.pt --save other.pt", "ends in .json"),
        ("select --ckpt supernet.pt --save supernet.json", "use --save supernet-genotype.json"),
        ("select --ckpt nb201.pt --benchmark missing.csv", "there is no file"),
        ("retrain --arch DARTS_V3", "DARTS_V1, DARTS_V2"),
        ("retrain --arch list.json", "list.json holds no genotype"),
        ("retrain --arch \"Genotype(normal=__import__('os').abort())\"", "only lists, tuples, names"),
        (f"retrain --arch 'Genotype({'(' * 5000}'", "a bracket of the genotype is not closed"),
        (f"retrain --arch 'Genotype({'(' * 5000}{')' * 5001}'", "not of the form"),
        (f"retrain --arch {UNKNOWN}", "unknown operation 'conv'"),
        (f"retrain --arch {'x' * 1000}", f"no architecture '{'x' * 80}': neither Genotype(...)"),
        (f"retrain --arch '{'line ' * 30_000}\n\0'", "no architecture 'line line"),
        ("retrain --arch genotype.pt", "holds a selection, and a network is needed"),
        ("retrain --arch '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|' --dataset imagenet", "ImageNet"),
        ("retrain --arch DARTS_V2 --dataset imagenet --data nothing", "train/ and val/"),
        ("retrain --arch DARTS_V2 --dataset images --summary", "--summary reads no data"),
        ("retrain --arch odd.json --summary", "--summary reads no data"),
    ],
    ids=lambda text: text[:50],
)
def test_a_wrong_command_line_is_refused(inputs, monkeypatch, refuse, line, words):
    monkeypatch.chdir(inputs)
    refuse(line, words)


SUPERNET = ["state", "supernet"]
PRESENCE = [*SUPERNET, "_extra_state", "normal"]
WEIGHT = [*SUPERNET, "skeleton.classifier.weight"]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (["schema"], 2, "its schema is 2, not 5"),
        (["settings"], {"space": "s2", "epochs": 2, "dataset": "digits", "preset": "laptop"}, "bad.pt"),
        (["settings", "layers"], 4, "Missing key"),
        (["settings", "lr"], math.nan, "lr is 'nan'"),
        (["settings", "space"], "s3", "the presence of the normal cell"),
        (["classes"], [], "other classes or channels"),
        (["records"], [], "no epoch of this search is finished"),
        (WEIGHT, None, "holds no supernet"),
        (PRESENCE, [[[0, 1], True]] * 14, "the presence of the normal cell"),
    ],
)
def test_a_hostile_checkpoint_is_refused(folder, refuse, place, value, words):
    torch.save(change(torch.load("supernet.pt"), place, value), "bad.pt")
    refuse("select --ckpt bad.pt --criterion random --threads 1 --save other.json", words)


@pytest.mark.parametrize(
    ("place", "value"),
    [(["state", "w", "param_groups"], []), (["state", "alpha", "state"], 3), (["records"], [{"seconds": 1.0}] * 3)],
)
def test_a_state_that_does_not_fit_is_refused_when_a_search_is_resumed(folder, capsys, place, value):
    torch.save(change(torch.load("supernet.epoch001.pt"), place, value), "supernet.pt")
    assert COMMANDS["train_search"](["--space", "s2", "--epochs", "2", *SMALL, "--resume"]) == 2
    assert "train_search.py: error: supernet.pt does not fit" in capsys.readouterr().err.splitlines()[-1]


def test_a_pickle_with_a_payload_is_not_executed(tmp_path, monkeypatch, refuse):
    class Payload:
        def __reduce__(self):
            return open, ("mark", "w")

    monkeypatch.chdir(tmp_path)
    Path("evil.pt").write_bytes(pickle.dumps(Payload()))
    torch.save({"schema": 5, "kind": "supernet", "settings": {}, "records": [], "state": Payload()}, "zipped.pt")
    for name in ("evil.pt", "zipped.pt"):
        refuse(f"select --ckpt {name}", f"{name} is damaged or no checkpoint")
        refuse(f"train_search --space s2 --save {name} --resume", f"{name} is damaged or no checkpoint")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)


@given(place=st.integers(0, 10**6), value=JSON)
def test_a_checkpoint_with_anything_at_any_place_is_read_or_refused(inputs, place, value):
    content, path = torch.load(inputs / "supernet.pt"), inputs / "any.pt"
    places = [[key] for key in content] + [[part, key] for part in ("settings", "state") for key in content[part]]
    places += [["records", 0, key] for key in content["records"][0]] + [["records", 0], SUPERNET, PRESENCE, WEIGHT]
    torch.save(change(content, places[place % len(places)], value), path)
    try:
        checkpoint = runs.load_search(path)
        supernet = SearchSettings(layers=3, channels=2).build_supernet(SPACES["s2"], 10, 1)
        with runs.blame(path, "does not fit"):
            Bilevel(supernet, SearchSettings()).load_state_dict(checkpoint["state"])
    except runs.UserError as error:
        assert str(path) in str(error)


CELL = ["genotype", "normal"]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (["schema"], 2, "schema version 2"),
        ([*CELL, 0, 0], "max_pool_3x3", "max_pool_3x3"),
        ([*CELL, 0, 1], 5, "node 2 cannot take its input from node 5"),
        (CELL, [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]] * 5, "not the nodes of a cell of the space s2"),
        (["image_size"], 10**9, "image_size is '1000000000'"),
    ],
)
def test_a_hostile_genotype_is_refused(folder, refuse, place, value, words):
    Path("bad.json").write_text(json.dumps(change(json.loads(Path("genotype.json").read_text()), place, value)))
    refuse("retrain --arch bad.json --threads 1", words)


DAMAGES = {
    "a comma too many": (lambda text: text.replace(',\n "text"', ',,\n "text"'), "is no whole JSON: .* line "),
    "text alone": (lambda text: text.replace('"genotype": {', '"of": {'), "holds no genotype: 'genotype'"),
    "a comment": (lambda text: "# edited by hand\n" + text, "is no whole JSON: .* line 1 column 1"),
    "another text": (lambda text: text.replace("sep_conv_3x3', 0", "skip_connect', 0"), "its text is not that of its"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_genotype_file_that_was_edited_wrongly_is_refused(inputs, tmp_path, damage, words):
    text, path = (inputs / "genotype.json").read_text(), tmp_path / "edited.json"
    path.write_text(damage(text.replace("skip_connect', 0", "sep_conv_3x3', 0")))
    with pytest.raises(runs.UserError, match=words):
        runs.load_genotype(path)


def test_a_genotype_file_that_was_cut_short_anywhere_is_refused(inputs, tmp_path):
    text, path = (inputs / "genotype.json").read_text().strip(), tmp_path / "cut.json"
    for length in range(0, len(text), 7):
        path.write_text(text[:length])
        with pytest.raises(runs.UserError, match="holds no genotype"):
            runs.load_genotype(path)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory"), NameError])
def test_a_file_is_not_blamed_for_lack_of_memory_or_for_our_own_faults(error):
    with pytest.raises(type(error) if isinstance(error, Exception) else error), runs.blame(Path("file"), "is damaged"):
        raise error


@given(place=st.integers(0, 10**6), value=JSON)
def test_a_genotype_file_with_anything_at_any_place_is_read_or_refused(inputs, place, value):
    content, path = json.loads((inputs / "genotype.json").read_text()), inputs / "any.json"
    places = [[key] for key in content] + [["genotype", key] for key in content["genotype"]]
    places += [[*CELL, index, part] for index in range(8) for part in range(2)]
    path.write_text(json.dumps(change(content, places[place % len(places)], value)))
    try:
        genotype, origin = runs.load_genotype(path)
        SPACES[origin["space"]].check(genotype)
        assert 8 <= origin["image_size"] <= 4096
    except runs.UserError as error:
        assert str(path) in str(error)


def test_a_finished_selection_whose_result_was_changed_is_told(folder, capsys):
    found = json.loads(Path("genotype.json").read_text())
    for content in ({**found, "valid_accuracy": None}, found["genotype"]):
        Path("genotype.json").write_text(json.dumps(content))
        assert COMMANDS["select"](["--ckpt", "supernet.pt", "--tune-epochs", "1", "--resume"]) == 2
        assert "delete it, and --resume writes it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change_lines", "words"),
    [
        (lambda lines: ["arch,cifar10,cifar100", *lines[1:]], "the header arch,cifar10"),
        (lambda lines: ["\0", *lines], "no table of NAS-Bench-201"),
        (lambda lines: [*lines[:3], lines[3] + ",3", *lines[4:]], "line 4: one line for each architecture"),
        (lambda lines: [*lines[:3], lines[3].replace(",60", ",nan"), *lines[4:]], "line 4: one line"),
        (lambda lines: [*lines[:3], lines[3].replace("60", "sixty"), *lines[4:]], "could not convert"),
        (lambda lines: [*lines[:3], lines[3].replace("none", "zero", 1), *lines[4:]], "line 4: one line"),
        (lambda lines: [*lines, lines[5]], "line 15627: one line for each architecture"),
        (lambda lines: [*lines[:700], *lines[701:]], "is missing"),
    ],
)
def test_a_table_that_is_not_sound_is_refused(folder, benchmark, refuse, change_lines, words):
    torch.save(change(torch.load("supernet.pt"), ["settings", "space"], "nb201"), "nb201.pt")
    Path("bad.csv").write_text("\n".join(change_lines(benchmark.read_text().splitlines())))
    refuse("select --ckpt nb201.pt --benchmark bad.csv", words)
