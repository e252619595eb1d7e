"""Data sets and what is done to images."""

from __future__ import annotations

import os
import pickle
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets

import data as data_module
import runs
from data import ImageFiles, Images, load_data, random_crop, random_cutout, random_flip
from runs import UserError
from tests.conftest import load_script, write_image_folder

CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------ batches


@given(count=st.integers(4, 60), size=st.integers(2, 40))
def test_batches_are_of_nearly_equal_size_and_hold_every_image_once(count, size):
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 2, 2)
    one = torch.ones(1, 1, 1)
    split = Images(images, torch.arange(count), torch.arange(count), 0 * one, one)
    for batches in (list(split.batches(size, epoch=0)), list(split.clean(size))):
        sizes = [len(labels) for _, labels in batches]
        assert max(sizes) <= (3 if size == 2 and count % 2 else size)
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 1, "no batch of a single image: a norm would fail on it"
        seen = torch.cat([labels for _, labels in batches])
        assert sorted(seen.tolist()) == list(range(count))
        assert torch.equal(torch.cat([x for x, _ in batches])[:, 0, 0, 0], seen.float())
    assert torch.equal(torch.cat([labels for _, labels in split.clean(size)]), torch.arange(count))


def test_what_is_drawn_depends_on_seed_and_epoch_alone():
    data = load_data("digits", None, CPU, seed=3)
    first = [x for x, _ in data.train.batches(100, epoch=4)]
    list(data.train.batches(100, epoch=5))
    again = [x for x, _ in data.train.batches(100, epoch=4)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = [x for x, _ in data.train.batches(100, epoch=5)]
    assert not torch.equal(first[0], other[0])
    seed = next(load_data("digits", None, CPU, seed=4).train.batches(100, epoch=4))[0]
    assert not torch.equal(first[0], seed)


def test_digits_are_split_into_halves_that_share_nothing():
    data = load_data("digits", None, CPU, seed=0)
    train, valid = data.halve(seed=0)
    assert (len(train), len(valid), len(data.test)) == (718, 719, 360)
    assert not set(train.indices.tolist()) & set(valid.indices.tolist())
    assert data.classes == tuple("0123456789")
    assert (data.channels, data.image_size) == (1, 8)
    other, _ = data.halve(seed=1)
    assert set(train.indices.tolist()) != set(other.indices.tolist())
    images = torch.cat([images for images, _ in data.train.clean(500)])
    assert images.mean().item() == pytest.approx(0, abs=1e-4)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_limit_takes_some_training_images_and_image_size_resizes():
    data = load_data("digits", None, CPU, seed=0, limit=100, image_size=11)
    assert len(data.train) == 100
    assert next(data.test.clean(10))[0].shape == (10, 1, 11, 11)
    other = load_data("digits", None, CPU, seed=1, limit=100)
    assert data.train.indices.tolist() != other.train.indices.tolist()


# ------------------------------------------------------------------------------------------------- augmentation


def test_a_random_crop_is_a_window_of_the_padded_image():
    images = torch.randint(1, 255, (40, 2, 6, 7), dtype=torch.uint8, generator=seeded())
    cropped = random_crop(images, 2, seeded(1))
    assert cropped.shape == images.shape
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    places = set()
    for image, crop in zip(padded, cropped, strict=True):
        windows = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(image[:, top : top + 6, left : left + 7], crop)
        ]
        assert len(windows) == 1
        places.add(windows[0])
    assert len(places) > 10


def test_a_random_flip_mirrors_about_half_of_the_images():
    images = torch.rand(100, 1, 4, 4, generator=seeded())
    flipped = random_flip(images, seeded(1))
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(images, flipped, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(images, flipped, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 30 < sum(mirrored) < 70


def test_a_random_cutout_removes_one_square_that_may_reach_over_the_border():
    cut = random_cutout(torch.ones(300, 2, 9, 9), 4, seeded())
    areas = []
    for image in cut:
        assert torch.equal(image[0], image[1])
        rows, columns = (image[0] == 0).any(1).nonzero()[:, 0], (image[0] == 0).any(0).nonzero()[:, 0]
        assert not image[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].any()
        areas.append(int((image[0] == 0).sum()))
    assert max(areas) == 16
    assert min(areas) < 16
    assert len(areas) == 300


def test_only_training_images_are_varied():
    data = load_data("digits", None, CPU, seed=0, cutout=0.5)
    assert (data.train.pad, data.train.flip, data.train.cutout) == (1, False, 4)
    assert (data.test.pad, data.test.flip, data.test.cutout) == (0, False, 0)
    train, valid = data.halve(0)
    assert train.pad == valid.pad == 1, "the validation half is varied in the search too"


# -------------------------------------------------------------------------------------- named data sets, as files


def cifar_files(root, monkeypatch, name, labels_key, count=20):
    """Small files in the format in which CIFAR is distributed."""
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = {"train_list": ["train_part"], "test_list": ["test_part"]}
    for attribute, files in names.items():
        for file in files:
            pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
            content = {"data": pixels, labels_key: [index % 10 for index in range(count)]}
            (folder / file).write_bytes(pickle.dumps(content))
        monkeypatch.setattr(kind, attribute, [[file, None] for file in files])
    classes = [f"class {index}" for index in range(10)]
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: classes}))
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})
    return pixels


@pytest.mark.parametrize(("name", "labels_key"), [("cifar10", "labels"), ("cifar100", "fine_labels")])
def test_cifar_is_read_from_its_files(tmp_path, monkeypatch, name, labels_key):
    pixels = cifar_files(tmp_path, monkeypatch, name, labels_key)
    data = load_data(name, str(tmp_path), CPU, seed=0)
    assert (len(data.train), len(data.test), data.channels, data.image_size) == (20, 20, 3, 32)
    assert len(data.classes) == 10
    assert torch.equal(data.test.source, torch.tensor(pixels).view(20, 3, 32, 32)), "channels, rows, columns"
    assert data.train.flip
    assert data.train.pad == 4


def test_svhn_is_read_from_its_files(tmp_path, monkeypatch):
    from scipy.io import savemat

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": (np.arange(12) % 10 + 1)[:, None]})
    monkeypatch.setattr(
        datasets.SVHN, "split_list", {part: ["", f"{part}_32x32.mat", None] for part in ("train", "test")}
    )
    data = load_data("svhn", str(tmp_path), CPU, seed=0)
    assert (len(data.train), len(data.test), len(data.classes)) == (12, 12, 10)
    assert torch.equal(data.test.source[3], torch.tensor(pixels[:, :, :, 3]).permute(2, 0, 1))
    assert data.test.labels[9] == 0, "SVHN writes the digit 0 as 10"


def write_imagenet16(folder, change=lambda batch: batch, protocol=2):
    """Two images in each of the pickled batches: one of a class that is kept and one that is not."""
    folder.mkdir(parents=True)
    names = [f"train_data_batch_{number}" for number in range(1, 11)] + ["val_data"]
    for number, name in enumerate(names, start=1):
        pixels = np.full((2, 768), number, np.uint8)
        pixels[:, :256] += 100  # red
        batch = change({"data": pixels, "labels": [number % 3 * 59 + 1, 121 + number], "mean": pixels[0]})
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 3, 5])
@pytest.mark.parametrize("place", ["ImageNet16", "."])
def test_imagenet16_120_is_read_from_its_files(tmp_path, protocol, place):
    write_imagenet16(tmp_path / "data" / place, protocol=protocol)
    data = load_data("imagenet16-120", str(tmp_path / "data"), CPU, seed=0)
    assert data.train.source.shape == (10, 3, 16, 16)
    assert data.train.source[:, :, 0, 0].tolist() == [[n + 100, n, n] for n in range(1, 11)]
    assert data.train.labels.tolist() == [n % 3 * 59 for n in range(1, 11)], "labels from 0 to 119"
    assert (len(data.test), len(data.classes), data.train.pad, data.train.flip) == (1, 120, 2, True)


def test_imagenet16_120_says_where_it_should_be_and_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match=r"expected in .*ImageNet16.*train_data_batch_1"):
        load_data("imagenet16-120", str(tmp_path), CPU, seed=0)
    damages = {
        "labels from 1 to 1000": lambda batch: {**batch, "labels": [0, 1]},
        "from 1 to 1000": lambda batch: {**batch, "labels": [1, 1001]},
        "16x16": lambda batch: {**batch, "data": batch["data"][:, :100]},
        "'labels'": lambda batch: {"data": batch["data"]},
        "no batch of images": lambda batch: "text",
    }
    for number, (words, damage) in enumerate(damages.items()):
        write_imagenet16(tmp_path / str(number), damage)
        with pytest.raises(UserError, match=words):
            load_data("imagenet16-120", str(tmp_path / str(number)), CPU, seed=0)
    write_imagenet16(tmp_path / "whole")
    (tmp_path / "whole" / "train_data_batch_4").unlink()
    with pytest.raises(UserError, match="train_data_batch_4 is missing"):
        load_data("imagenet16-120", str(tmp_path / "whole"), CPU, seed=0)


class Payload:
    """Opens a file when it is unpickled."""

    def __reduce__(self):
        return (open, ("mark", "w"))


class Pointers:
    """Becomes an array of objects that lie where its bytes say."""

    def __reduce__(self):
        return (np.ndarray, ((1,), "O", b"AAAAAAAA"))


@pytest.mark.parametrize("forged", [Payload(), Pointers(), np.array([None]), np.dtype("O"), print])
@pytest.mark.parametrize("place", ["whole", "within"])
def test_a_pickle_runs_no_code_and_makes_no_objects(tmp_path, monkeypatch, forged, place):
    monkeypatch.chdir(tmp_path)
    write_imagenet16(tmp_path / "ImageNet16", lambda batch: forged if place == "whole" else {**batch, "mean": forged})
    with pytest.raises(UserError, match="train_data_batch_1"):
        load_data("imagenet16-120", str(tmp_path), CPU, seed=0)
    assert not (tmp_path / "mark").exists()


def test_a_data_set_that_cannot_be_downloaded_is_an_error_of_the_user(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", offline)
    with pytest.raises(UserError, match=r"neither complete in .* nor can it be downloaded"):
        load_data("cifar10", str(tmp_path), CPU, seed=0)


# ----------------------------------------------------------------------------------------------- folders of images


def test_a_folder_of_images_is_read(image_folder):
    data = load_data(str(image_folder), None, CPU, seed=0)
    assert data.classes == ("apple", "pear")
    assert (len(data.train), len(data.test), data.channels, data.image_size) == (12, 12, 3, 8)
    with Image.open(image_folder / "train" / "pear" / "2.png") as image:
        assert torch.equal(data.train.source[8], torch.tensor(np.array(image)).permute(2, 0, 1))


def test_grey_images_have_one_channel_and_val_stands_for_test(tmp_path):
    folder = write_image_folder(tmp_path / "grey", mode="L", parts=("train", "val"))
    assert load_data(str(folder), None, CPU, seed=0).channels == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_images_of_other_modes_among_colour_images_become_colour_images(image_folder, mode):
    odd = Image.new("RGB", (8, 8), (200, 100, 50))
    odd = Image.fromarray(np.full((8, 8), 40_000, np.uint16)) if mode == "I;16" else odd.convert(mode)
    odd.save(image_folder / "train" / "apple" / ("z.jpg" if mode == "CMYK" else "z.png"))
    data = load_data(str(image_folder), None, CPU, seed=0)
    assert data.channels == 3
    if mode == "I;16":
        assert data.train.source[6].unique().item() == 40_000 // 256
    elif mode == "RGBA":
        assert data.train.source[6][:, 0, 0].tolist() == [200, 100, 50]


def animated(path):
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (200, 10)]
    frames[0].save(path.with_suffix(".webp"), save_all=True, append_images=frames[1:], lossless=True)


def elongated(path):
    Image.new("RGB", (1, 20_000), (200, 0, 0)).save(path)


def pages(path):
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (200, 10)]
    frames[0].save(path.with_suffix(".tiff"), save_all=True, append_images=frames[1:])


def one_pixel(path):
    Image.new("RGB", (1, 1), (200, 0, 0)).save(path)


def large(path):
    """More than the 89 megapixels from which Pillow warns."""
    Image.new("1", (10_000, 9_000), 0).save(path)


def real_numbers(path):
    Image.new("F", (8, 8), 30.0).save(path.with_suffix(".tiff"))


def transparent_palette(path):
    Image.new("RGBA", (8, 8), (200, 0, 0, 100)).convert("P").save(path, transparency=0)


@pytest.mark.parametrize(
    ("write", "red"),
    [
        (animated, 200), (elongated, 200), (pages, 200), (one_pixel, 200), (large, 0), (real_numbers, 30),
        (transparent_palette, None),
    ],
)  # fmt: skip
def test_odd_images_are_read_by_their_first_frame_and_their_middle(image_folder, write, red):
    path = image_folder / "train" / "apple" / "0.png"
    path.unlink()
    write(path)
    data = load_data(str(image_folder), None, CPU, seed=0, image_size=8, workers=0)
    assert data.train.source.shape == (12, 3, 8, 8)
    if red is not None:
        assert (data.train.source[0, 0].int() - red).abs().max() <= 3


def test_folders_in_folders_are_gone_through_once_though_links_lead_back(image_folder):
    apple = image_folder / "train" / "apple"
    (apple / "red").mkdir()
    (apple / "0.png").rename(apple / "red" / "0.png")
    for name, target in (("loop", apple), ("again", apple), ("up", image_folder), ("part", image_folder / "train")):
        (apple / "red" / name).symlink_to(target, target_is_directory=True)
    (apple / "other.png").mkdir()
    elsewhere = image_folder / "elsewhere"
    (image_folder / "train" / "pear").rename(elsewhere)
    (image_folder / "train" / "pear").symlink_to(elsewhere, target_is_directory=True)
    data = load_data(str(image_folder), None, CPU, seed=0, workers=0)
    assert data.train.labels.tolist() == 6 * [0] + 6 * [1]


def test_names_that_are_no_text_are_read_trained_on_and_printed(tmp_path, capsys):
    """In Latin-1, on a system whose names are in UTF-8, and with what would be a formula in a picture: a folder, its
    classes and the files in them."""
    odd = os.fsdecode(b"$x^$caf\xe9")
    images = write_image_folder(tmp_path / odd, classes=(odd, "tea"))
    (images / "train" / odd / "0.png").rename(images / "train" / odd / f"{odd}.png")
    names = {name: str(tmp_path / name) for name in ("supernet.pt", "genotype.json", "network.pt")}
    small = ["--epochs", "1", "--channels", "2", "--threads", "1", "--save"]
    plan = ["--space", "s2", "--dataset", str(images), "--preset", "laptop", *small, names["supernet.pt"]]
    assert load_script("train_search").main(plan) == 0
    capsys.readouterr()
    none = ["--tune-epochs", "0", "--threads", "1", "--save", names["genotype.json"]]
    assert load_script("select").main(["--ckpt", names["supernet.pt"], *none]) == 0
    assert load_script("retrain").main(["--arch", names["genotype.json"], *small, names["network.pt"]]) == 0
    assert runs.load_checkpoint(tmp_path / "network.pt", "network")["classes"] == [odd, "tea"]
    (images / "train" / odd / f"{odd}.png").write_bytes(b"")
    assert load_script("train_search").main([*plan[:-1], str(tmp_path / "other.pt")]) == 2
    assert "$x^$caf\\udce9.png" in capsys.readouterr().err


def test_fewer_images_than_a_batch_are_enough(tmp_path):
    images = write_image_folder(tmp_path / "images", count=2)
    save = tmp_path / "supernet.pt"
    small = ["--preset", "laptop", "--epochs", "1", "--channels", "2", "--threads", "1", "--save", str(save)]
    assert load_script("train_search").main(["--space", "s2", "--dataset", str(images), *small]) == 0


def test_images_of_other_sizes_are_fitted(image_folder):
    Image.new("RGB", (30, 9), (1, 2, 3)).save(image_folder / "train" / "apple" / "wide.png")
    assert load_data(str(image_folder), None, CPU, seed=0).image_size == 32
    assert load_data(str(image_folder), None, CPU, seed=0, image_size=12).image_size == 12


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_do_not_fit_are_read_by_workers_and_are_the_same(image_folder, monkeypatch, workers):
    held = load_data(str(image_folder), None, CPU, seed=0)
    monkeypatch.setattr(data_module, "FITS", 0)
    read = load_data(str(image_folder), None, CPU, seed=0, workers=workers)
    assert isinstance(read.train.source, ImageFiles)
    for batches in (lambda data: data.train.batches(5, epoch=2), lambda data: data.test.clean(5)):
        for (a, labels), (b, other) in zip(batches(held), batches(read), strict=True):
            torch.testing.assert_close(a, b)
            assert torch.equal(labels, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_imagenet_is_varied_as_it_is_read_whichever_process_does_it(tmp_path, workers):
    write_image_folder(tmp_path / "imagenet", size=40, parts=("train", "val"))
    data = load_data("imagenet", str(tmp_path), CPU, seed=0, image_size=32, workers=workers)
    first, again = (next(data.train.batches(12, epoch=1))[0] for _ in range(2))
    assert first.shape == (12, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, next(data.train.batches(12, epoch=2))[0])
    assert data.train.pad == 0
    assert not data.train.flip
    reference = load_data("imagenet", str(tmp_path), CPU, seed=0, image_size=32, workers=0)
    assert torch.equal(first, next(reference.train.batches(12, epoch=1))[0])


def no_training(folder):
    (folder / "train").rename(folder / "other")


def no_test(folder):
    (folder / "test").rename(folder / "other")


def empty_class(folder):
    (folder / "train" / "plum").mkdir()


def other_classes(folder):
    (folder / "test" / "pear").rename(folder / "test" / "plum")


def no_classes(folder):
    for part in ("train", "test"):
        for path in (folder / part).iterdir():
            path.rename(folder / f"{part} {path.name}")


def one_class(folder):
    for part in ("train", "test"):
        (folder / part / "pear").rename(folder / f"{part} pear")


def broken_image(folder):
    (folder / "train" / "apple" / "3.png").write_bytes(b"no picture at all")


def truncated_image(folder):
    path = folder / "test" / "pear" / "3.png"
    path.write_bytes(path.read_bytes()[:60])


def empty_image(folder):
    (folder / "train" / "apple" / "3.png").write_bytes(b"")


def giant_image(folder):
    """In its header: 60,000 pixels on each side."""
    path = folder / "train" / "apple" / "3.png"
    Image.new("1", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = 2 * (60_000).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


def broken_link(folder):
    (folder / "train" / "apple" / "3.png").unlink()
    (folder / "train" / "apple" / "3.png").symlink_to("nowhere.png")


def pipe(folder):
    (folder / "train" / "apple" / "3.png").unlink()
    os.mkfifo(folder / "train" / "apple" / "3.png")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (empty_image, "cannot read the image .*3.png"),
        (giant_image, "cannot read the image .*3.png.*exceeds limit"),
        (broken_link, "cannot read the image .*3.png: it is no file"),
        (pipe, "cannot read the image .*3.png: it is no file"),
        (no_training, "needs the folders train/ and test/ or val/"),
        (no_test, "needs the folders train/ and test/ or val/"),
        (empty_class, "plum"),
        (other_classes, "differ: pear, plum"),
        (no_classes, "class"),
        (one_class, "single class"),
        (broken_image, "cannot read the image .*3.png"),
        (truncated_image, "cannot read the image .*3.png"),
    ],
)
def test_a_broken_folder_is_an_error_that_says_what_is_wrong(image_folder, damage, words):
    damage(image_folder)
    with pytest.raises(UserError, match=words):
        load_data(str(image_folder), None, CPU, seed=0, workers=0)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(UserError, match="digits, cifar10, cifar100, svhn, imagenet"):
        load_data("cifar11", None, CPU, seed=0)


def test_cutout_is_half_of_the_image_in_the_papers_setting():
    assert runs.get_preset("retrain", "paper", "cifar10")[1].get("cutout", 0.5) * 32 == 16


# ------------------------------------------------------------------------- real images, where somebody points to them


@pytest.mark.skipif("PTNAS_CIFAR10_FOLDER" not in __import__("os").environ, reason="PTNAS_CIFAR10_FOLDER is not set")
def test_real_images_have_the_statistics_of_cifar10():
    data = load_data(__import__("os").environ["PTNAS_CIFAR10_FOLDER"], None, CPU, seed=0)
    assert (data.train.mean.flatten() / 255).tolist() == pytest.approx([0.491, 0.482, 0.447], abs=0.01)
    assert (data.train.deviation.flatten() / 255).tolist() == pytest.approx([0.247, 0.243, 0.262], abs=0.01)


# --------------------------------------------------------------------------------------------------- several processes


def shares(processes, **how):
    """A split of 25 images, each of one number, as each of so many processes has it; alone if it is one."""
    images = torch.arange(25, dtype=torch.uint8)[:, None, None, None].expand(25, 1, 8, 8).contiguous()
    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    split = Images(images, torch.arange(25), torch.arange(25), zero, one, **how)
    return [replace(split, share=(rank, processes)) for rank in range(processes)]


def test_processes_share_every_batch_to_train_on_and_whole_batches_to_evaluate():
    (alone,), three = shares(1), shares(3)
    for whole, *parts in zip(alone.batches(10, 4), *(each.batches(10, 4) for each in three), strict=True):
        assert torch.equal(torch.cat([labels for _, labels in parts]), whole[1])
        assert torch.equal(torch.cat([images for images, _ in parts]), whole[0])
        assert {len(labels) for _, labels in parts} <= {2, 3}
    wholes = [labels.tolist() for _, labels in alone.clean(4)]
    assert [[labels.tolist() for _, labels in each.clean(4)] for each in three] == [wholes[k::3] for k in range(3)]
    assert list(shares(3)[2].clean(25)) == [], "a process may have none"


def test_processes_crop_their_parts_differently():
    two = shares(2, pad=2)
    pattern = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(25, 1, 8, 8).contiguous()
    parts = [next(replace(each, source=pattern).batches(25, 0))[0] for each in two]
    assert not torch.equal(parts[0][:12], parts[1])


def test_batches_that_leave_a_process_one_image_are_refused():
    for split in shares(3):
        with pytest.raises(runs.UserError, match="3 processes are too many"):
            next(split.batches(5, 0))
