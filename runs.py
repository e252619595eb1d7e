"""One run of a command: options, presets, seeds, processes, files, checkpoint, log, resume. `ptnas.py` has the method.

The loop of a run is in its script. It follows an algorithm that yields a record per step:

    run.begin(facts, bilevel)
    for record in run.follow(search(bilevel, train, valid), epochs, "epoch"):
        run.keep()
        run.draw(picture)
    run.finish(picture)

`follow` seeds torch before each step from the run's seed and the number of the step, and appends the record to a log.
`keep` saves the records and the state in a checkpoint. Log, checkpoint and picture have one name: `supernet.jsonl`,
`supernet.pt`, `supernet.png`. A killed run loses the step in hand, and goes on from its checkpoint to the same bits.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import glob
import gzip
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import re
import shlex
import signal
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, get_args, get_origin, get_type_hints

import torch
import torch.distributed as dist
from tqdm import tqdm

import plots
from genotypes import PUBLISHED, SPACES, Arch, Genotype, read_architecture
from plots import Figure
from ptnas import Record, SearchSettings, SettingError, Settings

try:
    import fcntl
except ImportError:  # Windows, where nothing stops two runs from writing to one file
    fcntl = None

SCHEMA = 1  # of genotype.json
CHECKPOINT_SCHEMA = 5
MEETING = timedelta(minutes=5)  # after which a process no longer waits to meet the others


class UserError(Exception):
    """An error that the user can mend. Commands show it as one line."""


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM, whose number it holds."""


# ==== Presets =======================================================================================================


class Known(NamedTuple):
    """Holds what is known of a data set before it is read. The defaults are those of a folder of images.

    size: side of the images in pixels; crop, flip: how training images are augmented; preset: used if none is named.
    """

    classes: int = 0
    channels: int = 0
    size: int = 0
    crop: bool = True
    flip: bool = True
    preset: str = "paper"


DATASETS = {
    "digits": Known(10, 1, 8, flip=False, preset="laptop"),
    "cifar10": Known(10, 3, 32),
    "cifar100": Known(100, 3, 32),
    "svhn": Known(10, 3, 32),
    "imagenet16-120": Known(120, 3, 16),
    "imagenet": Known(1000, 3, 224, crop=False, flip=False),  # its files are cropped and flipped as they are read
}

# What differs from the paper's settings, which are the defaults of the settings in `ptnas.py`. `limit` is a number of
# training images, `image_size` a side in pixels. The search and selection of `digits` were chosen by measuring S2 and
# S4 on seeds of 100 and above, those of `nb201` by true errors: on CIFAR-10 images with fixed α, seeds 100 to 103, on
# the digits so that α collapses, seeds 100 to 109. The search on S1-S4 was chosen so that the gap of Fig. 3 turns, on
# CIFAR-10 images and S2, seeds 100 and 101. The other laptop presets were only made to take minutes.
_PLAIN = {"drop_path": 0.0, "cutout": 0.0}
_IMAGENET = dict(_PLAIN, form="imagenet", lr=0.1, decay="exponential", weight_decay=3e-5, label_smoothing=0.1)
_NB201 = dict(_PLAIN, channels=16, lr=0.1, nesterov=True, weight_decay=5e-4, clip=math.inf, auxiliary=0.0)
# VGG and ResNet, for which the paper gives no settings: those of He et al. (2016), but for a cosine learning rate.
_RESNET = dict(_PLAIN, layers=5, channels=16, lr=0.1, weight_decay=1e-4, auxiliary=0.0)
_DIGITS = {"layers": 3, "epochs": 30, "alpha_lr": 3e-3, "sgas_metric": "loss"}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "search": {
        "paper": {},
        "paper nb201": {"layers": 5, "epochs": 100},
        "laptop": {"layers": 3, "channels": 8, "epochs": 12, "lr": 0.1, "alpha_lr": 3e-3, "limit": 2000},
        "laptop s1-s4": {
            "channels": 8, "epochs": 65, "lr": 0.05, "alpha_lr": 5e-3, "limit": 2000, "image_size": 16,
        },
        "laptop digits": _DIGITS,
        "laptop digits s1-s4": _DIGITS,
        "laptop nb201": {
            "layers": 1, "epochs": 20, "lr": 0.05, "alpha_lr": 3e-3, "sgas_metric": "loss", "limit": 5000,
            "image_size": 16,
        },
        "laptop digits nb201": {
            "layers": 5, "epochs": 32, "batch_size": 32, "lr_min": 0.0125, "alpha_lr": 6e-3, "sgas_metric": "loss",
            "limit": 400,
        },
    },
    "select": {
        "paper": {},
        "laptop": {"tune_epochs": 1},
        "laptop digits": {"metric": "loss", "tune_epochs": 2, "passes": 3},
        "laptop nb201": {"metric": "loss", "tune_epochs": 1},
    },
    "table1": {
        "paper": {"epochs": 164, "batch_size": 128, **_RESNET}, "laptop": {"epochs": 20, "batch_size": 64, **_RESNET},
    },
    "retrain": {
        "paper": {},
        "paper cifar100 s1-s4": {"layers": 8, "channels": 16},
        "paper svhn s1-s4": {"layers": 8, "channels": 16},
        "paper imagenet": {"layers": 14, "channels": 48, "epochs": 250, "batch_size": 128, **_IMAGENET},
        "paper nb201": {"layers": 5, "epochs": 200, "batch_size": 256, **_NB201},
        "laptop": {"layers": 5, "channels": 12, "epochs": 10, "lr": 0.1, "limit": 5000, **_PLAIN},
        "laptop digits": {"layers": 5, "channels": 16, "epochs": 30, "batch_size": 64, "lr": 0.1, **_PLAIN},
        "laptop imagenet": {
            "layers": 5, "channels": 16, "epochs": 10, "batch_size": 64, "limit": 10_000, "image_size": 64, **_IMAGENET,
        },
        "laptop nb201": {"layers": 1, "epochs": 10, "batch_size": 64, "limit": 5000, **_NB201},
    },
}  # fmt: skip


@dataclass(frozen=True)
class RunSettings(Settings):
    """Says what a run reads. dataset: a name or the whole path of a folder; data: where named data sets lie; limit: a
    number of training images; image_size: a side in pixels. None: all images, in their own size. no_flip: as they are,
    never mirrored."""

    dataset: str
    preset: Literal["paper", "laptop"]
    seed: Annotated[int, 0, 2**31 - 1] = 0
    data: str | None = None
    limit: Annotated[int | None, 8, 2**31 - 1] = None
    image_size: Annotated[int | None, 8, 4096] = None
    no_flip: bool = False


def get_preset(command: str, name: str | None, dataset: str, space: str | None = None) -> tuple[str, dict[str, Any]]:
    """Returns the name of the preset, by default that of the data set, and what it sets."""
    name = name or DATASETS.get(dataset, Known()).preset
    kind = "s1-s4" if space in ("s1", "s2", "s3", "s4") else space
    choices = PRESETS[command]
    keys = (f"{name} {dataset} {kind}", f"{name} {kind}", f"{name} {dataset}", name)
    return name, next(dict(choices[key]) for key in keys if key in choices)


def override(values: dict[str, Any], args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Returns the values with those of the flags `names` that were given in their place."""
    given = {name: getattr(args, name) for name in names}
    return values | {name: value for name, value in given.items() if value is not None and value is not False}


# ==== Command lines =================================================================================================


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line instead of with the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists all options)")


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Returns a parser of whole numbers between these bounds."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        limit = f" and at most {most}" if most < 2**31 - 1 else ""
        raise argparse.ArgumentTypeError(f"a whole number of at least {least}{limit} is needed, not {text!r}")

    return parse


def parse_file(text: str) -> Path:
    if not Path(text).name:  # such as "" or "."
        raise argparse.ArgumentTypeError(f"a file name is needed, not {text!r}")
    return Path(text)


def parse_device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", text):
        raise argparse.ArgumentTypeError(f"auto, cpu, cuda, cuda:N or mps is needed, not {text!r}")
    return text


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=parse_device, default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--threads", type=whole(1, 1024), metavar="N", help="number of CPU threads")
    parser.add_argument("--deterministic", action="store_true", help="give the same bits on a GPU; slower")


def parse_dataset(text: str) -> str:
    """Returns the name of a data set, or the absolute path of a folder, as files store it."""
    return text if text in DATASETS or (text and not Path(text).is_dir()) else parse_folder(text)


def parse_folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a name or a folder is needed, not ''")
    return str(Path(text).absolute())


def add_data_options(parser: argparse.ArgumentParser) -> None:
    help_dataset = f"{', '.join(DATASETS)}, or a folder of images"
    parser.add_argument("--dataset", type=parse_dataset, metavar="NAME|FOLDER", help=help_dataset)
    parser.add_argument("--data", type=parse_folder, metavar="DIR", help="folder that has or gets the named data sets")
    add_settings(parser, RunSettings, preset="settings to start from")


def add_run_options(parser: argparse.ArgumentParser, save: str, low_memory: bool = True) -> None:
    """Adds the options of every run."""
    add_data_options(parser)
    add_machine_options(parser)
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 where that is safe, and with TF32")
    if low_memory:
        parser.add_argument("--low-memory", action="store_true", help="compute cells again in the backward pass")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random choices, 0 by default")
    parser.add_argument("--workers", type=whole(0, 256), metavar="N", help="processes that read image files")
    parser.add_argument("--save", type=parse_file, default=save, metavar="FILE", help=f"result, {save} by default")
    parser.add_argument("--resume", action="store_true", help="continue the run that wrote the result")


def add_settings(parser: argparse.ArgumentParser, settings: type[Settings], **helps: str) -> None:
    """Adds an option for each setting that has a help text. Its annotation gives the type and the choices; the settings
    themselves check the bounds."""
    hints = get_type_hints(settings, include_extras=True)
    for name, text in helps.items():
        choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else None
        number = get_args(hints[name])[0]  # the first argument of Annotated
        kind = type(choices[0]) if choices else (get_args(number) or [number])[0]
        metavar = None if choices else "X" if kind is float else "N"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, choices=choices, metavar=metavar, help=text)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that override the preset of a search or a retraining."""
    add_settings(
        parser, SearchSettings, epochs="epochs of training", batch_size="over all processes",
        channels="channels of the first cells", layers="cells; on nb201 cells of each stage",
        lr="learning rate of the weights",
    )  # fmt: skip
    add_settings(
        parser, RunSettings, image_size="side of the images in pixels", limit="use N of the training images, at random"
    )


class Dropping:
    """A stream that drops what it cannot write: stderr may be closed, and its disk full."""

    def __init__(self, stream: Any):
        self.stream = stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()


def run_command(script: str, run: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None) -> int:
    """Runs a command and returns its exit status. An error that the user can mend, and a signal, become one line."""
    for stream in (sys.stdout, sys.stderr):  # file names need not be text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with contextlib.redirect_stderr(Dropping(sys.stderr)):
        try:
            with raise_on_signals(), act_together():
                run(argv)
        except (MemoryError, RuntimeError) as error:
            reason = get_reason(error)
            if several() and (isinstance(error, dist.DistError) or "gloo" in reason):
                complain(script, f"another process was lost; start as many with --resume ({reason[-120:]})")
            elif lacks_memory(error):
                complain(script, f"{reason} (try --low-memory or a smaller --batch-size, --channels, --image-size)")
            else:
                raise
            return 2
        except (UserError, SettingError, OSError) as error:
            complain(script, get_reason(error))
            return 2
        except KeyboardInterrupt as stop:
            number = stop.args[0] if isinstance(stop, Stopped) else signal.SIGINT
            arguments = ["python", script, *map(str, sys.argv[1:] if argv is None else argv)]
            if getattr(stop, "resumable", False) and "--resume" not in arguments:
                arguments.append("--resume")
            again = ("as many processes of " if several() else "") + shlex.join(arguments)
            note(f"\n{script}: stopped by {number.name}; to go on: {again}")
            return 128 + number
        return 0


def lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def get_reason(error: Exception) -> str:
    """Returns one line of what an error says. One from a worker holds a traceback; its last line is the reason."""
    lines = (str(error).strip() or repr(error)).splitlines()
    return lines[-1 if "DataLoader worker process" in lines[0] else 0].removeprefix("runs.UserError: ")


def complain(script: str, message: str) -> None:
    where = "" if speaks() else f"process {os.environ['RANK']}: "
    print(f"{script}: error: {where}{message}", file=sys.stderr)


HEARD: list[signal.Signals] = []  # signals that asked this command to end
NOTED: set[str] = set()  # what `note` has told


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Turns the first SIGINT or SIGTERM into `Stopped`. Does so with an error that follows it too: a worker that the
    signal ended looks like a lost one. Python drops an exception inside a destructor; `check_signals` raises it again.
    """
    process = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() != process:  # a worker that was forked just now
            os._exit(0)
        HEARD.append(signal.Signals(number))
        if len(HEARD) == 1:
            raise Stopped(HEARD[0])

    HEARD.clear()
    NOTED.clear()
    main = threading.current_thread() is threading.main_thread()
    numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if main and signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except Exception as error:
        if not HEARD:
            raise
        stopped = Stopped(HEARD[0])
        stopped.resumable = getattr(error, "resumable", False)
        raise stopped from None
    finally:
        # Workers read images. PyTorch would wait long for each, and raises if a signal has ended one.
        for worker in multiprocessing.active_children() if HEARD else ():
            with contextlib.suppress(RuntimeError):
                worker.terminate()
                worker.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def check_signals() -> None:
    """Raises `Stopped` if a signal has asked this command to end."""
    if HEARD:
        raise Stopped(HEARD[0])


def set_up_worker(_: int) -> None:
    """Makes a worker that reads images ignore SIGINT and end on SIGTERM. It ends with status 0: PyTorch would report
    another one, even if the main process got the same signal a moment later."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_worker)
    if not multiprocessing.parent_process().is_alive():  # nobody else would end this worker
        os._exit(0)


def end_worker(_: int, frame: FrameType | None) -> None:
    """Ends this worker. While it may hold a lock that it shares with the main process, it waits a moment: else the main
    process would wait for that lock forever."""
    while frame and frame.f_globals.get("__name__") != "multiprocessing.synchronize":
        frame = frame.f_back
    if frame is None:
        os._exit(0)
    signal.signal(signal.SIGALRM, end_worker)
    signal.setitimer(signal.ITIMER_REAL, 0.001)


def note(text: str) -> None:
    """Prints a remark on stderr, in the first process only, and only once in a command."""
    if speaks() and text not in NOTED:
        NOTED.add(text)
        print(text, file=sys.stderr, flush=True)


def announce(what: str, preset: dict[str, Any], values: dict[str, Any], save: Path) -> None:
    """Prints on three lines what a run does: what it works on, where its settings differ from the preset, and where
    the result goes. The checkpoint has all settings."""
    changed = [f"{name} {value}" for name, value in values.items() if value is not None and preset.get(name) != value]
    files = ", ".join(str(path) for path in dict.fromkeys(name_files(save)))
    for line in (what, "differs from the preset: " + (", ".join(changed) or "nothing"), f"writes {files}"):
        print(textwrap.shorten(line, 100, placeholder=" ..."), flush=True)


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table in Markdown."""
    print(f"\n{title}\n")
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, row))} |")


# ==== Device, seeds, processes ======================================================================================


def set_up(args: argparse.Namespace) -> torch.device:
    """Sets the number of threads and the precision, meets the other processes, returns the device."""
    keep_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(kind for kind, there in available.items() if there) if args.device == "auto" else args.device
    device = torch.device(name)
    if not available[device.type]:
        raise UserError(f"no device {name} here; --device auto takes what there is")
    if device.type == "cuda":
        if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > torch.cuda.device_count():
            raise UserError(f"{os.environ['LOCAL_WORLD_SIZE']} processes here, and {torch.cuda.device_count()} GPUs")
        if several() and device.index is not None:
            raise UserError(f"--device {name}: under torchrun each process takes the GPU of its own number")
        device = torch.device("cuda", device.index or int(os.environ.get("LOCAL_RANK", 0)))
        if device.index >= torch.cuda.device_count():
            raise UserError(f"no device {device} here; there are {torch.cuda.device_count()} GPUs")
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = not args.deterministic
    amp = getattr(args, "amp", False)
    torch.set_float32_matmul_precision("high" if amp else "highest")  # TF32 or true float32
    torch.backends.cudnn.allow_tf32 = amp
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs this
    torch.use_deterministic_algorithms(args.deterministic, warn_only=True)
    join_processes(device)
    return device


def keep_memory() -> None:
    """Lets the C library of Linux keep the memory that tensors free. By itself it returns blocks of 32 MiB and more to
    the system and gets them anew, page by page, which takes longer than the arithmetic in them."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # some C libraries lack it
            library = ctypes.CDLL(None)
            library.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def mix(*numbers: int) -> int:
    """Returns one seed below 2^32 from several numbers, different for all small ones."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**32
    return seed


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Returns what a checkpoint says of where it was computed."""
    found = {"device": device.type, "processes": get_share()[1]}
    return found | ({"deterministic": True} if torch.are_deterministic_algorithms_enabled() else {})


def warn_if_long(device: torch.device, preset: str) -> None:
    if device.type == "cpu" and preset == "paper":
        note("note: the paper's preset is meant for a GPU; --preset laptop takes minutes on a CPU")


# Under torchrun every process runs the same command. The first one prints and writes; the others only compute.


def join_processes(device: torch.device) -> None:
    """Meets the other processes that torchrun started, if any. Raises UserError if that fails."""
    if several() and get_share()[1] == 1:
        if device.type == "mps":
            raise UserError("several processes work on CUDA or on the CPU: --device cpu")
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=MEETING)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"cannot meet the other processes: {get_reason(error)}") from None
        dist.distributed_c10d._set_pg_timeout(timedelta(hours=1))  # the first may have much to download


def several() -> bool:
    """Returns True if torchrun started more than one process."""
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isdecimal():
        raise UserError(f"WORLD_SIZE is {size!r}, no number: start several processes with torchrun")
    return int(size) > 1 and "RANK" in os.environ


def get_share() -> tuple[int, int]:
    """Returns (rank, number of processes); (0, 1) until the processes have met."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def speaks() -> bool:
    """Returns True in the process that prints and writes."""
    return os.environ.get("RANK", "0") == "0" or not several()


@contextlib.contextmanager
def act_together() -> Iterator[None]:
    """Lets only the first process print, and all end together. A process that fails leaves, and torchrun ends the
    others. The others wait before they complain, so that mostly the first one is heard."""
    with contextlib.ExitStack() as stack:
        if not speaks():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        try:
            yield
        except BaseException:
            if not speaks():
                time.sleep(5)
            raise
    if get_share()[1] > 1:
        dist.barrier()  # none leaves while another needs it
        dist.destroy_process_group()


def ask_first(function: Callable[[], Any]) -> Any:
    """Calls the function in the first process and returns its result, or raises its UserError, in all of them."""
    if get_share()[1] == 1:
        return function()
    answer = [None, None]
    if speaks():
        try:
            answer = [function(), None]
        except (UserError, OSError) as error:
            answer = [None, str(error)]
    dist.broadcast_object_list(answer, src=0)
    if answer[1]:
        raise UserError(answer[1])
    return answer[0]


@contextlib.contextmanager
def take_turns() -> Iterator[None]:
    """Lets the first process go first, then the first of each machine, then the others: later ones find the files that
    earlier ones wrote, on a shared folder or on one of their own."""
    turn = 0 if speaks() else 1 if os.environ.get("LOCAL_RANK") == "0" else 2
    for number in range(3):
        if number == turn:
            yield
        if get_share()[1] > 1 and number < 2:
            dist.barrier()


# ==== Files =========================================================================================================


def write(path: Path, content: Callable[[Any], None], mode: str = "wb") -> None:
    """Writes to a temporary file beside `path`, flushes it, renames it: at every moment `path` is whole, old or new. A
    link stays a link; its target is written. Raises UserError if that fails."""
    if not speaks():
        return
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{path.name}.writing")
    try:
        beside.unlink(missing_ok=True)  # it may be a link that someone put there
        with beside.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {path}: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """Returns the text in a file, which is UTF-8 or, as Windows writes it, UTF-16."""
    content = path.read_bytes()
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")


def write_json(path: Path, value: Any) -> None:
    write(path, lambda file: file.write(json.dumps(value, indent=1) + "\n"), "w")


def save_picture(path: Path, draw: Callable[[Figure], None]) -> None:
    if speaks():
        picture = plots.render(draw)
        write(path, lambda file: file.write(picture))


@contextlib.contextmanager
def lock(save: Path) -> Iterator[None]:
    """Keeps other runs from writing files of the name of `save` inside a `with` block. Raises UserError if another run
    does. The system ends the lock with the process, however that ends."""
    if fcntl is None or not speaks():
        yield
        return
    path = save.with_name(f".{save.stem}.lock")
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise FileNotFoundError
        except (BlockingIOError, PermissionError, FileNotFoundError):  # or has just ended, and removed the file
            raise UserError(f"another run is writing to {save}") from None
        except OSError:
            note(f"note: this file system has no locks; start no other run that writes to {save}")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def fingerprint(path: Path) -> str:
    """Returns the beginning of the file's SHA-256, which tells it from others."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@contextlib.contextmanager
def blame(path: Path, complaint: str) -> Iterator[None]:
    """Turns every failure inside a `with` block into a UserError that names the file: a damaged or foreign file fails
    in many ways. Lack of memory is not the file's fault, nor are names that our own code lacks."""
    try:
        yield
    except (UserError, NameError, ImportError):
        raise
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except Exception as error:
        if lacks_memory(error):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path} {complaint}: {reason[-1].strip()[:160]}") from None


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Returns the content of a checkpoint of this kind. Nothing in it is executed. Raises UserError if it is damaged,
    foreign, of another kind or of another version."""
    with blame(path, "is damaged or no checkpoint"):
        with zipfile.ZipFile(path) as file:
            # PyTorch reads an entry that is marked as a folder as numbers that nobody wrote.
            if file.testzip() or any(entry.external_attr & 0x10 for entry in file.infolist()):
                raise ValueError("its checksums are wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        if content["schema"] != CHECKPOINT_SCHEMA:
            raise UserError(f"{path} is of another version: its schema is {content['schema']}, not {CHECKPOINT_SCHEMA}")
        if content["kind"] != kind:
            raise UserError(f"{path} holds a {content['kind']}, and a {kind} is needed")
        settings, state, records = content["settings"], content["state"], content["records"]
        if not (isinstance(settings, dict) and isinstance(state, dict) and isinstance(content["finished"], bool)):
            raise TypeError("a part has the wrong type")
        if type(records) is not list or not all(isinstance(record["seconds"], float) for record in records):
            raise TypeError("a record has no time")
        json.dumps({name: value for name, value in content.items() if name != "state"})  # fails unless all is plain
    return content


def load_search(path: Path) -> dict[str, Any]:
    """Returns the checkpoint of a search that has finished an epoch, or should have none. Raises UserError."""
    checkpoint = load_checkpoint(path, "supernet")
    with blame(path, "is no checkpoint of a search"):
        records = checkpoint["records"]
        reads = RunSettings.of(checkpoint["settings"])
        replace(reads, image_size=checkpoint["image_size"])  # checks the image size too
        checkpoint["settings"] |= asdict(reads)
        if checkpoint["settings"]["space"] not in SPACES:
            raise ValueError(f"no space {checkpoint['settings']['space']!r}")
        if not records and checkpoint["settings"]["epochs"]:
            raise UserError(f"{path}: no epoch of this search is finished")
        if records and not all(records[-1][name] >= 0 for name in ("epoch", "valid_accuracy")):
            raise ValueError("the last record is wrong")
    return checkpoint


def name_files(save: Path) -> list[Path]:
    """Returns the files of a run: the result, checkpoint, log and picture."""
    return [save, *(save.with_suffix(end) for end in (".pt", ".jsonl", ".png"))]


def move_aside(*paths: Path) -> None:
    """Renames those of the files that exist to names that are free. All names begin with that of the first."""
    there, stem = [path for path in dict.fromkeys(paths) if path.exists()], paths[0].stem
    if not there or not speaks():
        return

    def number_name(path: Path, number: int) -> Path:
        return path.with_name(f"{stem}.{number}{path.name.removeprefix(stem)}")

    number = next(n for n in itertools.count(1) if not any(number_name(path, n).exists() for path in there))
    for path in there:
        path.rename(number_name(path, number))
    print(f"an earlier result was moved to {number_name(there[0], number)}", flush=True)


def name_snapshot(checkpoint: Path, epoch: int) -> Path:
    """Returns the name under which --keep-every keeps the state after this epoch."""
    return checkpoint.with_stem(f"{checkpoint.stem}.epoch{epoch:03d}")


# ==== The run =======================================================================================================


class Run:
    """The files and the steps of a run. A context, in which no other run can write to these files.

    save: the result that was asked for; kind: "supernet", "selection", "network" or "analysis"; settings: all that the
    result depends on. They are saved with it, and a resumed run must have the same. With several processes the first
    has the files.
    """

    def __init__(self, save: Path, kind: str, settings: dict[str, Any], resume: bool):
        self.save, self.kind, self.settings, self.resume = save, kind, settings, resume
        _, self.checkpoint, self.log, self.picture = name_files(save)
        self.records: list[Record] = []
        self.earlier: dict[str, Any] | None = None  # the checkpoint of a run that is resumed
        self.finished = False
        self.begun = False  # True once the checkpoint is this run's
        self.drawn = -math.inf  # when the picture was last drawn
        self.held = contextlib.ExitStack()

    def __enter__(self) -> Run:
        ask_first(self._check_writable)
        ask_first(lambda: self.held.enter_context(lock(self.save)))
        try:
            if self.resume:
                self.earlier, complete = ask_first(self._load_earlier)
            if self.earlier:
                self._compare_settings()
                self.records, self.finished = self.earlier["records"], self.earlier["finished"] and complete
        except BaseException:
            self.held.close()
            raise
        if self.finished:
            print(f"{self.checkpoint} is finished: nothing is left to do", flush=True)
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        self.held.close()
        if error:
            error.resumable = self.begun

    def _check_writable(self) -> None:
        suffix = ".json" if self.kind in ("selection", "analysis") else ".pt"
        if self.save.is_dir():
            raise UserError(f"cannot write {self.save}: it is a folder")
        if self.save.suffix != suffix:
            raise UserError(f"--save {self.save}: a file name that ends in {suffix} is needed")
        if not self.save.parent.is_dir():
            raise UserError(f"cannot write {self.save}: there is no folder {self.save.parent}")
        if not os.access(self.save.parent, os.W_OK):
            raise UserError(f"cannot write {self.save}: the folder is read-only")

    def _load_earlier(self) -> tuple[dict[str, Any] | None, bool]:
        """Returns the checkpoint, if there is one, and whether the result is there too."""
        there = self.checkpoint.exists()
        return load_checkpoint(self.checkpoint, self.kind) if there else None, self.save.exists()

    def _compare_settings(self) -> None:
        """Raises UserError unless the settings are those of before. A folder may move: `begin` compares its images."""
        before, moved = self.earlier["settings"], {"data"}
        if not self.earlier["finished"] and not {before.get("dataset"), self.settings.get("dataset")} & DATASETS.keys():
            moved |= {"dataset", "datasets"}
        for name in {**before, **self.settings}:
            if name not in moved and str(before.get(name)) != str(self.settings.get(name)):
                change = f"was begun with {name} {before.get(name)}, and now it is {self.settings.get(name)}"
                if name == "epochs" and self.settings.get("decay") != "exponential":
                    again = f"start anew with --epochs {self.settings['epochs']}, without --resume"
                    change += f"; a cosine schedule cannot be extended: {again}"
                raise UserError(f"--resume: {self.checkpoint} {change}")

    def begin(self, facts: dict[str, Any], state: Any = None) -> None:
        """Loads the state of the run that is resumed. Otherwise moves earlier results aside and saves the first
        checkpoint, so that a killed run leaves nothing of another one.

        facts: about the images and the machine; every checkpoint has them. state: what the steps change, if
        anything, such as a `ptnas.Bilevel`, with `state_dict` and `load_state_dict`.
        """
        self.facts, self.state = facts, state
        if self.earlier:
            self._load_state()
        else:
            snapshots = self.save.parent.glob(f"{glob.escape(self.save.stem)}.epoch*.pt")
            move_aside(*name_files(self.save), *(snapshots if self.kind == "supernet" else ()))
            self.keep()
        self.begun = True
        write(self.log, lambda file: file.writelines(json.dumps(record) + "\n" for record in self.records), "w")

    def _load_state(self) -> None:
        for name in ("classes", "channels", "image_size", "images", "fingerprint"):
            if self.earlier.get(name) != self.facts.get(name):
                advice = "name those with --dataset or --data, or start anew, without --resume"
                raise UserError(f"--resume: {self.checkpoint} was begun on other images ({name} differs); {advice}")
        if self.earlier.get("computing") != self.facts.get("computing"):
            before = ", ".join(f"{name} {value}" for name, value in (self.earlier.get("computing") or {}).items())
            note(f"note: {self.checkpoint} was computed in another way before: {before}")
        if self.state:
            with blame(self.checkpoint, "does not fit"):
                self.state.load_state_dict(self.earlier["state"])

    def follow(self, steps: Iterator[Record], total: int, unit: str) -> Iterator[Record]:
        """Takes the steps that are left and yields the record of each, with its time. Seeds torch before each step, and
        appends each record to the log.

        steps: an algorithm, which begins where the state stands; total: steps of the whole run; unit: "epoch", ...
        """
        first, shown = len(self.records), ("valid_accuracy", "test_error", "test_accuracy")
        if first > total:
            raise UserError(f"{self.checkpoint} does not fit: it has {first} records")
        with tqdm(total=total, initial=first, unit=unit, disable=not (total and speaks())) as bar:
            for number in range(first, total):
                check_signals()
                # All processes draw the same noise on α, but drop-path differs: it is for the images of each.
                own = [get_share()[0]] if self.kind == "network" and not speaks() else []
                torch.manual_seed(mix(self.settings["seed"], number, *own))
                began = time.monotonic()
                try:
                    record = next(steps)
                except FloatingPointError as error:
                    advice = "search again with a smaller --lr" if self.kind == "selection" else "try a smaller --lr"
                    kept = f"{self.checkpoint} has the state before it"
                    raise UserError(f"{error} in {unit} {number + 1}; {kept}; {advice}") from None
                self.records.append(record | {"seconds": round(time.monotonic() - began, 3)})
                if speaks():
                    with blame(self.log, "cannot be written"), self.log.open("a") as log:
                        log.write(json.dumps(self.records[-1]) + "\n")
                bar.update()
                bar.set_postfix_str(", ".join(f"{name} {record[name]:.2f}%" for name in shown if name in record))
                yield self.records[-1]

    def keep(self, path: Path | None = None) -> None:
        """Saves the records and the state in the checkpoint, or in a file of its own."""
        if speaks():
            content = {"schema": CHECKPOINT_SCHEMA, "kind": self.kind, "settings": self.settings}
            content |= {"finished": self.finished, "records": self.records, **self.facts}
            content["state"] = self.state.state_dict() if self.state else {}
            buffer = io.BytesIO()  # torch hides why it cannot write to a file
            torch.save(content, buffer)
            write(path or self.checkpoint, lambda file: file.write(buffer.getbuffer()))

    def draw(self, picture: Callable[[Figure], None]) -> None:
        """Draws the picture, unless it was drawn in the last ten seconds."""
        if time.monotonic() - self.drawn > 10:
            save_picture(self.picture, picture)
            self.drawn = time.monotonic()

    def finish(self, picture: Callable[[Figure], None] | None) -> None:
        """Draws the picture, if there is one, for the last time and marks the run as finished."""
        if picture:
            save_picture(self.picture, picture)
        self.finished = True
        self.keep()


# ==== Architectures and benchmark tables from files =================================================================


Architecture = Genotype | Arch


def load_architecture(text: str) -> tuple[Architecture, dict[str, Any]]:
    """Returns an architecture, from a published name, a file, or text that `read_architecture` can read, and what else
    is known of it (space, data set, preset, image size). Raises UserError."""
    if text in PUBLISHED:
        space = re.search(r"_(S[1-4])_", text)
        return PUBLISHED[text], {"space": space.group(1).lower()} if space else {}
    with contextlib.suppress(OSError, ValueError):  # a text that cannot be a file name
        if Path(text).is_file():
            return load_genotype(Path(text))
    try:
        return read_architecture(text), {}
    except ValueError as error:
        start = " ".join(text[:200].split())[:80]
        known = "" if re.search(r"[(|{]", text) else f", no file, and none of {', '.join(PUBLISHED)}"
        raise UserError(f"no architecture {start!r}: {error}{known}") from None


def load_genotype(path: Path) -> tuple[Architecture, dict[str, Any]]:
    """Returns the architecture in a file, and what else the file says. The file is genotype.json, network.pt, or holds
    a text that `read_architecture` can read. Raises UserError."""
    if zipfile.is_zipfile(path):
        network = load_checkpoint(path, "network")
        with blame(path, "holds no genotype"):
            known = {name: network[name] for name in ("classes", "channels", "image_size", "fingerprint")}
            known |= {name: network["settings"][name] for name in ("dataset", "data", "preset", "no_flip")}
            return read_architecture(network["settings"]["genotype"]), network["origin"] | known
    with blame(path, "holds no genotype"):
        if path.stat().st_size > 10 << 20:
            raise ValueError("more than 10 MiB")
        text = read_text(path)
        try:
            content = json.loads(text)
        except ValueError as error:
            if '"schema"' in text:  # a genotype.json that was cut short or edited
                raise ValueError(f"it is no whole JSON: {error}") from None
            content = None
        if not isinstance(content, dict) or not content.keys() & {"schema", "genotype", "arch"}:
            return read_architecture(text), {}
        if content.get("schema") != SCHEMA:
            raise ValueError(f"schema version {content.get('schema')}, and this program reads {SCHEMA}")
        RunSettings.of(content)
        space = SPACES[content["space"]]
        if space.family == "nb201":
            return Arch.from_text(content["arch"]), content
        genotype = Genotype.from_json(content["genotype"])
        space.check(genotype)
        if content.get("text", str(genotype)) != str(genotype):
            raise ValueError("its text is not that of its genotype; delete the text, or change both")
        return genotype, content


BENCHMARKED = ("cifar10", "cifar100", "imagenet16-120")  # the data sets of NAS-Bench-201
Benchmark = dict[str, dict[str, float]]  # true test error in percent, by architecture and by data set


def load_benchmark(path: Path | None = None) -> Benchmark:
    """Returns the true test error in percent of every NAS-Bench-201 architecture, by its text and by data set: those of
    nb201.csv.gz (Dong & Yang, 2020), or of a CSV, zipped or not, of test accuracies with the same header. Raises
    UserError unless it has just that, for all architectures."""
    path = path or Path(__file__).with_name("nb201.csv.gz")
    every = {str(Arch(operations)) for operations in itertools.product(*SPACES["nb201"].operations["cell"])}
    errors: Benchmark = {}
    with blame(path, "is no table of NAS-Bench-201"):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, []) != ["arch", *BENCHMARKED]:
                raise ValueError(f"the header arch,{','.join(BENCHMARKED)} is needed")
            for arch, *accuracies in filter(None, rows):
                values = [float(accuracy) for accuracy in accuracies]
                sound = len(values) == 3 and all(0 <= value <= 100 for value in values)
                if not sound or arch not in every or arch in errors:
                    raise ValueError(f"line {rows.line_num}: one line for each architecture, with three percentages")
                errors[arch] = {name: 100 - value for name, value in zip(BENCHMARKED, values, strict=True)}
        if missing := every - errors.keys():
            raise ValueError(f"the architecture {min(missing)} is missing")
    return errors
