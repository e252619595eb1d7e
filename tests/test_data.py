"""Data sets, and what is done to their images."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from scipy.io import savemat
from torch.nn import functional as F
from torchvision import datasets

import data as data_module
import runs
from data import ImageFiles, Images, load_data, random_crop, random_cutout, random_flip
from runs import UserError
from tests import faults
from tests.conftest import SMALL, load_script, write_image_folder


def load(dataset, data=None, seed=0, workers=0, cutout=0.0, **more):
    settings = {"dataset": str(dataset), "data": data and str(data), "seed": seed, **more}
    return load_data(settings, torch.device("cpu"), workers, cutout)


def make_split(count, **options):
    """A split of images that are filled with their own number, which is their label too."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 2, 2).contiguous()
    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    return Images(images, torch.arange(count), torch.arange(count), zero, one, **options)


def share(split, processes):
    return [replace(split, share=(rank, processes)) for rank in range(processes)]


# ==== Batches and augmentation ======================================================================================


@given(count=st.integers(4, 60), size=st.integers(2, 40))
def test_batches_are_of_nearly_equal_size_and_hold_every_image_once(count, size):
    split = make_split(count)
    for batches in (list(split.batches(size, epoch=0)), [batch for _, batch in split.clean(size)]):
        sizes = [len(labels) for _, labels in batches]
        assert len(batches) == split.count(size)
        assert max(sizes) <= (3 if size == 2 and count % 2 else size)
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 1, "no batch has a single image: a norm would fail on it"
        seen = torch.cat([labels for _, labels in batches])
        assert sorted(seen.tolist()) == list(range(count))
        assert torch.equal(torch.cat([images for images, _ in batches])[:, 0, 0, 0], seen.float())
    assert torch.equal(torch.cat([labels for _, (_, labels) in split.clean(size)]), torch.arange(count))


def test_draws_depend_on_seed_and_epoch_alone():
    def draw(data, epoch):
        return torch.cat([images for images, _ in data.train.batches(100, epoch)])

    data, before = load("digits", seed=3, cutout=0.5), torch.get_rng_state()
    first, other, again = (draw(data, epoch) for epoch in (4, 5, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, draw(load("digits", seed=4, cutout=0.5), epoch=4))
    assert torch.equal(torch.get_rng_state(), before), "nothing comes from the global generator"


def test_digits_are_split_into_halves_that_share_nothing():
    data = load("digits")
    train, valid = data.halve(seed=0)
    assert (len(train), len(valid), len(data.test)) == (718, 719, 360)
    assert not set(train.indices.tolist()) & set(valid.indices.tolist())
    assert set(train.indices.tolist()) != set(data.halve(seed=1)[0].indices.tolist())
    wanted = {"classes": [*"0123456789"], "channels": 1, "image_size": 8, "images": [1437, 360]}
    assert wanted.items() <= data.describe().items()


def test_training_images_have_mean_0_and_variance_1_in_each_channel(image_folder):
    for dataset in ("digits", image_folder):
        images = torch.cat([images for _, (images, _) in load(dataset).train.clean(500)]).transpose(0, 1).flatten(1)
        torch.testing.assert_close(images.mean(1), torch.zeros(len(images)), atol=1e-4, rtol=0)
        torch.testing.assert_close(images.std(1, correction=0), torch.ones(len(images)), atol=1e-4, rtol=0)


def test_limit_takes_some_training_images_and_image_size_resizes():
    data = load("digits", limit=100, image_size=11)
    assert (len(data.train), next(data.test.clean(10))[1][0].shape) == (100, (10, 1, 11, 11))
    assert data.train.indices.tolist() != load("digits", seed=1, limit=100).train.indices.tolist()


def test_processes_share_every_batch_to_train_on_and_whole_batches_to_evaluate():
    alone = make_split(25)
    three = share(alone, 3)
    for whole, *parts in zip(alone.batches(10, 4), *(each.batches(10, 4) for each in three), strict=True):
        assert torch.equal(torch.cat([labels for _, labels in parts]), whole[1])
        assert torch.equal(torch.cat([images for images, _ in parts]), whole[0])
        assert {len(labels) for _, labels in parts} <= {2, 3}

    def list_labels(split):
        return [(number, labels.tolist()) for number, (_, labels) in split.clean(4)]

    assert [list_labels(each) for each in three] == [list_labels(alone)[k::3] for k in range(3)]
    assert list(three[2].clean(25)) == [], "a process may have no batch"


def test_processes_crop_their_parts_differently():
    pattern = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(24, 1, 8, 8).contiguous()
    first, second = (next(each.batches(24, 0))[0] for each in share(replace(make_split(24, pad=2), source=pattern), 2))
    assert len(first) == len(second) == 12
    assert not torch.equal(first, second)


def test_batches_that_leave_a_process_one_image_are_refused():
    for split in share(make_split(25), 3):
        with pytest.raises(UserError, match="3 processes are too many"):
            next(split.batches(5, 0))


def test_a_random_crop_is_a_window_of_the_padded_image():
    images = torch.randint(1, 255, (40, 2, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cropped, padded = random_crop(images, 2, torch.Generator().manual_seed(1)), F.pad(images, (2, 2, 2, 2))
    assert cropped.shape == images.shape
    corners = [(top, left) for top in range(5) for left in range(5)]
    places = set()
    for image, crop in zip(padded, cropped, strict=True):
        found = [(t, left) for t, left in corners if torch.equal(image[:, t : t + 6, left : left + 7], crop)]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 10


def test_a_random_flip_mirrors_about_half_of_the_images():
    images = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = list(zip(images, random_flip(images, torch.Generator().manual_seed(1)), strict=True))
    mirrored = [torch.equal(before, after.flip(-1)) for before, after in pairs]
    kept = [torch.equal(before, after) for before, after in pairs]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 30 < sum(mirrored) < 70


def test_a_random_cutout_removes_one_square_that_may_reach_over_the_border():
    areas = []
    for image in random_cutout(torch.ones(300, 2, 9, 9), 4, torch.Generator().manual_seed(0)):
        assert torch.equal(image[0], image[1])
        rows, columns = (image[0] == 0).any(1).nonzero()[:, 0], (image[0] == 0).any(0).nonzero()[:, 0]
        assert not image[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].any()
        areas.append(int((image[0] == 0).sum()))
    assert max(areas) == 16
    assert min(areas) < 16


def test_training_images_are_augmented_in_both_halves_and_test_images_are_not():
    data = load("digits", cutout=0.5)
    for split in (data.train, *data.halve(0)):
        assert (split.pad, split.flip, split.cutout) == (1, False, 4)
    assert (data.test.pad, data.test.flip, data.test.cutout) == (0, False, 0)


# ==== Data sets with a name =========================================================================================


@pytest.mark.parametrize(("kind", "labels_key"), [(datasets.CIFAR10, "labels"), (datasets.CIFAR100, "fine_labels")])
def test_cifar_is_read_from_its_files(tmp_path, monkeypatch, kind, labels_key):
    folder, rng = tmp_path / kind.base_folder, np.random.default_rng(0)
    folder.mkdir()
    for part in ("train", "test"):
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        content = {"data": pixels, labels_key: [index % 10 for index in range(20)]}
        (folder / part).write_bytes(pickle.dumps(content))
        monkeypatch.setattr(kind, f"{part}_list", [[part, None]])
    classes = {kind.meta["key"]: [f"class {index}" for index in range(10)]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(classes))
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})
    data = load(kind.__name__.lower(), tmp_path, cutout=0.5)
    assert (len(data.train), len(data.test), data.channels, data.image_size) == (20, 20, 3, 32)
    assert len(data.classes) == 10
    assert torch.equal(data.test.source, torch.tensor(pixels).view(20, 3, 32, 32)), "channels, rows, columns"
    assert (data.train.flip, data.train.pad, data.train.cutout) == (True, 4, 16)


def test_svhn_is_read_from_its_files(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
    files = {part: ["", f"{part}_32x32.mat", None] for part in ("train", "test")}
    for _, name, _ in files.values():
        savemat(tmp_path / name, {"X": pixels, "y": (np.arange(12) % 10 + 1)[:, None]})
    monkeypatch.setattr(datasets.SVHN, "split_list", files)
    data = load("svhn", tmp_path)
    assert (len(data.train), len(data.test), len(data.classes)) == (12, 12, 10)
    assert torch.equal(data.test.source[3], torch.tensor(pixels[:, :, :, 3]).permute(2, 0, 1))
    assert data.test.labels[9] == 0, "SVHN writes the digit 0 as 10"


def test_a_data_set_that_cannot_be_downloaded_is_an_error_of_the_user(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(UserError, match=r"neither complete in .* nor can it be downloaded"):
        load("cifar10", tmp_path)


def write_imagenet16(folder, change=lambda batch: batch, protocol=2):
    """Writes the pickled batches, each with an image of a class that is kept and one of a class that is not."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"train_data_batch_{number}" for number in range(1, 11)] + ["val_data"]
    for number, name in enumerate(names, start=1):
        pixels = np.full((2, 768), number, np.uint8)
        pixels[:, :256] += 100  # red
        batch = {"data": pixels, "labels": [number % 3 * 59 + 1, 121 + number], "mean": pixels.mean(0)}
        (folder / name).write_bytes(pickle.dumps(change(batch), protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 3, 5])
@pytest.mark.parametrize("place", ["ImageNet16", "."])
def test_imagenet16_120_is_read_from_its_files(tmp_path, protocol, place):
    write_imagenet16(tmp_path / place, protocol=protocol)
    data = load("imagenet16-120", tmp_path)
    assert data.train.source.shape == (10, 3, 16, 16)
    assert data.train.source[:, :, 0, 0].tolist() == [[n + 100, n, n] for n in range(1, 11)]
    assert data.train.labels.tolist() == [n % 3 * 59 for n in range(1, 11)], "labels from 0 to 119"
    assert (len(data.test), len(data.classes), data.train.pad, data.train.flip) == (1, 120, 2, True)


WRONG_BATCHES = {
    "a label below 1": (lambda batch: {**batch, "labels": [0, 1]}, "labels from 1 to 1000"),
    "a label above 1000": (lambda batch: {**batch, "labels": [1, 1001]}, "labels from 1 to 1000"),
    "labels with a fraction": (lambda batch: {**batch, "labels": [1.0, 2.0]}, "labels from 1 to 1000"),
    "another order of bytes": (lambda batch: {**batch, "labels": np.array([1, 2], ">i4")}, "labels from 1 to 1000"),
    "images of another size": (lambda batch: {**batch, "data": batch["data"][:, :100]}, "16x16"),
    "no labels": (lambda batch: {"data": batch["data"]}, "train_data_batch_1 is no batch .*'labels'"),
    "no batch": (lambda batch: "text", "train_data_batch_1 is no batch"),
}


@pytest.mark.parametrize(("change", "words"), WRONG_BATCHES.values(), ids=WRONG_BATCHES)
def test_a_wrong_batch_of_imagenet16_is_refused(tmp_path, change, words):
    write_imagenet16(tmp_path, change)
    with pytest.raises(UserError, match=words):
        load("imagenet16-120", tmp_path)


def test_a_missing_or_damaged_batch_of_imagenet16_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*ImageNet16/train_data_batch_1"):
        load("imagenet16-120", tmp_path)
    write_imagenet16(tmp_path)
    os.truncate(tmp_path / "train_data_batch_4", 900)
    with pytest.raises(UserError, match="train_data_batch_4 is no batch"):
        load("imagenet16-120", tmp_path)


class Forged:
    """Becomes what the pickle calls as it is read."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


OBJECTS = Forged(np.ndarray, ((1,), "O", b"AAAAAAAA"))  # that lie where the bytes say


@pytest.mark.parametrize("forged", [Forged(open, ("mark", "w")), OBJECTS, np.array([None]), np.dtype("O"), print])
@pytest.mark.parametrize("place", ["whole", "within"])
def test_a_pickle_runs_no_code_and_makes_no_objects(tmp_path, monkeypatch, forged, place):
    monkeypatch.chdir(tmp_path)
    write_imagenet16(tmp_path, lambda batch: forged if place == "whole" else {**batch, "mean": forged})
    with pytest.raises(UserError, match="train_data_batch_1 is no batch"):
        load("imagenet16-120", tmp_path)
    assert not (tmp_path / "mark").exists()


# ==== Folders of images =============================================================================================

GOOD, BAD, TIFF = (Path("train", "apple", name) for name in ("3.png", "bad.png", "bad.tiff"))


def test_a_folder_of_images_is_read(image_folder):
    data = load(image_folder)
    wanted = {"classes": ["apple", "pear"], "channels": 3, "image_size": 8, "images": [12, 12], "largest": {}}
    assert wanted.items() <= data.describe().items()
    assert data.train.labels.tolist() == 6 * [0] + 6 * [1]
    with Image.open(image_folder / "train" / "pear" / "2.png") as image:
        assert torch.equal(data.train.source[8], torch.tensor(np.array(image)).permute(2, 0, 1))


@pytest.mark.parametrize("second", ["val", "valid", "validation"])
def test_grey_images_have_one_channel_and_other_names_stand_for_test(tmp_path, second, capsys):
    data = load(write_image_folder(tmp_path / "grey", mode="L", parts=("train", second)))
    assert (data.channels, data.describe()["images"]) == (1, [12, 12])
    assert not capsys.readouterr().err


def test_test_images_are_taken_before_others_but_imagenet_has_its_own_in_val(tmp_path, capsys):
    write_image_folder(tmp_path, parts=("train", "test", "val"))
    (tmp_path / "val" / "pear" / "0.png").unlink()
    assert len(load(tmp_path).test) == 12
    assert capsys.readouterr().err == "note: the test images are those in test/; not used: val\n"
    shutil.rmtree(tmp_path / "test")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "unlabelled.png").touch()
    assert len(load("imagenet", tmp_path, image_size=32).test) == len(load(tmp_path).test) == 11
    for name in ("train", "val"):
        (tmp_path / name).rename(tmp_path / {"train": "Training", "val": "Testing"}[name])
    shutil.rmtree(tmp_path / "test")
    assert load(tmp_path).describe()["images"] == [12, 11]


@pytest.mark.parametrize("place", [".", "train"])
def test_a_fifth_of_each_class_becomes_the_test_set_if_there_is_none_whatever_the_seed(tmp_path, place, capsys):
    write_image_folder(tmp_path / place, parts=(".",), count=10)
    splits = [load(tmp_path, seed=seed) for seed in (0, 1)]
    assert [data.describe()["images"] for data in splits] == 2 * [[16, 4]]
    assert splits[0].test.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(splits[0].test.source, splits[1].test.source)
    images = {image.numpy().tobytes() for split in (splits[0].train, splits[0].test) for image in split.source}
    assert len(images) == 20, "no image is in both"
    assert capsys.readouterr().err.count("a fifth of each class is kept for testing\n") == 1, "told once"
    shutil.rmtree(tmp_path / place / "pear")
    (tmp_path / place / "pear").mkdir()
    RED.save(tmp_path / place / "pear" / "0.png")
    with pytest.raises(UserError, match="the class pear has one image"):
        load(tmp_path)


def test_what_people_did_not_put_there_is_passed_over_at_every_level_and_told(image_folder, capsys):
    for place in ("", "train", "test", "train/apple", "test/apple"):
        for name in ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "#recycle", ".thumbs.png", "@Recycle"):
            shutil.copytree(image_folder / "test" / "pear", image_folder / place / name / "0.png")
        for name in (".DS_Store", "._0.png", "notes.txt"):
            (image_folder / place / name).touch()
    wanted = {"classes": ["apple", "pear"], "images": [12, 12]}
    assert wanted.items() <= load(image_folder).describe().items()
    told = "note: beside 24 images 32 files and folders that hold no images of a class are passed over: #recycle, $REC"
    assert capsys.readouterr().err.startswith(told)


BESIDE = {
    "a class beside classes in train": ("train/../car/0.png", "has train/ and, beside it, images in car: move or"),
    "a class that is a broken link": ("train/plum", "train/plum is a link that leads nowhere"),
    "a test folder that is a broken link": ("val", "val is a link that leads nowhere"),
}


@pytest.mark.parametrize(("place", "words"), BESIDE.values(), ids=BESIDE)
def test_no_folder_of_images_is_left_out_without_a_word(image_folder, place, words):
    path = image_folder / place
    if path.suffix:
        (image_folder / "car").mkdir()
        RED.save(path)
    else:
        path.symlink_to("nowhere")
    with pytest.raises(UserError, match=words):
        load(image_folder)


def test_a_class_may_be_named_train(tmp_path):
    data = load(write_image_folder(tmp_path, parts=(".",), classes=("car", "plane", "train"), count=10))
    assert (data.classes, len(data.train), len(data.test)) == (("car", "plane", "train"), 24, 6)


def test_images_of_different_sizes_are_fitted_and_those_that_are_not_square_are_counted(image_folder, capsys):
    Image.new("RGB", (30, 9), (1, 2, 3)).save(image_folder / GOOD)
    Image.new("RGB", (9, 30), (1, 2, 3)).save(image_folder / "test" / "pear" / "0.png")
    assert load(image_folder).image_size == 32
    assert capsys.readouterr().err == "note: 2 of 24 images are not square: they are resized and cut to the middle\n"
    assert load(image_folder, image_size=12).image_size == 12


RED, DARK = (Image.new("RGB", (8, 8), (value, 0, 0)) for value in (200, 10))
ODD_IMAGES = {  # how to write one, and how red it is
    "grey.png": (RED.convert("L").save, 60),
    "black_and_white.png": (Image.new("1", (8, 8), 1).save, 255),
    "transparent.png": (RED.convert("RGBA").save, 200),
    "palette.png": (RED.quantize().save, 200),
    "transparent_palette.png": (lambda path: RED.quantize().save(path, transparency=0), 255),
    "half_transparent.png": (Image.new("RGBA", (8, 8), (100, 0, 0, 51)).save, 0.2 * 100 + 0.8 * 255),
    "grey_and_transparent.png": (Image.new("LA", (8, 8), (0, 0)).save, 255),
    "inks.jpg": (RED.convert("CMYK").save, 200),
    "sixteen_bits.png": (Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save, 255),
    "real_numbers.tiff": (Image.new("F", (8, 8), 30.0).save, 30),
    "animated.webp": (lambda path: RED.save(path, save_all=True, append_images=[DARK], lossless=True), 200),
    "pages.tiff": (lambda path: RED.save(path, save_all=True, append_images=[DARK]), 200),
    "elongated.png": (Image.new("RGB", (1, 20_000), (200, 0, 0)).save, 200),
    "one_pixel.png": (Image.new("RGB", (1, 1), (200, 0, 0)).save, 200),
    "animated.GIF": (lambda path: RED.save(path, save_all=True, append_images=[DARK]), 200),
    "slow.JFIF": (lambda path: RED.save(path, "JPEG"), 200),
}


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_odd_images_become_colour_images_of_their_first_frame_and_their_middle(image_folder, name):
    write, red = ODD_IMAGES[name]
    write(image_folder / "train" / "apple" / f"0 {name}")
    data = load(image_folder, image_size=8)
    assert data.train.source.shape == (13, 3, 8, 8)
    assert (data.train.source[0, 0].int() - red).abs().max() <= 3


DEEP = {  # numbers in the images, and what they become
    "12 bits in 16": (np.uint16, [0, 4095, 819], [0, 255, 51]),
    "8 bits in 16": (np.uint16, [0, 250, 50], [0, 255, 51]),
    "32 bits": (np.int32, [0, 1_000_000, 200_000], [0, 255, 51]),
    "real numbers up to 1": (np.float32, [0, 0.8, 0.2], [0, 204, 51]),
    "real numbers up to 255": (np.float32, [0, 200.0, 51.0], [0, 200, 51]),
}


@pytest.mark.parametrize(("kind", "numbers", "wanted"), DEEP.values(), ids=DEEP)
def test_grey_images_of_more_than_8_bits_have_one_scale_for_the_data_set(tmp_path, kind, numbers, wanted):
    write_image_folder(tmp_path)  # eight bits stay what they are
    for part, own in (("train", numbers), ("test", [2 * number for number in numbers])):
        for index, number in enumerate(own):
            Image.fromarray(np.full((8, 8), number, kind)).save(tmp_path / part / "apple" / f"0 {index}.tiff")
    data = load(tmp_path)
    assert data.train.source[:3, 0, 0, 0].tolist() == wanted
    assert data.test.source[:3, 0, 0, 0].tolist() == [min(255, 2 * value) for value in wanted], "not a scale of its own"
    assert data.describe()["largest"] in ({"I": max(numbers)}, {"F": 1 if max(numbers) <= 1 else 255})


def test_an_image_is_turned_as_its_exif_says_and_damaged_exif_turns_nothing(image_folder):
    halves, exif = RED.copy(), Image.Exif()
    halves.paste(DARK, (4, 0))  # on the right
    exif[ExifTags.Base.Orientation] = 6  # a quarter to the right
    for name, found in (("0 a.png", exif), ("0 b.png", b"Exif\0\0II*\0\xff\xff")):
        halves.save(image_folder / "train" / "apple" / name, exif=found)
    turned, kept = load(image_folder).train.source[:2, 0]
    assert torch.equal(turned, kept.rot90(-1))
    assert kept[0].tolist() == 4 * [200] + 4 * [10]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_is_refused_at_twice_the_pixels_of_which_pillow_warns(image_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # the images have 64
    load(image_folder)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(UserError, match=r"cannot read the image .*exceeds limit"):
        load(image_folder)


def test_folders_below_are_entered_once_though_links_lead_back(image_folder):
    apple = image_folder / "train" / "apple"
    (apple / "red").mkdir()
    (apple / "0.png").rename(apple / "red" / "0.png")
    for name, target in (("loop", apple), ("again", apple), ("up", image_folder), ("part", image_folder / "train")):
        (apple / "red" / name).symlink_to(target, target_is_directory=True)
    (apple / "other.png").mkdir()
    (image_folder / "train" / "pear").rename(image_folder.parent / "elsewhere")
    (image_folder / "train" / "pear").symlink_to(image_folder.parent / "elsewhere", target_is_directory=True)
    data = load(image_folder)
    assert data.train.labels.tolist() == 6 * [0] + 6 * [1]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_do_not_fit_are_read_by_workers_and_are_the_same(image_folder, monkeypatch, workers):
    held, before = load(image_folder), torch.get_rng_state()
    monkeypatch.setattr(data_module, "DEVICE_BYTES", 0)
    monkeypatch.setattr(data_module, "SHARED_BYTES", 4 * 2 * 3 * 8 * 8)  # two images in a part of two workers
    read = load(image_folder, workers=workers)
    assert isinstance(read.train.source, ImageFiles)
    whole = next(read.train.source.read([torch.arange(12)], None, torch.device("cpu")))
    assert torch.equal(whole, held.train.source) and not whole.is_shared(), "it leaves shared memory"
    pairs = [(held.train.batches(5, epoch=2), read.train.batches(5, epoch=2))]
    pairs += [([batch for _, batch in data.test.clean(5)] for data in (held, read))]
    for batches in pairs:
        for (a, labels), (b, other) in zip(*batches, strict=True):
            torch.testing.assert_close(a, b)
            assert torch.equal(labels, other)
    assert torch.equal(torch.get_rng_state(), before), "nothing comes from the global generator"


def test_imagenet_is_varied_as_it_is_read_whichever_process_does_it(tmp_path):
    write_image_folder(tmp_path / "imagenet", size=40, parts=("train", "val"))
    alone, two = (load("imagenet", tmp_path, image_size=32, workers=workers) for workers in (0, 2))
    first, again, other = (
        torch.cat([images for images, _ in data.train.batches(6, epoch)])
        for data, epoch in ((alone, 1), (two, 1), (alone, 2))
    )
    assert first.shape == (12, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0).values, other.sort(0).values), "other crops, not only another order"
    assert (alone.train.pad, alone.train.flip) == (0, False)
    chances = [load("imagenet", tmp_path, no_flip=no).train.source.vary.transforms[1].p for no in (False, True)]
    assert chances == [0.5, 0.0]
    assert [load(tmp_path / "imagenet", no_flip=no).train.flip for no in (False, True)] == [True, False]


def save_odd_tiff(path):
    RED.save(path, "TIFF")
    path.write_bytes(path.read_bytes().replace(b"\x11\1\4\0\1\0\0\0", b"\x11\1\2\0\4\0\0\0"))


def save_deep_colours(path):
    """Saves a grey image of 16 bits whose header is changed: three times as narrow, in colour."""
    Image.fromarray(np.zeros((8, 24), np.uint16)).save(path)
    content = bytearray(path.read_bytes())
    content[19], content[25] = 8, 2
    path.write_bytes(content[:29] + zlib.crc32(content[12:29]).to_bytes(4, "big") + content[33:])


def flatten(*folders):
    for folder in folders:
        for path in folder.glob("*/*"):
            path.rename(folder / f"{path.parent.name} {path.name}")
        for name in ("apple", "pear"):
            (folder / name).rmdir()


def remove(*names):
    return lambda folder: [shutil.rmtree(folder / name) for name in names]


BROKEN_FOLDERS = {
    "an empty image": (lambda folder: (folder / BAD).touch(), "cannot read the image .*bad.png"),
    "no image": (lambda folder: (folder / BAD).write_bytes(b"no picture at all"), "cannot read the image .*bad.png"),
    "a truncated image": (lambda folder: os.truncate(folder / GOOD, 60), "cannot read the image .*3.png"),
    "a TIFF whose offsets are text": (lambda folder: save_odd_tiff(folder / BAD), "cannot read the image .*bad.png: '"),
    "numbers below 0": (lambda folder: Image.new("F", (8, 8), -3).save(folder / TIFF), "bad.tiff: its numbers are neg"),
    "numbers above 255": (lambda folder: Image.new("F", (8, 8), 256).save(folder / TIFF), "tiff: its numbers are neg"),
    "16 bits, colour": (lambda folder: save_deep_colours(folder / BAD), "bad.png: it has 16 bits in each of several"),
    "depth to test on alone": (
        lambda folder: Image.new("F", (8, 8)).save(folder / "test/pear/0.tiff"),
        "mode F, and no tr",
    ),
    "one colour": (lambda folder: [RED.save(path) for path in folder.glob("train/*/*")], "one and the same colour"),
    "a broken link": (lambda folder: (folder / BAD).symlink_to("nowhere.png"), "bad.png: it is no file"),
    "a pipe": (lambda folder: os.mkfifo(folder / BAD), "bad.png: it is no file"),
    "no training images": (remove("train"), "needs the folders train/ and val/ or test/"),
    "an empty class": (lambda folder: (folder / "train" / "plum").mkdir(), "train/plum has no images"),
    "other classes": (remove("test/pear"), "differ: pear"),
    "two folders to train on": (
        lambda folder: shutil.copytree(folder / "train", folder / "Training"),
        "has both Training/ and train/",
    ),
    "one class": (remove("train/pear", "test/pear"), "two classes at least in them; train/ has apple"),
    "no class": (remove("train/pear", "test/pear", "train/apple", "test/apple"), "two classes at least"),
    "pictures without classes": (lambda folder: flatten(folder / "train", folder / "test"), "two classes at least"),
}


@pytest.mark.parametrize(("damage", "words"), BROKEN_FOLDERS.values(), ids=BROKEN_FOLDERS)
def test_a_broken_folder_is_an_error_that_says_what_is_wrong(image_folder, damage, words):
    damage(image_folder)
    with pytest.raises(UserError, match=words):
        load(image_folder)


def fail(*_, **__):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


LOADING = {  # what goes wrong in a worker, and what is told of it
    "a truncated image": (lambda: os.truncate("images/train/pear/5.png", 200), "pear/5.png: "),
    "a killed process": (
        lambda: setattr(data_module, "decode_image", lambda *_: os.kill(os.getpid(), 9)), "--workers 0 reads without"
    ),
    "no shared memory": (
        lambda: setattr(torch.UntypedStorage, "_new_shared", fail), "No space left on device (28)); --workers 0 reads"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), LOADING.values(), ids=LOADING)
def test_an_error_in_a_worker_ends_the_command_in_one_line(tmp_path, change, words):
    """In a process of its own, which must end: the workers are processes that it waits for."""
    write_image_folder(tmp_path / "images", count=130)
    line = ["--space", "s2", "--dataset", "images", "--preset", "laptop", "--workers", "2"]
    search = lambda line: change() or load_script("train_search").main(line)  # noqa: E731
    assert faults.wait(faults.fork(search, line, tmp_path, {}), 60) == 2
    told = (tmp_path / "stderr").read_text()
    assert len(told.splitlines()) == 1
    assert words in told


def test_workers_that_cannot_start_are_told_of_in_one_line(image_folder, monkeypatch):
    monkeypatch.setattr(data_module, "DEVICE_BYTES", 0)
    monkeypatch.setattr(data_module, "SHARED_BYTES", 0)
    monkeypatch.setattr(multiprocessing, "SimpleQueue", Mock(side_effect=OSError("Too many open files")))
    with pytest.raises(UserError, match=r"could not start.*Too many open files.; --workers 0 reads without"):
        load(image_folder, workers=2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_all_processes_while_images_load_ends_in_one_line(tmp_path, number, status):
    images = write_image_folder(tmp_path / "images", count=130)
    plan = ["train_search", "--space", "s2", "--dataset", str(images), "--preset", "laptop", *SMALL, "--workers", "2"]
    for seconds in (0, 0.01):
        [process] = faults.start(plan, tmp_path)
        workers = Path(f"/proc/{process}/task/{process}/children")
        while not workers.read_text():
            assert faults.wait(process, 0) is None
        time.sleep(seconds)
        os.killpg(process, number)
        assert faults.wait(process, 60) == status
        told = (tmp_path / "stderr").read_text().splitlines()[-1]
        assert told.startswith(f"train_search.py: stopped by {number.name}; to go on: ")


def look_slowly(done, looking):
    """Looks whether it is done, as a worker of PyTorch does, but holds the lock of the event for a second."""
    runs.set_up_worker(0)
    done._flag = Mock(acquire=lambda _: looking.set() or time.sleep(1))
    done.is_set()
    time.sleep(60)


def test_a_worker_that_ends_leaves_no_lock_behind():
    context = multiprocessing.get_context("spawn")
    done, looking = context.Event(), context.Event()
    worker = context.Process(target=look_slowly, args=(done, looking), daemon=True)
    worker.start()
    assert looking.wait(60)
    worker.terminate()
    free = done._cond.acquire(timeout=20)
    worker.join(20)
    assert (free, worker.exitcode) == (True, 0)


def test_a_signal_ends_the_workers_before_another_signal_is_heard():
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
    worker.start()
    with pytest.raises(runs.Stopped), runs.raise_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert not worker.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_is_not_forgotten_though_a_destructor_drops_it_or_an_error_follows():
    class Dropping:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    for follow in (runs.check_signals, Path("nowhere").read_text):
        with pytest.raises(runs.Stopped), runs.raise_on_signals():
            Dropping()
            follow()


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(UserError, match="digits, cifar10, cifar100, svhn, imagenet"):
        load("cifar11")


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="has 2 training and 2 test images: too few"):
        load(write_image_folder(tmp_path / "images", count=1))


def test_four_images_with_names_that_are_no_text_are_read_trained_on_and_printed(tmp_path, capsys):
    """The names of a folder, its classes and their files are in Latin-1, and would be a formula in a picture."""
    odd = os.fsdecode(b"$x^$caf\xe9")
    images = write_image_folder(tmp_path / odd, classes=(odd, "tea"), count=2)
    (images / "train" / odd / "0.png").rename(images / "train" / odd / f"{odd}.png")
    small = ["--epochs", "1", "--channels", "2", "--threads", "1"]
    plan = ["--dataset", str(images), "--preset", "laptop", *small, "--save"]
    assert load_script("train_search").main(["--space", "s2", *plan, str(tmp_path / "supernet.pt")]) == 0
    assert load_script("retrain").main(["--arch", "DARTS_V2", *plan, str(tmp_path / "network.pt")]) == 0
    assert runs.load_checkpoint(tmp_path / "network.pt", "network")["classes"] == [odd, "tea"]
    (images / "train" / odd / f"{odd}.png").write_bytes(b"")
    assert load_script("train_search").main(["--space", "s2", *plan, str(tmp_path / "other.pt")]) == 2
    assert "$x^$caf\\udce9.png" in capsys.readouterr().err
