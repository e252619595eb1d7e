"""The machinery of a run: presets, devices, data sets, checkpoints, logs, resume, pictures. `ptnas.py` has the method.

A run is a loop around a task that takes one step at a time (`Search`, `Selection`, `Retraining`). After every step its
state is written to a checkpoint, its record is appended to a log and now and then its picture is redrawn, all of one
name: `supernet.pt`, `supernet.jsonl`, `supernet.png`; long steps are saved inside, too. Everything random depends on
the seed, on how many steps were done and, of several processes, on which it is, and where a step is saved inside, the
random generators are too: a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import ctypes
import hashlib
import io
import itertools
import json
import math
import os
import pickle
import re
import shlex
import shutil
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

import numpy as np
import torch
import torch.distributed as dist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2
from tqdm import tqdm

from genotypes import PUBLISHED, SPACES, Arch, DiscreteCell, Genotype, Space, is_convolution

try:
    import fcntl
except ImportError:  # on Windows, where two runs can write to one file
    fcntl = None

SCHEMA = 1  # of genotype.json
CHECKPOINT_SCHEMA = 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # twice as large is an error


class UserError(Exception):
    """Something that the user can put right; shown as one line."""


class Stopped(KeyboardInterrupt):
    """A signal ends the run. whole: where its state can be saved."""

    def __init__(self, number: int, whole: bool = False):
        super().__init__(number)
        self.number, self.whole = number, whole


# ============================================================================================================
# Presets
# ============================================================================================================

DATASETS = ("digits", "cifar10", "cifar100", "svhn", "imagenet16-120", "imagenet")

# What differs from the paper's settings, which are the defaults of the settings in `ptnas.py`: by command, then by
# preset with the data set and the kind of space where these matter. `limit` is a number of training images,
# `image_size` a side in pixels. Search and selection of `digits` were chosen by measuring S2 and S4 on seeds of 100 and
# above (with five noise passes; three save time), those of `nb201` by the true errors with fixed α on CIFAR-10 images,
# seeds 100 to 103; the other laptop presets were only made to take minutes.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "search": {
        "paper": {},
        "laptop": {"layers": 3, "channels": 8, "epochs": 12, "lr": 0.1, "alpha_lr": 3e-3, "limit": 2000},
        "laptop digits": {"layers": 3, "epochs": 30, "alpha_lr": 3e-3, "sgas_metric": "loss"},
        "paper nb201": {"layers": 5, "epochs": 100},
        "laptop nb201": {
            "layers": 1, "epochs": 20, "lr": 0.05, "alpha_lr": 3e-3, "limit": 5000, "image_size": 16,
            "sgas_metric": "loss",
        },
        "laptop digits nb201": {"layers": 1, "epochs": 30, "alpha_lr": 3e-3, "sgas_metric": "loss"},
    },
    "select": {
        "paper": {},
        "laptop": {"tune_epochs": 1},
        "laptop digits": {"metric": "loss", "tune_epochs": 2, "noise_passes": 3},
        "laptop nb201": {"metric": "loss", "tune_epochs": 1},
    },
    "strength": {  # beside those of `select`; on the edges of S2 that were tried, one epoch ranks operations as six do
        "paper": {},
        "laptop": {"tune_epochs": 1},
    },
    # VGG and ResNet, for which the paper gives no settings: learning rate, batch size, weight decay and the number of
    # epochs are those of He et al. (2016), whose steps of the learning rate are a cosine here.
    "table1": {
        "paper": {
            "layers": 5, "epochs": 164, "batch_size": 128, "lr": 0.1, "channels": 16, "weight_decay": 1e-4,
            "auxiliary": 0.0, "drop_path": 0.0, "cutout": 0.0,
        },
        "laptop": {
            "layers": 5, "epochs": 20, "batch_size": 64, "lr": 0.1, "channels": 16, "weight_decay": 1e-4,
            "auxiliary": 0.0, "drop_path": 0.0, "cutout": 0.0,
        },
    },
    "retrain": {
        "paper": {},
        "paper cifar100 s1-s4": {"layers": 8, "channels": 16},
        "paper svhn s1-s4": {"layers": 8, "channels": 16},
        "paper imagenet": {
            "form": "imagenet", "layers": 14, "channels": 48, "epochs": 250, "batch_size": 128, "lr": 0.1,
            "decay": "exponential", "weight_decay": 3e-5, "drop_path": 0.0, "cutout": 0.0, "label_smoothing": 0.1,
        },
        "laptop": {
            "layers": 5, "channels": 12, "epochs": 10, "lr": 0.1, "drop_path": 0.0, "cutout": 0.0, "limit": 5000,
        },
        "laptop digits": {
            "layers": 5, "channels": 16, "epochs": 30, "batch_size": 64, "lr": 0.1, "drop_path": 0.0, "cutout": 0.0,
        },
        "laptop imagenet": {
            "form": "imagenet", "layers": 5, "channels": 16, "epochs": 10, "batch_size": 64, "lr": 0.1,
            "decay": "exponential", "weight_decay": 3e-5, "drop_path": 0.0, "cutout": 0.0, "label_smoothing": 0.1,
            "limit": 10_000, "image_size": 64,
        },
        "paper nb201": {
            "layers": 5, "channels": 16, "epochs": 200, "batch_size": 256, "lr": 0.1, "nesterov": True,
            "weight_decay": 5e-4, "clip": math.inf, "auxiliary": 0.0, "drop_path": 0.0, "cutout": 0.0,
        },
        "laptop nb201": {
            "layers": 1, "channels": 16, "epochs": 10, "batch_size": 64, "lr": 0.1, "nesterov": True,
            "weight_decay": 5e-4, "clip": math.inf, "auxiliary": 0.0, "drop_path": 0.0, "cutout": 0.0, "limit": 5000,
        },
    },
}  # fmt: skip


def preset(command: str, name: str | None, dataset: str, space: str | None = None) -> tuple[str, dict[str, Any]]:
    """The name of the preset, `laptop` by default for `digits` and `paper` for all else, and what it sets."""
    name = name or ("laptop" if dataset == "digits" else "paper")
    kind = "s1-s4" if space in ("s1", "s2", "s3", "s4") else space
    choices = PRESETS[command]
    keys = (f"{name} {dataset} {kind}", f"{name} {kind}", f"{name} {dataset}", name)
    key = next(key for key in keys if key in choices)
    return name, dict(choices[key])


def overridden(values: dict[str, Any], args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """`values` with those of the flags `names` that were given."""
    return values | {name: getattr(args, name) for name in names if getattr(args, name) is not None}


# ============================================================================================================
# Command lines
# ============================================================================================================


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as a UserError, in one line instead of with the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists all options)")


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        limit = f" and at most {most}" if most < 2**31 - 1 else ""
        raise argparse.ArgumentTypeError(f"a whole number of at least {least}{limit} is needed, not {text!r}")

    return parse


def positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """What a command computes on."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--threads", type=whole(1, 1024), metavar="N", help="CPU threads")
    parser.add_argument("--deterministic", action="store_true", help="on a GPU: the same bits every time, but slower")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """What a command reads, and the preset."""
    parser.add_argument("--dataset", metavar="NAME|FOLDER", help=f"{', '.join(DATASETS)}, or a folder of images")
    parser.add_argument("--data", metavar="DIR", type=Path, help="where the named data sets lie or are downloaded to")
    parser.add_argument("--preset", choices=("paper", "laptop"), help="settings to start from")


def add_run_options(parser: argparse.ArgumentParser, save: str, compiles: bool = True) -> None:
    """The options of a run."""
    add_data_options(parser)
    add_machine_options(parser)
    parser.add_argument(
        "--amp", action=argparse.BooleanOptionalAction, help="bfloat16 where that is safe; the default on CUDA"
    )
    parser.add_argument("--low-memory", action="store_true", help="compute the cells again in the backward pass")
    if compiles:
        parser.add_argument("--compile", action="store_true", help="compile the cells; slow to start")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--workers", type=whole(0, 256), metavar="N", help="that read image files, for each process")
    parser.add_argument("--save", type=Path, default=Path(save), metavar="FILE", help=f"result, {save} by default")
    add_resume_options(parser)


def add_resume_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on where the run that wrote the result stopped")
    parser.add_argument(
        "--checkpoint-minutes", type=positive, default=10.0, metavar="X", help="save inside longer steps too; 10"
    )


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """The options that override a preset of the search or of the retraining."""
    parser.add_argument("--batch-size", type=whole(2), metavar="N", help="of all processes together")
    for name, most in (("--epochs", 10**6), ("--channels", 4096), ("--layers", 1000)):
        parser.add_argument(name, type=whole(1, most), metavar="N")
    parser.add_argument("--image-size", type=whole(8, 4096), metavar="S", help="side in pixels")
    parser.add_argument("--limit", type=whole(8), metavar="N", help="use a random N of the training images")
    parser.add_argument("--lr", type=positive, metavar="X", help="learning rate of the weights")


def command(script: str, main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None) -> int:
    """Run a command; what the user can put right becomes one line on stderr, as does how to go on after a signal.
    Returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # file names need not be text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with SIGNALS.handled(), alone_or_together():
            main(argv)
    except (UserError, OSError) as error:  # the latter of names that are too long, and of what else systems refuse
        # A loader process wraps the message in its traceback, of which it is the last line.
        complain(script, (str(error).strip() or repr(error)).splitlines()[-1].removeprefix("runs.UserError: "))
        return 2
    except (MemoryError, RuntimeError) as error:  # that of a GPU and that of the CPU's allocator are of the latter kind
        reason = (str(error).strip() or "no memory is left").splitlines()[0]
        if several() and (isinstance(error, dist.DistError) or "gloo" in reason):
            complain(script, f"another process was lost; as many with --resume go on ({reason[-120:]})")
            return 2
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in reason:
            raise
        complain(script, f"{reason} (smaller: --batch-size, --channels, --image-size; --low-memory)")
        return 2
    except Stopped as stop:
        arguments = ["python", script, *map(str, sys.argv[1:] if argv is None else argv)]
        if SIGNALS.checkpoint and "--resume" not in arguments:
            arguments.append("--resume")
        saved = f", its last checkpoint is {SIGNALS.checkpoint}" if SIGNALS.checkpoint else ""
        name, again = signal.Signals(stop.number).name, shlex.join(arguments)
        if several():
            again = f"as many processes of {again}"
        with contextlib.suppress(OSError):  # the signal may have ended what reads this
            note(f"{script}: stopped by {name}{saved}; to go on: {again}")
        return 128 + stop.number
    return 0


def complain(script: str, message: str) -> None:
    where = "" if speaks() else f"process {os.environ['RANK']}: "
    print(f"{script}: error: {where}{message}", file=sys.stderr)


class Signals:
    """SIGINT and SIGTERM, which raise Stopped. While a run takes its steps the first of them is only `seen`, and the
    run stops where its state is whole; one that comes a while later stops it at once."""

    def __init__(self):
        self.seen: int | None = None
        self.when = 0.0
        self.waits = False
        self.checkpoint: Path | None = None  # that the command has written or gone on from last

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """In which a command runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.seen, self.waits, self.checkpoint = None, False, None
        heard = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._arrived) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """In which a run takes its steps."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False

    def _arrived(self, number: int, _: Any) -> None:
        first = not self.seen
        if first:  # for `Run` to see, too, as what is raised here is lost where Python is just freeing something
            self.seen, self.when = number, time.monotonic()
        if not self.waits:
            raise Stopped(number)
        if first and speaks():  # not by `print`, which this may have interrupted
            with contextlib.suppress(OSError):
                os.write(2, b"\nfinishing the step before stopping; another signal stops at once\n")
        elif (
            not first and time.monotonic() - self.when > 2
        ):  # a batch system and a command that started this one may both send it
            raise Stopped(number)


SIGNALS = Signals()


def set_up(args: argparse.Namespace) -> torch.device:
    """Set the number of threads and the precision, meet the other processes, return the device."""
    keep_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(name for name, there in available.items() if there) if args.device == "auto" else args.device
    if not available[kind]:
        raise UserError(f"no device {kind} here; --device auto takes what there is")
    device = torch.device(kind)
    if kind == "cuda":
        device = torch.device(kind, int(os.environ.get("LOCAL_RANK", 0)))
        if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > torch.cuda.device_count():
            raise UserError(f"{os.environ['LOCAL_WORLD_SIZE']} processes here, and {torch.cuda.device_count()} GPUs")
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32, which convolutions use anyway
        torch.backends.cudnn.benchmark = not args.deterministic
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    torch.use_deterministic_algorithms(args.deterministic, warn_only=True)
    join(device)
    return device


def computing(args: argparse.Namespace, device: torch.device) -> dict[str, bool]:
    """The options of how networks are computed, as `ptnas.Computing` has them."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    flags = {"amp": native if args.amp is None else args.amp, "low_memory": args.low_memory}
    return flags | ({"compile": args.compile} if "compile" in args else {})


def keep_memory() -> None:
    """Let the C library of Linux keep what tensors free. By itself it gives blocks of 32 MiB and more back to the
    system and gets them anew, page by page, which takes longer than what is computed in them."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not every C library has it
            library = ctypes.CDLL(None)
            library.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def seed_step(*numbers: int) -> None:
    """Seed torch's global generators from these numbers."""
    torch.manual_seed(mix(*numbers))


def mix(*numbers: int) -> int:
    """One seed below 2^32 from several numbers, different for all small ones."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**32
    return seed


def place(device: torch.device) -> dict[str, Any]:
    """Where a run computes, and whether with the same bits every time."""
    found = {"device": device.type, "processes": process()[1]}
    return found | ({"deterministic": True} if torch.are_deterministic_algorithms_enabled() else {})


def random_state() -> list[Tensor]:
    """Of torch's global generators, on the CPU and on the device."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states.append(torch.cuda.get_rng_state())
    elif torch.backends.mps.is_available():
        states.append(torch.mps.get_rng_state())
    return states


def set_random_state(states: list[Tensor]) -> None:
    """Of a device that is not there any more nothing. Raises UserError if these are no states."""
    try:
        torch.set_rng_state(states[0])
        if len(states) > 1 and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(states[1])
        elif len(states) > 1 and torch.backends.mps.is_available():
            torch.mps.set_rng_state(states[1])
    except (RuntimeError, TypeError, LookupError) as error:
        raise UserError(f"the checkpoint has no state of the random generators: {error}") from None


def announce(settings: dict[str, Any]) -> None:
    """Print what a run uses."""
    print(", ".join(f"{name} {value}" for name, value in settings.items() if value is not None), flush=True)


def warn_if_long(device: torch.device, preset_name: str, seconds: Callable[[], float]) -> None:
    """On a CPU, say about how long a `paper` run takes and that there is another preset."""
    if device.type == "cpu" and preset_name == "paper" and speaks():
        hours = seconds() / 3600
        span = f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"
        note(f"this will take about {span} on this CPU; --preset laptop takes minutes")


def seconds_needed(network: nn.Module, data: ImageData, trained: float, evaluated: float) -> float:
    """Seconds on the CPU to train on and to evaluate so many images, from one pass of a few images each."""
    network = copy.deepcopy(network)  # whose running statistics may change
    images = torch.zeros(4, data.channels, data.image_size, data.image_size)
    with torch.no_grad():
        network(images)  # the first pass is slow
    started = time.perf_counter()
    outputs = network(images)
    forward = time.perf_counter() - started
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    logits.sum().backward()
    both = time.perf_counter() - started
    return (both * trained + forward * evaluated) / len(images)


# ============================================================================================================
# Several processes
# ============================================================================================================

# Under torchrun every process runs the same command. The first speaks and writes, all others only compute.


def join(device: torch.device) -> None:
    """Meet the other processes that torchrun has started, if it has."""
    if several() and process()[1] == 1:
        if device.type == "mps":
            raise UserError("several processes work on CUDA or on the CPU: --device cpu")
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=timedelta(hours=1))  # the first may have much to download
        except (ValueError, RuntimeError) as error:
            raise UserError(f"the other processes cannot be met: {error}") from None


def several() -> bool:
    """Whether torchrun has started more processes than this one."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ


def process() -> tuple[int, int]:
    """Which of how many processes this is; alone, until they have met."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def speaks() -> bool:
    """Whether this is the process that prints and writes."""
    return not several() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def alone_or_together() -> Iterator[None]:
    """In which a command runs. Of several processes only the first prints, and they end together. Where one fails it
    leaves, and torchrun ends the others; what they have to say, mostly the same or that they lost the first, waits
    until then, so that only the error of a single process is heard beside that of the first."""
    with contextlib.ExitStack() as stack:
        if not speaks():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        try:
            yield
        except BaseException:
            if not speaks():
                time.sleep(5)
            raise
    if process()[1] > 1:
        dist.barrier()  # none leaves while another still needs it
        dist.destroy_process_group()


def note(text: str) -> None:
    """Tell something beside the result."""
    if speaks():
        print(text, file=sys.stderr, flush=True)


def from_first(function: Callable[[], Any]) -> Any:
    """What the function returns in the first process, in all of them; or the UserError that it raises there."""
    if process()[1] == 1:
        return function()
    box = [None, None]
    if speaks():
        try:
            box = [function(), None]
        except (UserError, OSError) as error:
            box = [None, str(error)]
    dist.broadcast_object_list(box, src=0)
    if box[1]:
        raise UserError(box[1])
    return box[0]


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """The first process goes through this alone, then the first of each machine, then the others: they find what was
    written before, on a folder that the machines share or on one of their own."""
    turn = 0 if speaks() else 1 if os.environ.get("LOCAL_RANK") == "0" else 2
    for number in range(3):
        if number == turn:
            yield
        if process()[1] > 1 and number < 2:
            dist.barrier()


# ============================================================================================================
# Data
# ============================================================================================================

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

    def batches(self, size: int, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        order = self.indices[torch.randperm(len(self), generator=generator)]
        rank, processes = self.share
        if rank:  # the order is that of all processes, what follows is not
            generator.manual_seed(mix(self.seed, epoch, rank))
        batches = self._split(order, size)
        if processes > 1 and min(map(len, batches)) < 2 * processes:
            raise UserError(f"{processes} processes are too many to share {len(self)} images in batches of {size}")
        parts = [batch.tensor_split(processes)[rank] for batch in batches]
        read = self._read(parts[start:], epoch)
        for number, part in enumerate(parts):
            passed = number < start  # what is passed over has no pixels, and is drawn for like the others
            images, labels = (self._unread(part), None) if passed else next(read)
            images = random_crop(images, self.pad, generator) if self.pad else images
            images = random_flip(images, generator) if self.flip else images
            images = images if passed else self._normalised(images)
            images = random_cutout(images, self.cutout, generator) if self.cutout else images
            if not passed:
                yield images, labels

    def clean(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        rank, processes = self.share
        for images, labels in self._read(self._split(self.indices, size)[rank::processes], epoch=None):
            yield self._normalised(images), labels

    def of(self, indices: Tensor, seed: int) -> Images:
        """The split of these among its images."""
        return replace(self, indices=self.indices[indices], seed=seed)

    def _split(self, order: Tensor, size: int) -> tuple[Tensor, ...]:
        return torch.tensor_split(order, self.count(size))

    def _unread(self, part: Tensor) -> Tensor:
        """Images without pixels."""
        size, channels = _shape(self.source)
        return torch.empty(len(part), channels, size, size, device="meta")

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

    def halves(self, seed: int) -> tuple[Images, Images]:
        """A random half of the training images to train w on, the other to validate on."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(mix(seed, 1)))
        middle = len(order) // 2
        return self.train.of(order[:middle], mix(seed, 2)), self.train.of(order[middle:], mix(seed, 3))


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
        Images(source, target, indices, mean.to(device), deviation.to(device), workers=workers, share=process())
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
    with in_turn(), contextlib.redirect_stdout(sys.stderr):
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
    """Reads containers, numbers, text and numpy arrays of numbers, and refuses all else.

    What a pickle calls to rebuild an array is answered by the two classes below, never by numpy's own functions, which
    take raw pointers and can be written to.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        known = {
            "ndarray": "ndarray",  # only ever handed to `_reconstruct`
            "dtype": PickledType,
            "_reconstruct": lambda *_: PickledArray(),
            "_frombuffer": lambda data, kind, shape, order: PickledArray((1, shape, kind, order == "F", data)),
        }
        if module.partition(".")[0] != "numpy" or name not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return known[name]


class PickledType:
    """A type of numbers as a pickle has it: one of i1 ... u8, f8, and its byte order."""

    def __init__(self, name: str, *_: Any):
        if not isinstance(name, str) or not re.fullmatch("[iuf][1248]", name):
            raise pickle.UnpicklingError(f"an array of {name!r}, not of numbers")
        self.type = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.type = self.type.newbyteorder(state[1])


class PickledArray:
    """An array as a pickle has it: version, shape, type, whether in Fortran order, and the bytes."""

    def __init__(self, state: tuple | None = None):
        if state:
            self.__setstate__(state)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = np.frombuffer(data, kind.type).reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array


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


# ============================================================================================================
# Files
# ============================================================================================================


def write(path: Path, content: Callable[[Any], None], mode: str = "wb", keep: bool = False) -> None:
    """Write to a file beside `path` and rename it: `path` is whole, old or new, at every moment. keep: the old one as
    `earlier(path)`. Of a link it is the file that it leads to."""
    if not speaks():
        return
    file_itself = Path(os.path.realpath(path))
    beside = file_itself.with_name(f".{path.name}.writing")
    try:
        if keep and path.exists():
            copy_to(file_itself, earlier(path))
        beside.unlink(missing_ok=True)  # which can be another name of a file that is to be kept
        with beside.open(mode) as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(file_itself)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {path}: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def copy_to(path: Path, other: Path) -> None:
    """Make `other`, whole at every moment, another name of the file, or a copy on file systems without links."""
    beside = other.with_name(f".{other.name}.writing")
    beside.unlink(missing_ok=True)
    try:
        try:
            os.link(path, beside)
        except OSError:
            shutil.copyfile(path, beside)
        beside.replace(other)
    finally:
        beside.unlink(missing_ok=True)


def earlier(checkpoint: Path) -> Path:
    """Where the checkpoint before the newest is."""
    return checkpoint.with_name(checkpoint.name + ".before")


@contextlib.contextmanager
def locked(save: Path) -> Iterator[None]:
    """In which no other run writes to what has the name of `save`. Raises UserError if one does. The system ends the
    lock with the process, however that ends; the file that it is on can then remain, and does no harm."""
    path = save.with_name(f".{save.stem}.lock")
    if fcntl is None or not speaks():
        yield
        return
    with _lock(path, save) as file:
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _lock(path: Path, save: Path) -> TextIO:
    while True:
        try:
            file = path.open("a+")
        except OSError as error:
            raise UserError(f"cannot write to the lock of {save}: {error}") from None
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                return file
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise UserError(f"another run is writing to {save}: {file.read(200)}") from None
        except FileNotFoundError:
            pass  # another run has just ended and removed it
        except OSError as error:
            note(f"note: no other run may write to {save}: this file system has no locks ({error})")
            return file
        file.close()


def fingerprint(path: Path) -> str:
    """What tells this file from others: the beginning of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    write(path, lambda file: file.write(json.dumps(value, indent=1) + "\n"), "w")


SEAL = b"\nsha256 "  # and the checksum, behind what torch.save writes, which torch.load does not mind


class DamagedError(UserError):
    """A checkpoint that is no longer what was written."""


def save_checkpoint(path: Path, content: dict[str, Any], keep: bool = False) -> None:
    """keep: what was there as `earlier(path)`."""
    if not speaks():
        return
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    seal = SEAL + hashlib.sha256(data).hexdigest().encode()
    write(path, lambda file: file.writelines((data, seal)), keep=keep)


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """A checkpoint of this kind, which is what was written and sound. Nothing in it is executed. Raises UserError if
    there is none, of these DamagedError if it once was one."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        data = path.read_bytes()
        body, seal, checksum = data.rpartition(SEAL)
        whole = hashlib.sha256(body).hexdigest().encode() == checksum
        if seal and not whole:
            raise ValueError("it does not have the checksum with which it was written")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format of what is then refused
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, MemoryError):  # what cannot be read now can be sound
        raise
    except Exception as error:  # a damaged or foreign file fails in many ways
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DamagedError(f"{path} is damaged or no checkpoint: {reason[0][:120]}") from None
    if not isinstance(content, dict) or not content.keys() >= FIELDS or not _one_of(*RECORDED)(content["kind"]):
        raise UserError(f"{path} is not a checkpoint of these commands")
    if not _one_of(CHECKPOINT_SCHEMA)(content["schema"]):
        schema = str(content["schema"])[:20]
        raise UserError(f"{path} has schema version {schema}, and this program reads {CHECKPOINT_SCHEMA}")
    if not whole:
        raise DamagedError(f"{path} is damaged: it has no checksum")
    if content["kind"] != kind:
        raise UserError(f"{path} holds a {content['kind']}, and a {kind} is needed")
    wrong = unsound(content)
    if wrong:
        raise UserError(f"{path} is not as these commands write it: {wrong}")
    return content


def load_newest(path: Path, kind: str) -> tuple[dict[str, Any], str | None]:
    """A checkpoint, or if it is damaged or lost the one before it, and then what is wrong with the newest. Raises
    UserError."""
    if not path.exists() and earlier(path).exists():
        return load_checkpoint(earlier(path), kind), f"there is no file {path}"
    try:
        return load_checkpoint(path, kind), None
    except DamagedError as error:
        if not earlier(path).exists():
            raise
        return load_checkpoint(earlier(path), kind), str(error)


def load_search(path: Path) -> dict[str, Any]:
    """The checkpoint of a search of which at least one epoch is over. Raises UserError."""
    checkpoint = load_checkpoint(path, "supernet")
    settings, epochs = checkpoint["settings"], len(checkpoint["records"])
    inside = bool(checkpoint["state"]["progress"])
    if not epochs:
        raise UserError(f"{path} is from the first epoch of its search, which is not over")
    if inside and settings["sgas"] != "none":
        raise UserError(f"{path} was stopped among the decisions of an epoch; train_search.py --resume goes on")
    if not checkpoint["finished"]:
        more = " and a part of the next" if inside else ""
        note(f"note: {path} is the supernet after {epochs} of {settings['epochs']} epochs{more}")
    return checkpoint


FIELDS = {"schema", "kind", "settings", "finished", "records", "state"}
# What the records of a kind of run have at least
RECORDED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "supernet": {"epoch": int, "valid_accuracy": float, "skip_gap": (float, type(None)), "weights": dict},
    "selection": {"round": int, "valid_accuracy": float, "discretised_accuracy": float, "decisions": list},
    "network": {
        "epoch": int, "test_error": float,
        **{f"{split}_{quantity}": float for split in ("train", "test") for quantity in ("accuracy", "loss")},
    },
    "analysis": {},
}  # fmt: skip
NUMBERS = {
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
}


def unsound(content: dict[str, Any]) -> str | None:
    """What is wrong with a checkpoint of a known kind, if anything is."""
    kind = content["kind"]
    for part, value in content.items():
        finite = value
        if part == "settings" and isinstance(value, dict) and _one_of(math.inf)(value.get("clip")):
            finite = {**value, "clip": None}  # which may be infinite
        wrong = odd(finite, part, tensors=part in ("state", "random"))
        if wrong:
            return wrong
    for values, checks in zip((content, *(content[part] for part in ("settings", "state"))), SOUND[kind], strict=True):
        for name, sound in {**(IN_ALL if values is content else {}), **checks}.items():
            if name not in values or not sound(values[name]):
                return f"{name} is {values.get(name)!r}"[:200]
    records = content["records"]
    for record in records:
        fields = {"seconds": float, **RECORDED[kind]}
        if type(record) is not dict or any(not isinstance(record.get(name), of) for name, of in fields.items()):
            return "a record lacks something"
    done = _one_of(len(records))(content["state"].get("done"))
    if not done or (content["finished"] and not records and kind != "selection"):
        return f"{len(records)} records of {content['state'].get('done')!r} steps"
    return None


def odd(value: Any, name: str, tensors: bool = True, depth: int = 60, seen: set[int] | None = None) -> str | None:
    """What is neither a plain container, text or a finite number in it, nor, if `tensors`, a plain tensor of finite
    numbers, by its name, if there is something. seen: the containers that were looked at, for one can be in many."""
    if isinstance(value, dict | list | tuple):
        seen = set() if seen is None else seen
        if id(value) in seen:
            return None
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        if not depth:
            return f"{name[:80]} is too deep"
        return next(filter(None, (odd(each, f"{name}.{key}", tensors, depth - 1, seen) for key, each in items)), None)
    if isinstance(value, Tensor):
        if not tensors or value.layout != torch.strided or value.is_meta or value.dtype not in NUMBERS:
            return f"{name} is no tensor of numbers"
        return None if value.isfinite().all() else f"{name} is not finite"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{name} is not finite"
    return None if value is None or isinstance(value, str | int) else f"{name} is {type(value).__name__}"


def _whole(least: int, most: int = 2**31) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _text(value: Any) -> bool:
    return isinstance(value, str)


# What select.py and analyze.py take from the checkpoint of a search: from its settings, and about its data
OF_A_SEARCH: dict[str, Callable[[Any], bool]] = {
    "space": _one_of(*SPACES), "dataset": _text, "data": lambda value: value is None or _text(value),
    "preset": _one_of("paper", "laptop"), "seed": _whole(0), "limit": lambda value: value is None or _whole(1)(value),
    "layers": _whole(1, 1000), "channels": _whole(1, 4096), "epochs": _whole(1), "batch_size": _whole(1),
    "eval_batch_size": _whole(1), "lr": _number, "lr_min": _number, "momentum": _number, "weight_decay": _number,
    "clip": lambda value: _one_of(math.inf)(value) or _number(value), "alpha": _one_of("bilevel", "fixed"),
    "order": _one_of(1, 2), "alpha_lr": _number, "alpha_weight_decay": _number,
    "noise": _one_of("none", "gaussian", "uniform"), "sgas": _one_of("none", "magnitude", "perturbation"),
    "sgas_metric": _one_of("accuracy", "loss"), "sgas_batch_growth": _whole(0),
}  # fmt: skip
OF_A_GENOTYPE = {name: OF_A_SEARCH[name] for name in ("space", "dataset", "data", "preset", "seed")} | {
    "image_size": _whole(8, 4096),
    "search": lambda value: isinstance(value, dict),
    "valid_accuracy": _number,
    "supernet_accuracy": _number,
}
OF_ITS_DATA: dict[str, Callable[[Any], bool]] = {
    "classes": lambda value: isinstance(value, list) and all(map(_text, value)) and len(value) > 1,
    "channels": _one_of(1, 3),
    "image_size": _whole(8, 4096),
}


def _parts(value: Any) -> bool:
    """Whether these are the parts of a step."""
    return isinstance(value, list) and all(
        isinstance(part, dict)
        and part.keys() == {"over", "turns", "rows", "value"}
        and type(part["over"]) is bool
        and _whole(0)(part["turns"])
        and (part["rows"] is None or (isinstance(part["rows"], list) and all(map(_rows, part["rows"]))))
        for part in value
    )


def _rows(value: Any) -> bool:
    """Whether these are those of a meter."""
    return isinstance(value, list) and all(
        isinstance(row, tuple) and len(row) == 5 and all(type(each) in (int, float) for each in row) and row[3] > 0
        for row in value
    )


def _random(value: Any) -> bool:
    """Whether these are states of the random generators of processes."""
    lists = value is None or (isinstance(value, list) and all(isinstance(each, list) and each for each in value))
    return lists and all(isinstance(state, Tensor) for each in value or () for state in each)


def _bilevel(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("supernet"), dict)


IN_ALL: dict[str, Callable[[Any], bool]] = {
    "settings": lambda value: type(value) is dict,
    "records": lambda value: type(value) is list,
    "state": lambda value: isinstance(value, dict),
    "finished": _one_of(True, False),
    "random": _random,
    "seconds": _number,
}
# By kind, what matters of the content beside that, of the settings, if other commands read them, and of the state
SOUND: dict[str, tuple[dict[str, Callable[[Any], bool]], ...]] = {
    "supernet": (OF_ITS_DATA, OF_A_SEARCH, {"progress": _parts, "bilevel": _bilevel}),
    "selection": (
        {},
        {"space": OF_A_SEARCH["space"], "criterion": _text, "seed": _whole(0)},
        {"progress": _parts, "accuracy": lambda value: value is None or _number(value)},
    ),
    "network": ({}, {}, {"progress": _parts}),
    "analysis": ({}, {"command": _text}, {"progress": _parts}),
}


def load_state(task: nn.Module | Task, state: Any, path: Path) -> None:
    """Load a state that came from the checkpoint `path`. Raises UserError if it does not fit."""
    try:
        task.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path} does not fit what is to be loaded: {reason[-1].strip()[:160]}") from None


class Progress(Protocol):
    """How far a task has come inside of a step. parts: what it has gone through, if anything; pause(saves): to be
    called wherever the run may stop, and save the state of the task if `saves`."""

    parts: Sequence[Any]
    pause: Callable[..., None]


class Task(Protocol):
    """What a run is a loop around."""

    done: int
    total: int
    progress: Progress
    lr: float

    def step(self) -> dict[str, Any]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Run:
    """The files of a run and its loop; of several processes the first has the files. `save` is the result that was
    asked for; checkpoint, log and picture have its name with .pt, .jsonl and .png. `settings` are what the result
    depends on, kept with it; those that a resumed run must not change. `minutes` pass at most before the checkpoint is
    written, inside a step too. It is a context, in which no other run can write to these files."""

    def __init__(self, save: Path, kind: str, settings: dict[str, Any], resume: bool, minutes: float):
        self.save, self.kind, self.settings, self.resume, self.minutes = save, kind, settings, resume, minutes
        self.checkpoint, self.log, self.picture = (save.with_suffix(end) for end in (".pt", ".jsonl", ".png"))
        self.records: list[dict[str, Any]] = []
        self.state: dict[str, Any] | None = None
        self.finished = False
        self.before: dict[str, Any] = {}  # the checkpoint of the earlier part of a resumed run
        self.extra: dict[str, Any] = {}  # what the checkpoint says beside the state
        self.random: list[list[Tensor]] | None = None  # of every process, inside a step that is to be gone on with
        self.seconds = 0.0  # that the step in hand had taken before
        self.began = self.saved = time.monotonic()  # the step in hand; the last checkpoint
        self.held = contextlib.ExitStack()

    def __enter__(self) -> Run:
        from_first(self._check_writable)
        from_first(lambda: self.held.enter_context(locked(self.save)))
        try:
            before = from_first(self._earlier) if self.resume else None
            if before:
                self._resume(*before)
        except BaseException:
            self.held.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.held.close()

    def _check_writable(self) -> None:
        if self.save.is_dir():
            raise UserError(f"cannot write {self.save}: it is a folder")
        suffix = ".json" if self.kind in ("selection", "analysis") else ".pt"
        if self.save.suffix != suffix:
            raise UserError(f"--save {self.save}: a file name that ends in {suffix} is needed")
        if not self.save.parent.is_dir():
            raise UserError(f"cannot write {self.save}: there is no folder {self.save.parent}")
        if not os.access(self.save.parent, os.W_OK):
            raise UserError(f"cannot write {self.save}: the folder is read-only")

    def _earlier(self) -> tuple[dict[str, Any], bool] | None:
        """The checkpoint, or if it is damaged or lost the one before it, and whether the result is there too."""
        if not self.checkpoint.exists() and not earlier(self.checkpoint).exists():
            return None
        content, damage = load_newest(self.checkpoint, self.kind)
        if damage:
            note(f"note: {damage}; going on from the one before it, {earlier(self.checkpoint)}")
            copy_to(earlier(self.checkpoint), self.checkpoint)
        return content, self.save.exists()

    def _resume(self, content: dict[str, Any], complete: bool) -> None:
        self.before = content
        for name in {**content["settings"], **self.settings}:
            before, now = content["settings"].get(name), self.settings.get(name)
            if before != now:
                raise UserError(f"--resume: {self.checkpoint} was begun with {name} {before}, and now it is {now}")
        self.state, self.records = content["state"], content["records"]
        self.finished = content["finished"] and complete
        self.random, self.seconds = content["random"], content["seconds"]
        SIGNALS.checkpoint = self.checkpoint
        if self.finished:
            print(f"{self.checkpoint} is finished: nothing is left to do", flush=True)
        elif self.random and len(self.random) != process()[1]:
            count = f"{len(self.random)} processes and can go on with as many only"
            raise UserError(f"--resume: {self.checkpoint} was stopped inside a step by {count}")

    def loop(
        self,
        task: Task,
        unit: str,
        show: Callable[[dict[str, Any]], str],
        draw: Callable[[Figure, list[dict[str, Any]]], None],
        extra: dict[str, Any] | None = None,
        complete: Callable[[list[dict[str, Any]]], None] = lambda records: None,
        keep_every: int | None = None,
    ) -> None:
        """Take all steps of the task that are left. `show` puts a record into a few words for the progress bar; `draw`
        draws the records; `extra` goes into the checkpoint; `complete` is called after the last step, before the
        checkpoint says that the run is finished; after every `keep_every` steps the checkpoint is kept as well, as
        `name.epochNNN.pt`."""
        self.extra = extra or {}
        if self.state is None:
            self._move_aside()
            self._save(task)  # before anything else, so that a killed run leaves nothing that does not belong to it
        else:
            load_state(task, self.state, self.checkpoint)
            for name in ("classes", "channels", "image_size", "images"):
                if name in self.before and self.before[name] != self.extra.get(name):
                    raise UserError(f"--resume: {self.checkpoint} was begun on other images: their {name} have changed")
            if self.before.get("computing") != self.extra.get("computing"):
                note(f"note: {self.checkpoint} was computed otherwise before: {self.before.get('computing')}")
        write(self.log, lambda file: file.writelines(json.dumps(record) + "\n" for record in self.records), "w")
        task.progress.pause = partial(self._pause, task)
        drawn = -math.inf
        bar = tqdm(total=task.total, initial=task.done, unit=unit, disable=not (task.total and speaks()))
        with SIGNALS.waiting(), bar:
            while not self.finished:
                if task.done < task.total:  # else only the result is missing, or there was nothing to do
                    self._step(task, unit)
                self.finished = task.done >= task.total
                # Before the checkpoint says that the run is finished everything else must be there.
                if self.finished:
                    complete(self.records)
                if self.finished or time.monotonic() - drawn > 10:
                    save_picture(self.picture, lambda figure: draw(figure, self.records))
                    drawn = time.monotonic()
                kept = keep_every and task.done % keep_every == 0
                self._save(task, *([snapshot(self.checkpoint, task.done)] if kept else []))
                if self.records:
                    bar.set_postfix_str(show(self.records[-1]))
                bar.update(task.done - bar.n)
                if not self.finished:
                    self._pause(task)

    def _step(self, task: Task, unit: str) -> None:
        if self.random:
            set_random_state(self.random[process()[0]])
        else:
            # What all processes must draw alike is the noise on α; drop-path is for the images of each.
            own = [process()[0]] if self.kind == "network" and not speaks() else []
            seed_step(self.settings["seed"], task.done, *own)
        self.began = time.monotonic() - self.seconds
        try:
            try:
                record = task.step()
            except Stopped as stop:
                if stop.whole:
                    self._save(task)
                raise
        except FloatingPointError as error:  # of the step, or of what is saved of it
            raise UserError(f"{error} of {unit} {task.done + 1}{self._advice(task)}") from None
        record["seconds"] = round(time.monotonic() - self.began, 3)
        self.random, self.seconds = None, 0.0
        for name, value in record.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} became {value} in {unit} {task.done}{self._advice(task)}")
        self.records.append(record)
        if not speaks():
            return
        try:
            with self.log.open("a") as log:
                log.write(json.dumps(record) + "\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.log}: {error}") from None

    def _advice(self, task: Task) -> str:
        """What may help when a number is not finite."""
        if self.kind == "analysis":
            return ""
        where = f", learning rate {task.lr:.3g}; {self.checkpoint} is as it was before"
        rate = "search again with a smaller --lr" if self.kind == "selection" else "try a smaller --lr"
        return f"{where}; {rate}" + (", or --no-amp" if self.extra.get("computing", {}).get("amp") else "")

    def _pause(self, task: Task, saves: bool = True) -> None:
        """Save if it is time and stop if a signal says so; all processes do the same."""
        due = speaks() and time.monotonic() - self.saved > 60 * self.minutes
        wanted = [SIGNALS.seen or 0, int(due)]
        if process()[1] > 1:
            of_all = torch.tensor(wanted)
            dist.all_reduce(of_all, dist.ReduceOp.MAX)
            wanted = of_all.tolist()
        number, due = wanted
        if number:
            raise Stopped(number, whole=True)
        if due and saves:
            self._save(task)

    def _save(self, task: Task, *copies: Path) -> None:
        """Write the checkpoint, and before it, as a run that is killed goes on after it, copies of it."""
        inside = bool(task.progress.parts)
        content = {
            "schema": CHECKPOINT_SCHEMA,
            "kind": self.kind,
            "settings": self.settings,
            "finished": self.finished,
            "records": self.records,
            "state": task.state_dict(),
            "random": _of_all_processes(random_state()) if inside else None,
            "seconds": time.monotonic() - self.began if inside else 0.0,
            **self.extra,
        }
        wrong = unsound(content)  # which would not be read again
        if wrong:
            raise UserError(f"{wrong}{self._advice(task)}")
        for path in copies:
            save_checkpoint(path, content)
        save_checkpoint(self.checkpoint, content, keep=True)
        self.saved, SIGNALS.checkpoint = time.monotonic(), self.checkpoint

    def _move_aside(self) -> None:
        """Keep what an earlier run left under these names: rename it to a name that is free."""
        move_aside(*files_of(self.save), *(snapshots(self.checkpoint).values() if self.kind == "supernet" else ()))


def _of_all_processes(value: Any) -> list[Any]:
    """By process."""
    values = [value] * process()[1]
    if process()[1] > 1:
        dist.all_gather_object(values, value)
    return values


def files_of(save: Path) -> list[Path]:
    """What a run leaves, beside what it keeps every now and then."""
    checkpoint = save.with_suffix(".pt")
    return [save, checkpoint, save.with_suffix(".jsonl"), save.with_suffix(".png"), earlier(checkpoint)]


def move_aside(*paths: Path) -> None:
    """Rename those of the files that exist, whose names all begin with that of the first, to names that are free."""
    there, stem = [path for path in dict.fromkeys(paths) if path.exists()], paths[0].stem
    if not there or not speaks():
        return

    def numbered(path: Path, number: int) -> Path:
        return path.with_name(f"{stem}.{number}{path.name.removeprefix(stem)}")

    number = next(n for n in range(1, 10**6) if not any(numbered(path, n).exists() for path in there))
    for path in there:
        path.rename(numbered(path, number))
    print(f"an earlier result was moved to {numbered(there[0], number)}", flush=True)


def snapshot(checkpoint: Path, epoch: int) -> Path:
    """Where the state after this epoch is kept."""
    return checkpoint.with_stem(f"{checkpoint.stem}.epoch{epoch:03d}")


def snapshots(checkpoint: Path) -> dict[int, Path]:
    """The states that were kept beside this checkpoint, by epoch."""
    name = re.compile(re.escape(checkpoint.stem) + r"\.epoch(\d{3,})\.pt")
    found = ((name.fullmatch(path.name), path) for path in checkpoint.parent.iterdir())
    return dict(sorted((int(match.group(1)), path) for match, path in found if match))


# ============================================================================================================
# Architectures by name, text or file
# ============================================================================================================


Architecture = Genotype | Arch


def load_architecture(text: str) -> tuple[Architecture, dict[str, Any]]:
    """An architecture from a published name, from `Genotype(...)`, from the text of NAS-Bench-201 or from a JSON file,
    and what else the file says (space, data set, preset, image size). Raises UserError."""
    if text in PUBLISHED:
        space = re.search(r"_(S[1-4])_", text)
        return PUBLISHED[text], {"space": space.group(1).lower()} if space else {}
    try:
        if text.lstrip().startswith("Genotype"):
            return Genotype.from_text(text), {}
        if text.lstrip().startswith("|"):
            return Arch.from_text(text), {"space": "nb201"}
    except ValueError as error:
        raise UserError(f"--arch: {error}") from None
    path = Path(text)
    if len(text) > 4096 or not path.is_file():
        forms = "no file, not Genotype(...), not |op~0|+..."
        raise UserError(f"no architecture {text[:200]!r}: {forms}, and none of {', '.join(PUBLISHED)}")
    return load_genotype(path)


def load_genotype(path: Path) -> tuple[Architecture, dict[str, Any]]:
    """An architecture from a JSON file, and what else the file says. Raises UserError."""
    try:
        if path.stat().st_size > 10 << 20:
            raise ValueError("more than 10 MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        if not content.keys() & {"genotype", "arch"}:
            return Genotype.from_json(content), {}
        if content.get("schema") != SCHEMA:
            raise ValueError(f"schema version {content.get('schema')}, and this program reads {SCHEMA}")
        if not content.keys() >= {"space", "dataset", "data", "preset", "image_size"}:
            raise ValueError("what select.py says of the search is missing")
        wrong = [name for name, sound in OF_A_GENOTYPE.items() if name in content and not sound(content[name])]
        if wrong:
            raise ValueError(f"{wrong[0]} is {str(content[wrong[0]])[:80]!r}")
        strange = odd(content, "it", tensors=False)
        if strange:
            raise ValueError(strange)
        arch = Arch.from_text(str(content["arch"])) if "arch" in content else None
        if (arch is None) == (content["space"] == "nb201"):
            raise ValueError(f"it does not fit its space, {content['space']}")
        if arch:
            return arch, content
        genotype = Genotype.from_json(content["genotype"])
        SPACES[content["space"]].check(genotype)
        return genotype, content
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} holds no genotype: {error}") from None


BENCHMARKED = ("cifar10", "cifar100", "imagenet16-120")  # the data sets of NAS-Bench-201


def load_benchmark(path: Path) -> dict[str, dict[str, float]]:
    """The true test error in percent of every NAS-Bench-201 architecture, by its text and by data set, from a CSV file
    of test accuracies with the header `arch,cifar10,cifar100,imagenet16-120`. Raises UserError unless the file has
    just that, for all architectures."""
    header = ["arch", *BENCHMARKED]
    errors: dict[str, dict[str, float]] = {}
    number = 1
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        if path.stat().st_size > 10 << 20:
            raise ValueError("more than 10 MiB")
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, []) != header:
                raise ValueError(f"the header {','.join(header)} is needed")
            for text, *accuracies in filter(None, rows):
                number = rows.line_num
                arch = str(Arch.from_text(text))
                if arch in errors or len(accuracies) != len(BENCHMARKED):
                    raise ValueError(f"{arch} stands there twice" if arch in errors else "four fields are needed")
                values = [float(accuracy) for accuracy in accuracies]
                if not all(0 <= value <= 100 for value in values):
                    raise ValueError("accuracies are percentages")
                errors[arch] = {name: 100 - value for name, value in zip(BENCHMARKED, values, strict=True)}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--benchmark {path}, line {number}: {error}") from None
    space = SPACES["nb201"]
    for operations in itertools.product(*space.operations["cell"]):
        if str(Arch(operations)) not in errors:
            raise UserError(f"--benchmark {path}: the architecture {Arch(operations)} is missing")
    return errors


# ============================================================================================================
# Pictures
# ============================================================================================================

BLUE, ORANGE, RED, GREY = "#1f5fa8", "#e07b00", "#c1121f", "#777777"
CELL_NAMES = {"normal": "normal cell", "reduce": "reduction cell", "cell": "cell"}


def shown(name: str) -> str:
    """A name of the user's as it can stand in a picture, where dollars begin a formula and some bytes are no text."""
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def save_picture(path: Path, draw: Callable[[Figure], None]) -> None:
    if not speaks():
        return
    figure = Figure(layout="constrained")
    draw(figure)
    write(path, lambda file: figure.savefig(file, format="png", dpi=120))


def draw_search(figure: Figure, records: list[dict[str, Any]], space: Space) -> None:
    """Validation accuracy and the mean softmax gap α_skip - α_conv, the axes of Fig. 3, per epoch; below them the
    weights of every edge now, and in red what SGAS has decided."""
    count = len(space.cell_types)
    figure.set_size_inches(9, 4 + 2 * count)
    top, *maps = figure.subplots(1 + count, 1, height_ratios=[2] + [1] * count)
    epochs = [record["epoch"] for record in records]
    top.plot(epochs, [record["valid_accuracy"] for record in records], color=BLUE, marker="o", markersize=3)
    top.set_xlabel("epoch")
    top.set_ylabel("validation accuracy (%)", color=BLUE)
    top.set_title(f"supernet on {space.name}: {records[-1]['valid_accuracy']:.2f}% after {epochs[-1]} epochs")
    top.xaxis.get_major_locator().set_params(integer=True)
    gaps = [record["skip_gap"] for record in records]
    if gaps[-1] is not None:
        right = top.twinx()
        right.plot(epochs, gaps, color=ORANGE, linestyle="--", marker="s", markersize=3)
        right.set_ylabel("mean(α_skip − α_conv), softmaxed", color=ORANGE)
    edges = [f"{source}→{node}" for source, node in space.edges]
    for axes, (cell_type, rows) in zip(maps, records[-1]["weights"].items(), strict=True):
        _draw_weights(axes, rows, space.operations[cell_type], edges)
        for made in (made for record in records for made in record.get("decisions", ()) if made["cell"] == cell_type):
            _mark_decision(axes, made, space, cell_type)
        axes.set_title(f"softmax(α), {CELL_NAMES[cell_type]}", fontsize=10)
        axes.set_xlabel("edge (input node→output node)", fontsize=8)


def _draw_weights(axes: Axes, rows: list[list[float]], names: Sequence[Sequence[str]], edges: Sequence[str]) -> None:
    """A heat map with an edge in each column; where edges differ in their operations (S1), their names stand in it."""
    same = len(set(names)) == 1
    image = axes.imshow(torch.tensor(rows).T.numpy(), aspect="auto", vmin=0, vmax=2 / len(rows[0]), cmap="cividis")
    axes.figure.colorbar(image, ax=axes, pad=0.01)
    axes.set_xticks(range(len(edges)), edges, fontsize=8)
    axes.set_yticks(range(len(rows[0])), names[0] if same else [f"operation {n + 1}" for n in range(len(rows[0]))])
    axes.tick_params(axis="y", labelsize=8)
    for edge, row in enumerate(rows):
        for operation, weight in enumerate(row):
            name = "" if same else names[edge][operation].replace("_", "\n", 1) + "\n"
            colour = "white" if image.norm(weight) < 0.6 else "black"
            size = 6 if same else 5.5
            axes.text(edge, operation, f"{name}{weight:.3f}", ha="center", va="center", fontsize=size, color=colour)


def _mark_decision(axes: Axes, made: dict[str, Any], space: Space, cell_type: str) -> None:
    """Frame the operation that an edge was decided for; strike through the inputs that a node lost."""
    if "edge" in made:
        edge = space.edges.index(tuple(made["edge"]))
        operation = space.operations[cell_type][edge].index(made["operation"])
        axes.add_patch(Rectangle((edge - 0.46, operation - 0.44), 0.92, 0.88, fill=False, edgecolor=RED, linewidth=2))
    else:
        for edge in space.into(made["node"]):
            if space.edges[edge][0] not in made["inputs"]:
                axes.axvline(edge, color=RED, linewidth=1, linestyle=":")


def draw_selection(figure: Figure, records: list[dict[str, Any]], title: str, found: Architecture | None) -> None:
    """The chosen cells, once they are (Fig. 5), and validation accuracy over the rounds of the selection (Fig. 6)."""
    figure.suptitle(title)
    top = bottom = figure
    if found:
        figure.set_size_inches(1 + 7 * len(found.cells), 8 if records else 5.5)
        if records:
            top, bottom = figure.subfigures(2, 1, height_ratios=[2, 1])
        places = top.subplots(1, len(found.cells), squeeze=False).flat
        for axes, (cell_type, cell) in zip(places, found.cells.items(), strict=True):
            draw_cell(axes, cell, CELL_NAMES[cell_type])
        if not records:  # everything was decided during the search
            return
    else:
        figure.set_size_inches(8, 4)
    axes = bottom.subplots()
    rounds = [record["round"] for record in records]
    axes.plot(rounds, [record["valid_accuracy"] for record in records], color=BLUE, marker="o", label="after tuning")
    dips = [record["discretised_accuracy"] for record in records]
    axes.plot(rounds, dips, color=ORANGE, linestyle=":", marker="v", label="after discretising")
    topology = [record["round"] for record in records if any("node" in made for made in record["decisions"])]
    if topology:
        axes.axvspan(topology[0] - 0.5, rounds[-1] + 0.5, color=GREY, alpha=0.15, label="topology", linewidth=0)
    axes.set_xlabel("round of the selection")
    axes.set_ylabel("validation accuracy (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)


def draw_cell(axes: Axes, cell: DiscreteCell, title: str) -> None:
    """A cell like those of Fig. 5, operations with parameters in red and, for a print in grey, in bold.

    Every operation has a row of its own, in which its arrow runs straight and its label stands just before the node
    that it feeds; a node lies amid the rows of its operations. So no arrow passes through a label that is not its own.
    """
    rows: dict[int, list[int]] = {}
    for row, (_, _, node) in enumerate(cell.operations):
        rows.setdefault(node, []).append(row)
    height = len(cell.operations)
    starts = (0.5,) if cell.inputs == 1 else (0.3, 0.7)
    places = {node: (0.0, height * start) for node, start in enumerate(starts)}
    places |= {node: (3.5 * (node - cell.inputs + 1) + 0.3, sum(own) / len(own)) for node, own in rows.items()}
    end = (3.5 * (len(rows) + 1) - 0.7, sum(places[node][1] for node in cell.concat) / len(cell.concat))
    colours = ("#444444", "#1f5fa8", "#2a8c55", "#8a4fb5", "#b8860b", "#0e8f9c", "#a34a28")

    def line(points: Sequence[tuple[float, float]], colour: str, style: str = "-") -> None:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=colour, linestyle=style, linewidth=1.3, zorder=1, solid_joinstyle="round")
        head = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", points[-1], points[-2], arrowprops=head, zorder=1)

    for row, (operation, source, node) in enumerate(cell.operations):
        (x0, y0), (x1, y1) = places[source], places[node]
        colour = GREY if operation == "none" else colours[source % len(colours)]
        arrival = (x1 - 0.32, y1 + min(max((row - y1) * 0.3, -0.24), 0.24))
        line([(x0 + 0.3, y0), (x0 + 0.75, row), (x1 - 0.75, row), arrival], colour, ":" if operation == "none" else "-")
        axes.text(
            x1 - 1.75, row, operation, ha="center", va="center", fontsize=7.5, zorder=3,
            **({"color": RED, "weight": "bold"} if is_convolution(operation) else {}),
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "linewidth": 0.8},
        )  # fmt: skip
    for node in cell.concat:
        x, y = places[node]
        line([(x + 0.32, y), (end[0] - 0.9, y), (end[0] - 0.45, end[1])], GREY, "--")
    labels = dict(enumerate("0" if cell.inputs == 1 else ("c_{k-2}", "c_{k-1}")))
    labels |= {node: str(node if cell.inputs == 1 else node - cell.inputs) for node in rows}
    for place, label in [(places[node], label) for node, label in labels.items()] + [(end, "c_{k}")]:
        width = 0.9 if label.startswith("c") else 0.6
        shape = FancyBboxPatch(
            (place[0] - width / 2, place[1] - 0.3), width, 0.6, boxstyle="round,pad=0.02", facecolor="#dde7f3", zorder=4
        )
        axes.add_patch(shape)
        axes.text(*place, f"${label}$", ha="center", va="center", fontsize=9, zorder=5)
    axes.set_xlim(-0.7, end[0] + 0.7)
    axes.set_ylim(height - 0.3, -0.9)
    axes.set_title(title, fontsize=11)
    axes.axis("off")


def draw_retraining(figure: Figure, records: list[dict[str, Any]], title: str) -> None:
    """Training and test accuracy and loss per epoch."""
    figure.set_size_inches(9, 4)
    figure.suptitle(shown(title))
    epochs = [record["epoch"] for record in records]
    for axes, quantity, unit in zip(figure.subplots(1, 2), ("accuracy", "loss"), (" (%)", " (nats)"), strict=True):
        for split, colour, style in (("train", ORANGE, "--"), ("test", BLUE, "-")):
            values = [record[f"{split}_{quantity}"] for record in records]
            axes.plot(epochs, values, color=colour, linestyle=style, label=split)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity + unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
