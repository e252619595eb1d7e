"""`select.py` has the name of a module of the standard library, which must be found all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, write_image_folder

IMPORTS = "import selectors, subprocess, asyncio, multiprocessing, socket, select\n"
POOL = """
import math, multiprocessing, select
if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(pool.map(math.sqrt, [4.0, 9.0]))
    print(select.__name__, hasattr(select, "select"), len(select.select([], [], [], 0)))
"""
ASYNC = """
import asyncio, sys
async def main():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(7)", stdout=asyncio.subprocess.PIPE)
    print((await process.communicate())[0].decode().strip())
asyncio.run(main())
"""
LOADER = """
import torch
from torch.utils.data import DataLoader, TensorDataset
if __name__ == "__main__":
    data = TensorDataset(torch.arange(8))
    print(sum(len(part[0]) for part in DataLoader(data, 2, num_workers=2, multiprocessing_context="{method}")))
"""


def run(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("code", [IMPORTS, POOL.format(method="fork"), POOL.format(method="spawn"), ASYNC])
def test_the_standard_library_works_from_the_project_folder(code):
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    if "Pool" in code:
        assert done.stdout.split("\n")[:2] == ["[2.0, 3.0]", "select True 3"]
    if "asyncio.run" in code:
        assert done.stdout.strip() == "7"


def test_it_works_with_the_project_folder_first_on_the_path(tmp_path):
    done = run(
        "-c",
        IMPORTS + "print(select.__file__ if hasattr(select, '__file__') else 'built in')",
        cwd=tmp_path,
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stdout


def test_two_copies_of_the_project_on_the_path_do_not_find_each_other(tmp_path):
    shutil.copy(ROOT / "select.py", tmp_path)
    done = run("-c", IMPORTS + "print(hasattr(select, 'select'))", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_start_from_a_script_beside_select(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LOADER.format(method=method))
    (tmp_path / "select.py").write_text((ROOT / "select.py").read_text())
    done = run(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "8"


def test_under_pytest_select_is_the_standard_module():
    import select

    assert hasattr(select, "select")
    assert not hasattr(select, "main")


def test_every_script_runs_with_loader_workers(tmp_path):
    images = write_image_folder(tmp_path / "images", count=150)
    small = ["--epochs", "1", "--channels", "4", "--workers", "2", "--threads", "1"]
    for arguments in (
        [
            "train_search.py",
            "--space",
            "s2",
            "--dataset",
            str(images),
            "--preset",
            "laptop",
            *small,
            "--save",
            str(tmp_path / "s.pt"),
        ],
        [
            "select.py",
            "--ckpt",
            str(tmp_path / "s.pt"),
            "--tune-epochs",
            "0",
            *small[-4:],
            "--save",
            str(tmp_path / "g.json"),
        ],
        ["retrain.py", "--arch", str(tmp_path / "g.json"), *small, "--save", str(tmp_path / "n.pt")],
    ):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert str(tmp_path) in done.stdout.strip().splitlines()[-1]
