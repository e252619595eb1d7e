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
import re
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NoReturn, Protocol, TextIO

import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from genotypes import PUBLISHED, SPACES, Arch, Genotype

try:
    import fcntl
except ImportError:  # on Windows, where two runs can write to one file
    fcntl = None

SCHEMA = 1  # of genotype.json
CHECKPOINT_SCHEMA = 2


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


def seconds_needed(network: nn.Module, data: Any, trained: float, evaluated: float) -> float:
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


def save_picture(path: Path, draw: Callable[[Figure], None]) -> None:
    if not speaks():
        return
    figure = Figure(layout="constrained")
    draw(figure)
    write(path, lambda file: figure.savefig(file, format="png", dpi=120))


def save_figure(picture: Path, numbers: Any, draw: Callable[[Figure], None]) -> None:
    """Write what needed no run: the picture, and its numbers as JSON beside it."""
    write_json(picture.with_suffix(".json"), numbers)
    save_picture(picture, draw)
    print(f"\nwritten to {picture} and {picture.with_suffix('.json')}")


def spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def check_picture(args: argparse.Namespace) -> None:
    """A picture takes no name of another run, whose picture and numbers it would replace."""
    checkpoint = args.save.with_suffix(".pt")
    taken = checkpoint.exists()
    if taken and "resume" in args:
        try:
            taken = load_newest(checkpoint, "analysis")[0]["settings"]["command"] != args.command
        except DamagedError:  # which is moved aside, or told if it is to be gone on with
            taken = False
        except UserError:
            pass
    if args.save.suffix != ".png" or taken:
        raise UserError(f"--save {args.save}: a file name that ends in .png and is not that of a run is needed")


# ============================================================================================================
# Sec. 3.1, α is not the strength of an operation: Fig. 1, 2 and 7
# ============================================================================================================
