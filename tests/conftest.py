"""Helpers of several tests. One thread: the networks here are too small for more."""

import importlib.util
import itertools
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import Phase, settings
from PIL import Image

import runs
from genotypes import SPACES, Arch
from ptnas import Supernet

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)
quick = {"phases": [Phase.generate], "max_examples": 25}  # shrinking an example that fails can take minutes
settings.register_profile("ptnas", deadline=None, derandomize=True, database=None, **quick)
settings.load_profile("ptnas")


class Batches:
    """A data set in memory that follows `ptnas.Data`, without augmentation."""

    def __init__(self, images, labels, share=(0, 1)):
        self.images, self.labels, self.share = images, labels, share

    def __len__(self):
        return len(self.labels)

    def count(self, size):
        return -(-len(self) // size)

    def batches(self, size, epoch):
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(epoch))
        for whole in order.tensor_split(self.count(size)):
            part = whole.tensor_split(self.share[1])[self.share[0]]
            yield self.images[part], self.labels[part]

    def clean(self, size):
        for number, part in enumerate(torch.arange(len(self)).tensor_split(self.count(size))):
            if number % self.share[1] == self.share[0]:
                yield number, (self.images[part], self.labels[part])


def make_supernet(space="s2", layers=3, channels=4, classes=3, image_channels=1, seed=0, spread=1.0, **options):
    """Builds a small supernet in double precision whose α differ clearly."""
    torch.manual_seed(seed)
    space = SPACES[space] if isinstance(space, str) else space
    supernet = Supernet(space, layers, channels, classes, image_channels, **options).double()
    for alpha in supernet.alpha_parameters() if not supernet.fixed_alpha else ():
        torch.nn.init.normal_(alpha, std=spread)
    return supernet


def make_images(count=12, size=8, channels=1, classes=3, seed=0, dtype=torch.double):
    """Draws images of one pattern per class with noise on it. Returns them and their labels."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(classes, channels, size, size, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(count) % classes
    images = patterns[labels] + 0.3 * torch.randn(count, channels, size, size, generator=generator)
    return images.to(dtype), labels


def blank(path):
    """Returns True if a picture has nothing in colour. Axes, ticks and most labels are black, grey or white."""
    with Image.open(path) as image:
        pixels = torch.from_numpy(numpy.array(image.convert("RGB"))).int()
    return ((pixels.amax(-1) - pixels.amin(-1)) > 60).sum() < 300


def load_script(name):
    """Imports a script of the project under a name that shadows nothing."""
    spec = importlib.util.spec_from_file_location(f"command_{name}", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_image_folder(root, size=8, count=6, classes=("apple", "pear"), mode="RGB", parts=("train", "test")):
    """Writes PNG files in torchvision's ImageFolder layout."""
    generator = torch.Generator().manual_seed(0)
    for part, (value, name) in itertools.product(parts, enumerate(classes)):
        folder = root / part / name
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = torch.randint(0, 100, (size, size, 3), generator=generator) + 120 * value
            Image.fromarray(pixels.to(torch.uint8).numpy()).convert(mode).save(folder / f"{index}.png")
    return root


@pytest.fixture(autouse=True)
def forget_notes():
    """A note is told once in a command, and a test may load several data sets outside of one."""
    runs.NOTED.clear()


@pytest.fixture
def image_folder(tmp_path):
    return write_image_folder(tmp_path / "images")


SMALL = ("--channels", "2", "--limit", "64", "--threads", "1")  # a run as brief as can be


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Runs the three commands on S2 and returns the folder with their results. Tests must not change it."""
    train_search, select, retrain = (load_script(name).main for name in ("train_search", "select", "retrain"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("finished"))
        assert train_search(["--space", "s2", "--epochs", "2", "--keep-every", "1", *SMALL]) == 0
        assert select(["--ckpt", "supernet.pt", "--tune-epochs", "1", "--threads", "1"]) == 0
        assert retrain(["--arch", "genotype.json", "--layers", "3", "--epochs", "2", *SMALL]) == 0
        return Path.cwd()


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """Makes a copy of that folder the current one."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory):
    """Writes a table of all NAS-Bench-201 architectures, with accuracies made up from their operations."""
    rows = ["arch,cifar10,cifar100,imagenet16-120"]
    for operations in itertools.product(*SPACES["nb201"].operations["cell"]):
        convolutions, nothing = operations.count("nor_conv_3x3"), operations.count("none")
        rows.append(f"{Arch(operations)},{80 + 2 * convolutions - nothing},{60 + convolutions},{30 + convolutions / 2}")
    path = tmp_path_factory.mktemp("benchmark") / "nb201.csv"
    path.write_text("\n".join(rows) + "\n")
    return path
