"""Data sets as tensors on the device, and their augmentation, a batch at a time."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import struct
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2
from tqdm import tqdm

from runs import DATASETS, UserError, get_share, mix, speaks, take_turns

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # twice as large is an error
FITS = 4 << 30  # bytes of images that are held on the device as one tensor


class ImageFiles(Dataset):
    """Image files, decoded to uint8 tensors (C, S, S). A key is (index, epoch): with epoch None an image is only fitted
    to its size, else it is transformed at random, seeded by the epoch and the index whichever process does it."""

    def __init__(self, paths: Sequence[str], mode: str, fit: v2.Transform, vary: v2.Transform | None, seed: int):
        self.paths, self.mode, self.fit, self.vary, self.seed = paths, mode, fit, vary, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int | None]) -> Tensor:
        index, epoch = key
        image = decode(self.paths[index], self.mode)
        if epoch is None or self.vary is None:
            return v2.functional.pil_to_tensor(self.fit(image))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.seed, epoch, index))
            return v2.functional.pil_to_tensor(self.vary(image))


def decode(path: str, mode: str | None) -> Image.Image:
    """The image in a file, in this mode, or only its header if the mode is None. Raises UserError."""
    try:
        if not Path(path).is_file():
            raise OSError("it is no file")
        with Image.open(path) as file:
            if mode is None:
                return file
            image = file
            if file.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
                image = file.convert("I").point(lambda value: value / 256).convert("L")
            return trimmed(image.convert(mode))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {path}: {error}") from None


def trimmed(image: Image.Image, ratio: int = 16) -> Image.Image:
    """The middle of an image with one side many times as long as the other, which is resized by its shorter one."""
    width, height = image.size
    short = ratio * min(width, height)
    left, top = (max(0, (side - short) // 2) for side in (width, height))
    return image.crop((left, top, left + min(width, short), top + min(height, short))) if left or top else image


@dataclass(frozen=True)
class Images:
    """A split of a data set, as `ptnas.Data` describes it.

    source: uint8 (all images, C, S, S) on the device, or files that do not fit there and are read by workers; labels:
    (all images,) on the device; indices: which images belong to the split. Batches are floats with mean 0 and
    variance 1 per channel over the training images. share: which of how many processes this is.
    """

    source: Tensor | ImageFiles
    labels: Tensor
    indices: Tensor
    mean: Tensor  # (C, 1, 1), of pixel values from 0 to 255, as is the deviation
    deviation: Tensor
    pad: int = 0  # pixels on every side before a random crop
    flip: bool = False
    cutout: int = 0  # side of the square in pixels
    workers: int = 0
    seed: int = 0
    share: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        return len(self.indices)

    def count(self, size: int) -> int:
        """Batches of nearly equal size, at most `size`; but none of a single image, for which one can be larger."""
        return max(1, min(math.ceil(len(self) / size), len(self) // 2))

    def batches(self, size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        order = self.indices[torch.randperm(len(self), generator=generator)]
        rank, processes = self.share
        if rank:  # the order is that of all processes, what follows is not
            generator.manual_seed(mix(self.seed, epoch, rank))
        batches = self._split(order, size)
        if processes > 1 and min(map(len, batches)) < 2 * processes:
            raise UserError(f"{processes} processes are too many to share {len(self)} images in batches of {size}")
        for images, labels in self._read([batch.tensor_split(processes)[rank] for batch in batches], epoch):
            images = random_crop(images, self.pad, generator) if self.pad else images
            images = random_flip(images, generator) if self.flip else images
            images = self._normalised(images)
            yield random_cutout(images, self.cutout, generator) if self.cutout else images, labels

    def clean(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        rank, processes = self.share
        for images, labels in self._read(self._split(self.indices, size)[rank::processes], epoch=None):
            yield self._normalised(images), labels

    def subset(self, indices: Tensor, seed: int) -> Images:
        """The split of these among its images."""
        return replace(self, indices=self.indices[indices], seed=seed)

    def _split(self, order: Tensor, size: int) -> tuple[Tensor, ...]:
        return torch.tensor_split(order, self.count(size))

    def _read(self, parts: Sequence[Tensor], epoch: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.labels.device
        if isinstance(self.source, Tensor):
            read = (self.source[sent(part, device)] for part in parts)
        else:
            read = read_files(self.source, parts, epoch, self.workers, device)
        bar = tqdm(parts, unit="batch", leave=False, delay=5, disable=not speaks())
        for part, images in zip(bar, read, strict=True):
            yield images, self.labels[sent(part, device)]

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.deviation


def read_files(
    files: ImageFiles, parts: Sequence[Tensor], epoch: int | None, workers: int, device: torch.device
) -> Iterator[Tensor]:
    """Batches of image files, uint8 (N, C, S, S) on the device, read by `workers` processes."""
    keys = [[(index, epoch) for index in part.tolist()] for part in parts]
    # A loader draws a seed for its workers, who do not need it: not from the generator that others draw from.
    generator, pinned = torch.Generator(), device.type == "cuda"
    how = {"num_workers": workers, "worker_init_fn": hear_no_signal, "pin_memory": pinned, "generator": generator}
    loader = DataLoader(files, batch_sampler=keys, **how)
    return (images.to(device, non_blocking=True) for images in loader)


def hear_no_signal(_: int) -> None:
    """In a worker: those for all processes are for the main one, with which the workers end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for what that still computes."""
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)


def random_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Pad every side with zeros, cut out the former size at a random place, image by image: (N, C, H, W)."""
    count, _, height, width = images.shape
    offsets = sent(torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator), images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every second image or so from left to right."""
    mirrored = sent(torch.randint(0, 2, (len(images), 1, 1, 1), generator=generator), images.device)
    return torch.where(mirrored.bool(), images.flip(-1), images)


def random_cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set a square around a random pixel to zero, as far as it lies within the image (DeVries & Taylor, 2017)."""
    count, _, height, width = images.shape
    centres = sent(torch.rand((2, count, 1), generator=generator), images.device)
    rows = torch.arange(height, device=images.device) - (centres[0] * height).floor() + side // 2
    columns = torch.arange(width, device=images.device) - (centres[1] * width).floor() + side // 2
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return images * ~inside[:, None]


@dataclass(frozen=True)
class ImageData:
    """A data set: training and test images, class names, channels and size of the images."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    channels: int
    image_size: int

    def describe(self) -> dict[str, Any]:
        """Returns what a checkpoint says of the images."""
        images = [len(self.train), len(self.test)]
        size = {"channels": self.channels, "image_size": self.image_size}
        return {"classes": list(self.classes), **size, "images": images}

    def halve(self, seed: int) -> tuple[Images, Images]:
        """A random half of the training images to train w on, the other to validate on."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(mix(seed, 1)))
        middle = len(order) // 2
        return self.train.subset(order[:middle], mix(seed, 2)), self.train.subset(order[middle:], mix(seed, 3))


def data_folder(path: Path | None) -> str | None:
    """The value of --data as it stands in files."""
    return str(path.absolute()) if path else None


def dataset_name(name: str) -> str:
    """How a data set is called in files: a folder by its whole path."""
    return name if name in DATASETS or not Path(name).is_dir() else str(Path(name).absolute())


def load_run_data(
    settings: dict[str, Any], device: torch.device, workers: int | None, cutout: float = 0.0
) -> ImageData:
    """The data set that the settings of a run name."""
    chosen = {name: settings[name] for name in ("seed", "image_size", "limit")}
    return load_data(settings["dataset"], settings["data"], device, workers=workers, cutout=cutout, **chosen)


def load_supernet_data(
    checkpoint: dict[str, Any], path: Path, settings: dict[str, Any], device: torch.device, workers: int | None = None
) -> ImageData:
    """The data set that the settings name, those of the search with another one in them or not, in the image size of
    this supernet. Raises UserError if it has other classes or channels."""
    data = load_run_data(settings | {"image_size": checkpoint["image_size"]}, device, workers)
    if list(data.classes) != checkpoint["classes"] or data.channels != checkpoint["channels"]:
        raise UserError(f"{path} was trained on images of other classes or channels than {settings['dataset']} has")
    return data


def load_data(
    name: str,
    root: str | None,
    device: torch.device,
    *,
    seed: int,
    image_size: int | None = None,
    limit: int | None = None,
    workers: int | None = None,
    cutout: float = 0.0,
) -> ImageData:
    """Load `digits`, a data set of torchvision, ImageNet, ImageNet16-120 or a folder.

    The side of the images is `image_size`, or else their own; training images are a random `limit` of all. Raises
    UserError if the name is unknown or there is nothing sound to read.
    """
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    root = Path(root or "data")
    if name == "digits":
        train, test, classes = _digits()
    elif name in ("cifar10", "cifar100", "svhn"):
        train, test, classes = _torchvision(name, root)
    elif name == "imagenet16-120":
        train, test, classes = _imagenet16(root)
    elif name == "imagenet":
        folder = next((path for path in (root / "imagenet", root) if (path / "train").is_dir()), None)
        if folder is None:
            raise UserError(f"imagenet is expected in {root / 'imagenet'}, with folders train/ and val/ in it")
        train, test, classes = _folder(folder, image_size or 224, seed, imagenet=True)
    elif Path(name).is_dir():
        train, test, classes = _folder(Path(name), image_size, seed)
    else:
        raise UserError(f"no data set {name!r}: neither a folder nor one of {', '.join(DATASETS)}")
    if len(classes) < 2:
        raise UserError(f"{name} has a single class, {classes[0]!r}: there is nothing to tell apart")
    labels = [torch.tensor(split[1], device=device) for split in (train, test)]
    sources = [_on_device(split[0], image_size, workers, device) for split in (train, test)]
    count = len(labels[0])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed, 0)))
    chosen = order[:limit].sort().values if limit else torch.arange(count)
    if len(chosen) < 4 or not len(labels[1]):
        raise UserError(f"{name} has {len(chosen)} training and {len(labels[1])} test images: too few")
    mean, deviation = _statistics(sources[0], chosen, workers)
    size, channels = _shape(sources[0])
    varied = name == "imagenet"  # its files are cropped and flipped as they are read
    splits = [
        Images(source, target, indices, mean.to(device), deviation.to(device), workers=workers, share=get_share())
        for source, target, indices in zip(sources, labels, (chosen, torch.arange(len(labels[1]))), strict=True)
    ]
    splits[0] = replace(
        splits[0],
        pad=0 if varied else round(size / 8),
        flip=not varied and name != "digits",
        cutout=round(cutout * size),
        seed=mix(seed, 4),
    )
    return ImageData(*splits, tuple(classes), channels, size)


Split = tuple[Tensor | ImageFiles, Sequence[int]]  # images and labels


def _digits() -> tuple[Split, Split, Sequence[str]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.tensor(digits.images * (255 / 16)).round().to(torch.uint8)[:, None]
    train, test = train_test_split(range(len(images)), test_size=0.2, random_state=0, stratify=digits.target)
    splits = [(images[part], digits.target[part]) for part in (train, test)]
    return *splits, [str(name) for name in digits.target_names]


def _torchvision(name: str, root: Path) -> tuple[Split, Split, Sequence[str]]:
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "svhn": datasets.SVHN}[name]
    which = [{"split": part} for part in ("train", "test")] if name == "svhn" else [{"train": True}, {"train": False}]
    with take_turns(), contextlib.redirect_stdout(sys.stderr):
        try:
            parts = [kind(root, download=True, **selected) for selected in which]
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{name} is neither complete in {root} nor can it be downloaded there: {reason}") from None
    if name == "svhn":
        splits = [(torch.from_numpy(part.data), part.labels.tolist()) for part in parts]
        return *splits, [str(digit) for digit in range(10)]
    splits = [(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), part.targets) for part in parts]
    return *splits, parts[0].classes


def _imagenet16(root: Path) -> tuple[Split, Split, Sequence[str]]:
    """The first 120 classes of ImageNet at 16x16 pixels (Chrabaszcz et al., 2017; Dong & Yang, 2020), in the pickled
    batches in which ImageNet at this size is distributed: 1,000 classes, labels from 1."""
    names = [f"train_data_batch_{number}" for number in range(1, 11)], ["val_data"]
    folder = next((path for path in (root / "ImageNet16", root) if (path / names[0][0]).is_file()), None)
    if folder is None:
        raise UserError(
            f"imagenet16-120 is expected in {root / 'ImageNet16'}: the files train_data_batch_1 to train_data_batch_10 "
            "and val_data of the downsampled ImageNet at 16x16, from image-net.org"
        )
    splits = []
    for part in names:
        batches = [_imagenet16_batch(folder / name) for name in part]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        splits.append((torch.from_numpy(images).reshape(-1, 3, 16, 16), (labels - 1).tolist()))
    return *splits, [str(label) for label in range(1, 121)]


def _imagenet16_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 768) and labels (N,) up to 120 of a pickled batch. Raises UserError if it is something else."""
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file, encoding="latin1").load()
        images, labels = np.asarray(content["data"]), np.asarray(content["labels"])
    except Exception as error:  # a damaged or foreign file fails in many ways
        raise UserError(f"{path} is missing, damaged or no batch of images: {error!r}"[:300]) from None
    counted = labels.dtype.kind in "iu" and labels.shape == images.shape[:1] and len(labels)
    sound = counted and labels.min() >= 1 and labels.max() <= 1000
    if not sound or images.dtype != np.uint8 or images.shape[1:] != (768,):
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


class ImagesByClass(datasets.ImageFolder):
    """An ImageFolder that goes through every folder of a class once, though links lead there again, and does not pass
    over those that cannot be read."""

    @staticmethod
    def make_dataset(
        directory: str, class_to_idx: dict[str, int], extensions: Any = None, is_valid_file: Any = None,
        allow_empty: bool = False,
    ) -> list[tuple[str, int]]:  # fmt: skip
        samples, above = [], Path(directory).resolve()
        for name, label in class_to_idx.items():
            seen = {str(above), *map(str, above.parents)}
            images: list[str] = []
            for folder, inner, files in os.walk(Path(directory, name), followlinks=True, onerror=_raise):
                if os.path.realpath(folder) in seen:
                    inner.clear()
                    continue
                seen.add(os.path.realpath(folder))
                inner.sort()
                images += [str(Path(folder, file)) for file in sorted(files) if file.lower().endswith(extensions)]
            if not images:
                raise FileNotFoundError(f"the class {name} has no images in {directory}; files end in {extensions}")
            samples += [(path, label) for path in images]
        return samples


def _raise(error: OSError) -> NoReturn:
    raise error


def _folder(
    folder: Path, image_size: int | None, seed: int, imagenet: bool = False
) -> tuple[Split, Split, Sequence[str]]:
    """A folder with train/ and test/ or val/, a folder for each class in them (torchvision's ImageFolder)."""
    second = next((name for name in ("test", "val") if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir() or second is None:
        raise UserError(f"{folder} needs the folders train/ and test/ or val/, with a folder for each class in them")
    try:
        found = [ImagesByClass(folder / part) for part in ("train", second)]
    except (OSError, RuntimeError) as error:
        raise UserError(f"{folder}: {str(error).splitlines()[0]}") from None
    if found[0].classes != found[1].classes:
        odd = sorted(set(found[0].classes) ^ set(found[1].classes))
        raise UserError(f"{folder}: the classes in train/ and {second}/ differ: {', '.join(odd[:5])}")
    mode, own_size = _look_at(found[0].samples)
    size = image_size or own_size
    fit = v2.Compose([v2.Resize(size * 256 // 224 if imagenet else size), v2.CenterCrop(size)])
    vary = None
    if imagenet:
        jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.2)
        vary = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), jitter])
    splits = []
    for part, varied in zip(found, (vary, None), strict=True):
        paths, labels = zip(*part.samples, strict=True)
        splits.append((ImageFiles(paths, "RGB" if imagenet else mode, fit, varied, seed), labels))
    return *splits, found[0].classes


def _look_at(samples: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """Mode, L if all are grey and else RGB, and size of the images, from up to 2,000 of them: the side that all share
    if they are squares of 8 to 64 pixels, else 32."""
    grey, sizes = True, set()
    for path, _ in samples[:: math.ceil(len(samples) / 2000)]:
        image = decode(path, mode=None)
        grey = grey and image.mode in ("1", "L")
        sizes.add(image.size)
    width, height = sizes.pop()
    own = width if not sizes and width == height and 8 <= width <= 64 else 32
    return "L" if grey else "RGB", own


def _on_device(
    source: Tensor | ImageFiles, image_size: int | None, workers: int, device: torch.device
) -> Tensor | ImageFiles:
    """Images as one tensor on the device, unless they are files that do not fit or vary as they are read."""
    if isinstance(source, Tensor):
        if image_size and image_size != source.shape[-1]:
            source = v2.functional.resize(source, [image_size, image_size], antialias=True)
        return source.to(device)
    size, channels = _shape(source)
    if source.vary is not None or len(source) * channels * size * size > FITS:
        return source
    parts = torch.tensor_split(torch.arange(len(source)), math.ceil(len(source) / 250))
    read = read_files(source, parts, None, workers if len(parts) > 1 else 0, device)
    bar = tqdm(read, "reading images", len(parts), unit="batch", leave=False, delay=1, disable=not speaks())
    return torch.cat(list(bar))


def _shape(source: Tensor | ImageFiles) -> tuple[int, int]:
    """Size and channels of the images."""
    if isinstance(source, Tensor):
        return source.shape[-1], source.shape[1]
    return source.fit.transforms[-1].size[0], 3 if source.mode == "RGB" else 1


def _statistics(source: Tensor | ImageFiles, indices: Tensor, workers: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (C, 1, 1) each, of these images, of 2,000 of them if they are files."""
    if not isinstance(source, Tensor):
        parts = indices[:: math.ceil(len(indices) / 2000)].split(100)
        source = torch.cat(list(read_files(source, parts, None, workers, torch.device("cpu"))))
        indices = torch.arange(len(source))
    channels = source[indices.to(source.device)].transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in channels]).cpu().double()
    values, shares = torch.arange(256).double(), counts / counts.sum(1, keepdim=True)
    mean = (shares * values).sum(1)
    deviation = ((shares * values.square()).sum(1) - mean.square()).clamp(min=1.0).sqrt()
    return mean.float()[:, None, None], deviation.float()[:, None, None]
