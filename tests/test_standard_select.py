"""`select.py` has the name of a module of the standard library, which Python must find all the same."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, SMALL, write_image_folder

USES = """
import asyncio, math, multiprocessing, selectors, socket, sys
import select
async def main():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(7)", stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()
if __name__ == "__main__":
    pools = [multiprocessing.get_context(method).Pool(2) for method in ("fork", "spawn")]
    print([pool.map(math.sqrt, [4.0, 9.0]) for pool in pools], asyncio.run(main()), select.select([], [], [], 0))
"""
PRINTS = "[[2.0, 3.0], [2.0, 3.0]] 7 ([], [], [])"


def run(*arguments, cwd=None, **environment):
    how = {"capture_output": True, "text": True, "timeout": 300, "env": os.environ | environment}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, check=False, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("beside", "on_path"), [(True, False), (False, True), (True, True)])
def test_a_script_finds_the_standard_module(beside, on_path, tmp_path):
    """One copy of `select.py` lies beside the script, or another in a folder on the path, or both."""
    (tmp_path / "script.py").write_text(USES)
    if beside:
        shutil.copy(ROOT / "select.py", tmp_path)
    assert run(str(tmp_path / "script.py"), PYTHONPATH=str(ROOT) if on_path else "") == PRINTS


def test_a_command_runs_with_loader_workers_whatever_is_on_the_path(tmp_path):
    """And the name of the folder, which matplotlib has no letters for, is no reason for a warning."""
    write_image_folder(tmp_path / "\u56fe\u7247", count=130)
    flags = ["--space", "nb201", "--layers", "1", "--epochs", "1", *SMALL]
    flags += ["--dataset", "\u56fe\u7247", "--preset", "laptop", "--workers", "2"]
    out = run(str(ROOT / "train_search.py"), *flags, cwd=tmp_path, PYTHONPATH="x" * 5000)
    assert out.splitlines()[-1].startswith("supernet supernet.pt: ")
    run("-c", GLYPH, cwd=ROOT)


GLYPH = """
import warnings, plots
warnings.filterwarnings("error", "Glyph", append=True)
plots.render(lambda figure: figure.suptitle("\u56fe"))
"""
