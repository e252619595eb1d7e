"""Data sets as tensors on the device, and their augmentation, a batch at a time.

A data set is read once and lies on the device as one uint8 tensor. Crops, flips and cutout happen there, on a whole
batch at once. Image files that do not fit on the device stay files, which worker processes decode for each batch.

In the order to read: `Images`, one split, yields batches; the augmentation; `load_data` builds the splits; then what
lies on disk, data sets with a name and folders of images. All draws depend on the seed and the epoch alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import multiprocessing
import os
import pickle
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2
from tqdm import tqdm

import runs
from genotypes import SPACES
from ptnas import Bilevel, Record, SearchSettings, gather_lists
from runs import UserError, mix, note, speaks

warnings.filterwarnings("ignore", module="PIL")  # damaged EXIF; large images, of which twice as large are an error
warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores, if asked to

# ==== Splits and their batches ======================================================================================


@dataclass(frozen=True)
class Images:
    """One split of a data set, as `ptnas.Data` describes it. A batch has images, float (N, C, S, S), with mean 0 and
    variance 1 per channel over the training images, and labels, (N,)."""

    source: Tensor | ImageFiles  # uint8 (images, C, S, S): a tensor on the device, or files that do not fit there
    labels: Tensor  # (images,), on the device
    indices: Tensor  # the images of `source` that belong to this split
    mean: Tensor  # (C, 1, 1), of pixel values from 0 to 255
    deviation: Tensor  # (C, 1, 1), likewise
    pad: int = 0  # pixels on every side before a random crop
    flip: bool = False
    cutout: int = 0  # side of the square in pixels
    seed: int = 0
    share: tuple[int, int] = (0, 1)  # (rank, number of processes)

    def __len__(self) -> int:
        return len(self.indices)

    def count(self, size: int) -> int:
        """Returns the number of batches. They have nearly equal sizes, at most `size`, but never 1: norms need two."""
        return max(1, min(math.ceil(len(self) / size), len(self) // 2))

    def batches(self, size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's part of each batch, shuffled and augmented. All processes draw the same order, each its
        own augmentation. Raises UserError if a part has fewer than two images."""
        rank, processes = self.share
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        order = self.indices[torch.randperm(len(self), generator=generator)]
        if rank:
            generator.manual_seed(mix(self.seed, epoch, rank))
        batches = order.tensor_split(self.count(size))
        if processes > 1 and min(map(len, batches)) < 2 * processes:
            raise UserError(f"{processes} processes are too many to share {len(self)} images in batches of {size}")
        for images, labels in self._read([batch.tensor_split(processes)[rank] for batch in batches], epoch):
            images = random_crop(images, self.pad, generator) if self.pad else images
            images = random_flip(images, generator) if self.flip else images
            images = self._normalise(images)
            yield random_cutout(images, self.cutout, generator) if self.cutout else images, labels

    def clean(self, size: int) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """Yields number and content of this process's batches, those with the numbers rank, rank + processes, ... of
        all, without augmentation."""
        rank, processes = self.share
        batches = self.indices.tensor_split(self.count(size))[rank::processes]
        for place, (images, labels) in enumerate(self._read(batches, epoch=None)):
            yield rank + place * processes, (self._normalise(images), labels)

    def subset(self, indices: Tensor, seed: int) -> Images:
        """Returns a split of some of its images, with a seed of its own. indices: their places in this split."""
        return replace(self, indices=self.indices[indices], seed=seed)

    def _read(self, batches: Sequence[Tensor], epoch: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.labels.device
        if isinstance(self.source, Tensor):
            read = (self.source[to_device(batch, device)] for batch in batches)
        else:
            read = self.source.read(batches, epoch, device)
        bar = tqdm(batches, unit="batch", leave=False, delay=5, disable=not speaks())
        for batch, images in zip(bar, read, strict=True):
            yield images, self.labels[to_device(batch, device)]

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.deviation


@dataclass(frozen=True)
class ImageData:
    """A data set: training and test images, class names, and the channels and the side in pixels of the images."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    channels: int
    image_size: int
    fingerprint: str  # as `take_fingerprint` says
    largest: dict[str, float]  # as `find_largest` says

    def describe(self) -> dict[str, Any]:
        """Returns the facts about the data set that a checkpoint stores."""
        facts = vars(self) | {"classes": list(self.classes), "images": [len(self.train), len(self.test)]}
        return {name: value for name, value in facts.items() if name not in ("train", "test")}

    def summary(self) -> str:
        """Returns the training images in a few words, for people."""
        return f"{len(self.train)} images of {self.image_size}x{self.image_size} in {len(self.classes)} classes"

    def halve(self, seed: int) -> tuple[Images, Images]:
        """Splits the training images at random into a half to train w on, and a half to train α on and to validate."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(mix(seed, 1)))
        middle = len(order) // 2
        return self.train.subset(order[:middle], mix(seed, 2)), self.train.subset(order[middle:], mix(seed, 3))


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Copies numbers to the device without waiting for the work in its queue."""
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)


# ==== Augmentation of a batch, (N, C, H, W) =========================================================================


def random_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Pads every side with zeros, then cuts a window of the former size out of each image at a random place."""
    count, _, height, width = images.shape
    offsets = to_device(torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator), images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each image from left to right with probability 1/2."""
    mirrored = to_device(torch.randint(0, 2, (len(images), 1, 1, 1), generator=generator), images.device)
    return torch.where(mirrored.bool(), images.flip(-1), images)


def random_cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Sets a square around a random pixel of each image to zero; the border may cut it off (DeVries & Taylor, 2017)."""
    count, _, height, width = images.shape
    centres = to_device(torch.rand((2, count, 1), generator=generator), images.device)
    rows = torch.arange(height, device=images.device) - (centres[0] * height).floor() + side // 2
    columns = torch.arange(width, device=images.device) - (centres[1] * width).floor() + side // 2
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return images * ~inside[:, None]


# ==== Loading =======================================================================================================

SHARED_BYTES = 16 << 20  # of images that workers have read; two loaders work at a time, and Docker gives 64 MiB
DEVICE_BYTES = 4 << 30  # a folder of images with more bytes of pixels stays files
Source: TypeAlias = "Tensor | ImageFiles"  # uint8 images, (N, C, S, S)
Parts = tuple[list[tuple[Source, Sequence[int]]], Sequence[str]]  # (images, labels) to train and to test; class names


def load_data(settings: dict, device: torch.device, workers: int | None = None, cutout: float = 0.0) -> ImageData:
    """Loads the data set that the settings of a run name.

    settings: `dataset`, a folder of images or one of `DATASETS`, and `seed`; unless they are None or left out, also
    `data`, the folder that has or gets the named data sets, `image_size`, the side in pixels, and `limit`, the number
    of training images to draw. workers: processes that read files. cutout: side of the square as a share of the
    image's. Raises UserError if the data set is unknown, incomplete or damaged, or if other processes see another one.
    """
    name, seed, image_size = settings["dataset"], settings["seed"], settings.get("image_size")
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    parts, classes = find_data(settings, workers)
    fingerprint = take_fingerprint(parts, classes)
    if len(set(gather_lists([fingerprint]))) > 1:
        raise UserError(f"the processes do not see the same images and classes in {name}: give each the same files")
    sources = [place_on_device(source, image_size, device) for source, _ in parts]
    labels = [torch.tensor(numbers, device=device) for _, numbers in parts]
    order = torch.randperm(len(labels[0]), generator=torch.Generator().manual_seed(mix(seed, 0)))
    indices = [order[: settings.get("limit")].sort().values, torch.arange(len(labels[1]))]
    if len(indices[0]) < 4 or not len(indices[1]):
        raise UserError(f"{name} has {len(indices[0])} training and {len(indices[1])} test images: too few")
    statistics = [value.to(device) for value in measure_pixels(sources[0], indices[0])]
    splits = zip(sources, labels, indices, strict=True)
    train, test = (Images(*split, *statistics, share=runs.get_share()) for split in splits)
    _, channels, size, _ = sources[0].shape
    known = runs.DATASETS.get(name, runs.Known())
    pad, flip = round(size / 8) if known.crop else 0, known.flip and not settings.get("no_flip")
    train = replace(train, pad=pad, flip=flip, cutout=round(cutout * size), seed=mix(seed, 4))
    return ImageData(train, test, tuple(classes), channels, size, fingerprint, getattr(parts[0][0], "largest", {}))


class Trained(NamedTuple):
    """A supernet as its search left it, with the images to go on with."""

    path: Path
    bilevel: Bilevel  # the supernet and its optimisers
    train: Images  # the halves of the search
    valid: Images
    data: ImageData
    reads: runs.RunSettings  # says which images these are
    settings: dict[str, Any]  # of the search
    records: list[Record]  # of the epochs


def load_supernet(
    path: Path, device: torch.device | str = "cpu", dataset: str | None = None, folder: str | None = None,
    workers: int | None = None, amp: bool = False, low_memory: bool = False, other_images: bool = False,
) -> Trained:  # fmt: skip
    """Loads what train_search.py saved, with the images of its search. They may have moved to `dataset` or `folder`.

    amp, low_memory: how to tune it, see `ptnas.SearchSettings` and `ptnas.SearchCell`. Raises UserError if the file
    holds no supernet, if the images have other classes or channels, or, without `other_images`, if they are others.
    """
    checkpoint = runs.load_search(path)
    settings, given = checkpoint["settings"], {"dataset": dataset, "data": folder}
    reads = runs.RunSettings.of(settings | {name: value for name, value in given.items() if value is not None})
    data = load_data(asdict(reads) | {"image_size": checkpoint["image_size"]}, torch.device(device), workers)
    if list(data.classes) != checkpoint["classes"] or data.channels != checkpoint["channels"]:
        raise UserError(f"{path} was trained on images of other classes or channels than {reads.dataset} has")
    if data.fingerprint != checkpoint["fingerprint"] and not other_images:
        advice = "search again, or name those of the search with --dataset or --data"
        raise UserError(f"{path} was trained on other images than {reads.dataset} has now: {advice}")
    search = replace(SearchSettings.of(settings), amp=amp)
    supernet = search.build_supernet(SPACES[settings["space"]], len(data.classes), data.channels, low_memory)
    bilevel = Bilevel(supernet.to(device), search)
    with runs.blame(path, "holds no supernet"):
        bilevel.load_state_dict(checkpoint["state"])
    if bilevel.epochs < search.epochs:
        note(f"note: {path} is the supernet after {bilevel.epochs} of {search.epochs} epochs")
    return Trained(Path(path), bilevel, *data.halve(reads.seed), data, reads, settings, checkpoint["records"])


def find_data(settings: dict, workers: int = 0) -> Parts:
    """Returns the images and labels of a data set, files unread, and its classes. Raises UserError."""
    name, root = settings["dataset"], Path(settings.get("data") or "data")
    if name == "digits":
        return read_digits()
    if name in ("cifar10", "cifar100", "svhn"):
        return read_torchvision(name, root)
    if name == "imagenet16-120":
        return read_imagenet16(root)
    if name == "imagenet":
        folder = root if (root / "train").is_dir() else root / "imagenet"
        return find_images(folder, settings, workers, imagenet=True)
    if Path(name).is_dir():
        return find_images(Path(name), settings, workers)
    moved = "; if it has moved, --dataset names its new place" if Path(name).is_absolute() else ""
    raise UserError(f"no data set {name!r}: neither a folder nor one of {', '.join(runs.DATASETS)}{moved}")


def take_fingerprint(parts: Sequence[tuple[Source, Sequence[int]]], classes: Sequence[str]) -> str:
    """Returns the beginning of a SHA-256, which tells a data set from others: of its classes, its labels, and its
    pixels or, if they are files, their names below the folder that all are in, their sizes, and a hundred contents."""
    digest = hashlib.sha256(os.fsencode(repr(list(classes))))
    paths = [path for source, _ in parts if not isinstance(source, Tensor) for path in source.paths]
    folder = os.path.commonpath(paths) if paths else ""
    for source, labels in parts:
        digest.update(np.asarray(labels, np.int64).tobytes())
        if isinstance(source, Tensor):
            digest.update(source.contiguous().numpy())
        else:
            for number, path in enumerate(source.paths):
                size = Path(path).stat().st_size
                digest.update(os.fsencode(f"{path.removeprefix(folder)} {size}\n"))
                if size and number % math.ceil(len(source.paths) / 100) == 0:
                    digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:16]


def place_on_device(source: Source, image_size: int | None, device: torch.device) -> Source:
    """Returns the images as one tensor on the device. Files that do not fit, or vary as they are read, stay files."""
    if isinstance(source, Tensor):
        if image_size and image_size != source.shape[-1]:
            source = v2.functional.resize(source, [image_size, image_size], antialias=True)
        return source.to(device)
    if source.vary is not None or math.prod(source.shape) > DEVICE_BYTES:
        return source
    batches = torch.arange(source.shape[0]).split(250)
    read = source.read(batches, None, device)
    bar = tqdm(read, "reading images", len(batches), unit="batch", leave=False, delay=1, disable=not speaks())
    return torch.cat(list(bar))


def measure_pixels(source: Source, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation per channel, (C, 1, 1) each, of these images; of 2,000 if they are files.
    Raises UserError if all have one colour."""
    if not isinstance(source, Tensor):
        batches = indices[:: math.ceil(len(indices) / 2000)].split(100)
        source = torch.cat(list(source.read(batches, None, torch.device("cpu"))))
        indices = torch.arange(len(source))
    channels = source[indices.to(source.device)].transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in channels]).cpu().double()
    if ((counts > 0).sum(1) == 1).all():
        raise UserError("the training images all have one and the same colour: there is nothing to learn")
    values, shares = torch.arange(256).double(), counts / counts.sum(1, keepdim=True)
    mean = (shares * values).sum(1)
    deviation = ((shares * values.square()).sum(1) - mean.square()).clamp(min=1.0).sqrt()
    return mean.float()[:, None, None], deviation.float()[:, None, None]


# ==== Data sets with a name =========================================================================================


def read_digits() -> Parts:
    """Reads the 8x8 digits that come with scikit-learn; a fifth of them are test images."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.tensor(digits.images * (255 / 16)).round().to(torch.uint8)[:, None]
    split = train_test_split(range(len(images)), test_size=0.2, random_state=0, stratify=digits.target)
    return [(images[part], digits.target[part]) for part in split], [str(name) for name in digits.target_names]


def read_torchvision(name: str, root: Path) -> Parts:
    """Reads CIFAR-10, CIFAR-100 or SVHN, downloaded first if it is not in `root`. Raises UserError."""
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "svhn": datasets.SVHN}[name]
    options = [{"split": part} for part in ("train", "test")] if name == "svhn" else [{"train": True}, {"train": False}]
    with runs.take_turns(), contextlib.redirect_stdout(sys.stderr):
        try:
            parts = [kind(root, download=True, **option) for option in options]
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{name} is neither complete in {root} nor can it be downloaded there: {reason}") from None
    if name == "svhn":
        return [(torch.from_numpy(part.data), part.labels) for part in parts], [str(digit) for digit in range(10)]
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in parts]
    return list(zip(images, [part.targets for part in parts], strict=True)), parts[0].classes


def read_imagenet16(root: Path) -> Parts:
    """Reads ImageNet16-120: the first 120 of the 1,000 classes of ImageNet at 16x16 pixels (Chrabaszcz et al., 2017;
    Dong & Yang, 2020). Raises UserError."""
    folder = root if (root / "train_data_batch_1").is_file() else root / "ImageNet16"
    parts = []
    for names in [f"train_data_batch_{number}" for number in range(1, 11)], ["val_data"]:
        batches = [read_imagenet16_batch(folder / name) for name in names]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        parts.append((torch.from_numpy(images).reshape(-1, 3, 16, 16), labels - 1))
    return parts, [str(label) for label in range(1, 121)]


def read_imagenet16_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns images, (N, 768), and labels, (N,), from 1 to 120, of a pickled batch. Raises UserError."""
    with runs.blame(path, "is no batch of the 16x16 ImageNet from image-net.org"), path.open("rb") as file:
        content = ArrayUnpickler(file, encoding="latin1").load()
        images, labels = np.asarray(content["data"]), np.asarray(content["labels"])
    sound = images.dtype == np.uint8 and images.shape[1:] == (768,) and labels.shape == images.shape[:1]
    if not (sound and labels.dtype.kind in "iu" and len(labels) and labels.min() >= 1 and labels.max() <= 1000):
        raise UserError(f"{path} does not hold images of 16x16 pixels with labels from 1 to 1000")
    return images[labels <= 120], labels[labels <= 120].astype(np.int64)


class ArrayUnpickler(pickle.Unpickler):
    """Reads containers, numbers, text and numpy arrays of numbers; refuses everything else. numpy's own `ndarray` and
    `dtype` would build arrays from raw pointers; here `ndarray` is just a word, and `dtype` knows only numbers."""

    def find_class(self, module: str, name: str) -> Any:
        numbers = {code: np.dtype(code) for code in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")}
        allowed = {
            "ndarray": "ndarray",
            "dtype": lambda code, *_: numbers[code],
            "_reconstruct": lambda *_: np.empty(0),  # the array's `__setstate__` fills it
            "_frombuffer": lambda data, kind, shape, order: np.frombuffer(data, kind).reshape(shape, order=order),
            "encode": str.encode,
        }
        if module.partition(".")[0] not in ("numpy", "_codecs") or name not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return allowed[name]


# ==== Folders of images =============================================================================================

UNREADABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # formats that Pillow knows but cannot decode by itself
# In what PyTorch says of a worker that was killed or that cannot hand over what it read
LOST = r"DataLoader worker \(|(allocate|open) shared memory|Communication with the workers|ancdata"
# Names that systems give, not people
OF_SYSTEM = re.compile(
    r"\.|(@eaDir|@Recycle|#recycle|#snapshot|\$RECYCLE\.BIN|System Volume Information|__MACOSX|lost\+found)$", re.I
)
SPLITS = ("train", "test", "val", "valid", "validation")
Files = dict[str, list[str]]  # the paths of the files of each class


def find_images(folder: Path, settings: dict, workers: int, imagenet: bool = False) -> Parts:
    """Finds the images in a folder that is laid out as `find_classes` says. Raises UserError."""
    *splits, others = find_classes(folder, imagenet)
    paths, labels = [[], []], [[], []]
    for own_paths, own_labels, classes in zip(paths, labels, splits, strict=True):
        for label, files in enumerate(classes.values()):
            own_paths += files
            own_labels += [label] * len(files)
    if others:
        names = ", ".join(Path(path).name for path in others[:3]) + (", ..." if len(others) > 3 else "")
        passed = f"{len(others):,} files and folders that hold no images of a class are passed over"
        note(f"note: beside {len(paths[0] + paths[1]):,} images {passed}: {names}")
    mode, own_size, deep = ("RGB", 224, False) if imagenet else inspect_images(paths[0] + paths[1])
    size, largest = settings.get("image_size") or own_size, find_largest(paths[0]) if deep else {}
    options = mode, size, imagenet, settings.get("seed", 0), workers, largest
    train, test = (ImageFiles(files, *options) for files in paths)
    if imagenet:
        mirror = v2.RandomHorizontalFlip(0.5 * (not settings.get("no_flip")))
        train.vary = v2.Compose([v2.RandomResizedCrop(size), mirror, v2.ColorJitter(0.4, 0.4, 0.4, 0.2)])
    return [(train, labels[0]), (test, labels[1])], list(splits[0])


def find_classes(folder: Path, imagenet: bool) -> tuple[Files, Files, list[str]]:
    """Returns the images to train on and to test on, and the paths of what is passed over. Raises UserError.

    They lie in train/CLASS/ and test/CLASS/ (or val/, valid/, validation/; ImageNet's in val/). A folder without
    classes, such as the unlabelled test/ of a contest, does not count. If there is no test folder, a fifth of each
    class in train/CLASS/ or in CLASS/ is kept for testing.
    """
    names = ("val", "test") if imagenet else SPLITS[1:]
    folders: dict[str, Path] = {}
    for path in list_folders(folder):
        name = path.name.lower().removesuffix("ing")  # Training/ counts too
        if name in SPLITS and name in folders:
            raise UserError(f"{folder} has both {folders[name].name}/ and {path.name}/: move or rename one")
        folders[name] = path
    labelled = {name: path for name, path in folders.items() if any(map(is_own_folder, path.iterdir()))}
    first = labelled.get("train", folder)
    second, *unused = [labelled[name] for name in names if name in labelled] or [None]
    needs = f"{folder} needs the folders train/ and val/ or test/, with folders of two classes at least in them"
    if (imagenet and not second) or (first == folder and not folders.keys().isdisjoint(names)):
        raise UserError(needs)
    beside = [path for name, path in folders.items() if name not in SPLITS]
    if first != folder and (classes := [path.name for path in beside if sort_files(path)[0]]):
        raise UserError(f"{folder} has train/ and, beside it, images in {', '.join(classes)}: move or rename some")
    train, others = list_classes(first)
    if len(train) < 2:
        raise UserError(f"{needs}; {first.name}/ has {', '.join(train) or 'none'}")
    if not second:
        note(f"note: {folder} has no folder of test images; a fifth of each class is kept for testing")
        return *split_classes(train), others
    test, more = list_classes(second)
    if odd := sorted(train.keys() ^ test.keys()):
        raise UserError(f"{folder}: the classes in {first.name}/ and {second.name}/ differ: {', '.join(odd[:5])}")
    if unused:
        note(f"note: the test images are those in {second.name}/; not used: {', '.join(path.name for path in unused)}")
    return train, test, others + more


def list_folders(folder: Path) -> list[Path]:
    """Returns the folders in a folder, by name, but for those of the system. Raises UserError if a link is broken."""
    paths = sorted(folder.glob("*"))
    for path in paths:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a link that leads nowhere")
    return list(filter(is_own_folder, paths))


def is_own_folder(path: Path) -> bool:
    return path.is_dir() and not OF_SYSTEM.match(path.name)


def split_classes(classes: Files) -> tuple[Files, Files]:
    """Splits each class at random into four fifths to train on and a fifth to test on. The split is the same for every
    `--seed`, so that no image of a search is a test image of a retraining. Raises UserError."""
    from sklearn.model_selection import train_test_split

    train, test = {}, {}
    for name, paths in classes.items():
        if len(paths) < 2:
            raise UserError(f"the class {name} has one image, and needs one to train on and one to test on")
        train[name], test[name] = train_test_split(paths, test_size=0.2, random_state=0)
    return train, test


def list_classes(folder: Path) -> tuple[Files, list[str]]:
    """Returns the images of the classes, which are the folders in `folder`, and the paths of what is passed over.
    Raises UserError if a class has no images."""
    rest = (path for path in sorted(folder.iterdir()) if not is_own_folder(path))
    images, others = {}, [str(path) for path in rest if path.is_dir() or path.name[0] != "."]
    for path in list_folders(folder):
        images[path.name], more = sort_files(path)
        others += more
        if not images[path.name]:
            raise UserError(f"{path} has no images")
    return images, others


def sort_files(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the images in a folder and below it, and the paths of what is passed over. Follows links, but enters no
    folder twice, nor one above."""
    Image.init()
    formats = {*Image.OPEN, "MPO"} - UNREADABLE
    endings = tuple(ending for ending, name in Image.registered_extensions().items() if name in formats)
    seen = {os.path.realpath(path) for path in folder.absolute().parents}
    images, others = [], []
    for place, below, names in os.walk(folder, onerror=stop, followlinks=True):
        fresh = os.path.realpath(place) not in seen
        seen.add(os.path.realpath(place))
        others += [f"{place}{os.sep}{name}" for name in below if fresh and OF_SYSTEM.match(name)]
        below[:] = sorted(name for name in below if fresh and not OF_SYSTEM.match(name))
        for name in sorted(name for name in names if fresh and name[0] != "."):
            (images if name.lower().endswith(endings) else others).append(f"{place}{os.sep}{name}")
    return images, others


def stop(error: OSError) -> NoReturn:
    raise error


def inspect_images(paths: Sequence[str]) -> tuple[str, int, bool]:
    """Returns from at most 2,000 headers the mode of the images, L if all are grey, else RGB; their side, their own if
    all are squares of one size from 8 to 64 pixels, else 32; and whether some are deep. Tells how many are not square.
    """
    modes, sizes = set(), []
    for path in paths[:: math.ceil(len(paths) / 2000)]:
        with open_image(path) as image:
            modes.add(image.mode)
            sizes.append(image.size)
    if odd := sum(width != height for width, height in sizes):
        looked_at = f"{len(sizes):,} images" + (" that were looked at" if len(sizes) < len(paths) else "")
        note(f"note: {odd:,} of {looked_at} are not square: they are resized and cut to the middle")
    side = sizes[0][0] if not odd and len(set(sizes)) == 1 and 8 <= sizes[0][0] <= 64 else 32
    return "L" if modes <= {"1", "L"} else "RGB", side, any(mode[0] in "IF" for mode in modes)


def find_largest(paths: Sequence[str]) -> dict[str, float]:
    """Returns what becomes 255 in deep images, grey ones with more than 8 bits: "I", the largest whole number in them,
    or "F", 1 or 255, the least that no real number exceeds. Raises UserError if a number is negative or larger."""
    largest: dict[str, float] = {}
    for path in tqdm(paths, "looking for the largest value", leave=False, delay=1, disable=not speaks()):
        with open_image(path) as image:
            if (kind := image.mode[0]) in "IF":
                largest[kind] = max(largest.get(kind, 1.0), float(np.max(image)))
                if not np.min(image) >= 0 or (kind == "F" and not largest["F"] <= 255):
                    raise ValueError("its numbers are negative, or real numbers above 255")
    return largest | ({"F": 255.0} if largest.get("F", 1.0) > 1 else {})


class ImageFiles(Dataset):
    """Image files, decoded to uint8 tensors (C, S, S). A key is (index, epoch): without an epoch an image is resized by
    `fit`; with one it is varied by `vary`, whose draws depend on seed, epoch and index, not on the worker."""

    def __init__(
        self, paths: Sequence[str], mode: str, size: int, imagenet: bool = False, seed: int = 0, workers: int = 0,
        largest: dict[str, float] | None = None,
    ):  # fmt: skip
        self.paths, self.mode, self.seed, self.workers, self.largest = paths, mode, seed, workers, largest or {}
        self.fit = v2.Compose([v2.Resize(size * 256 // 224 if imagenet else size), v2.CenterCrop(size)])
        self.vary: v2.Transform | None = None
        self.shape = (len(paths), 3 if mode == "RGB" else 1, size, size)

    def __getitem__(self, key: tuple[int, int | None]) -> Tensor:
        index, epoch = key
        image = decode_image(self.paths[index], self.mode, self.largest)
        if epoch is None or self.vary is None:
            return v2.functional.pil_to_tensor(self.fit(image))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.seed, epoch, index))
            return v2.functional.pil_to_tensor(self.vary(image))

    def read(self, batches: Sequence[Tensor], epoch: int | None, device: torch.device) -> Iterator[Tensor]:
        """Yields batches of images, (N, C, S, S) on the device, from batches of their indices. Workers read parts of
        them: two parts for each worker fit in the shared memory at a time."""
        count = max(1, SHARED_BYTES // (2 * max(1, self.workers) * math.prod(self.shape[1:])))
        parts = [[(index, epoch) for index in part.tolist()] for batch in batches for part in batch.split(count)]
        own = torch.Generator()  # the loader draws a seed that is not used: it must not come from the global generator
        options = {"worker_init_fn": runs.set_up_worker, "generator": own}
        workers = self.workers if len(parts) > 1 else 0
        try:
            if workers:  # here fails cleanly what would fail in a loader, which leaves a traceback or waits forever
                queues = [multiprocessing.SimpleQueue() for _ in range(4 + 2 * workers)]
                del queues
            read = iter(DataLoader(self, batch_sampler=parts, num_workers=workers, **options))
            for batch in batches:
                images = torch.empty(len(batch), *self.shape[1:], dtype=torch.uint8, pin_memory=device.type == "cuda")
                for part in images.split(count):
                    part.copy_(next(read))
                yield images.to(device, non_blocking=True)
        except (OSError, EOFError, RuntimeError) as error:
            reason = runs.get_reason(error)
            if isinstance(error, RuntimeError) and not re.search(LOST, reason):
                raise
            lost = f"a process that reads images could not start or was lost ({reason[-120:]})"
            raise UserError(f"{lost}; --workers 0 reads without such processes") from None


@contextlib.contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """Opens an image file. Raises UserError if it cannot be read, within the context too."""
    try:
        if not Path(path).is_file():
            raise OSError("it is no file")
        with Image.open(path) as image:
            if image.mode[0] != "I" and re.search("(?<!BGR);16", str(image.tile)):  # Pillow would drop the lower 8
                raise ValueError("it has 16 bits in each of several channels, and 8 are needed")
            yield image
    except (MemoryError, NameError):
        raise
    except Exception as error:  # a damaged image fails in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the image {path}: {reason}") from None


def decode_image(path: str, mode: str, largest: dict[str, float]) -> Image.Image:
    """Returns an image in this mode, turned as its EXIF says, on a white ground. If one side is over 16 times the
    other, only the middle: resized by the shorter side, the whole would fill the memory. Raises UserError.

    largest: of deep images, the number that becomes 255, as `find_largest` says."""
    with open_image(path) as image:
        image.load()
        with contextlib.suppress(Exception):  # damaged EXIF turns nothing
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode[0] in "IF":  # `convert` would cut it off at 255
            if image.mode[0] not in largest:
                raise ValueError(f"it is an image of mode {image.mode}, and no training image that was looked at is")
            values = np.asarray(image, np.float64) * (255 / largest[image.mode[0]])
            image = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert(mode)
    width, height = (min(side, 16 * min(image.size)) for side in image.size)
    return v2.functional.center_crop(image, [height, width])
