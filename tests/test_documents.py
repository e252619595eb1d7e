"""Every command in the README and in docs/ is one that the scripts understand."""

import argparse
import importlib
import re
import shlex
import sys

import pytest

import ptnas
from genotypes import Genotype
from tests.conftest import ROOT, load_script

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "results.sh"]
COMMAND = re.compile(r"(?:python|torchrun [^&|;]*?) ((?:tests/)?\w+\.py)\b([^&|;`]*)")
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
VARIABLES = {"$space": "s2", "$dataset": "cifar10", "$name": "name", "$seed": "0"}  # of the loops


def find_commands(page):
    """Returns (script, arguments) for each command in a code block or between backquotes, or in a list of commands."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    blocks = [text] if page.suffix == ".sh" else BLOCK.findall(text)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:python|torchrun) [^`]+)`", BLOCK.sub("", text))
    commands = []
    for line in lines:
        for script, arguments in COMMAND.findall(line):
            for variable, value in VARIABLES.items():
                arguments = arguments.replace(variable, value)
            words = shlex.split(arguments, comments=True)
            commands.append((script, [word for word in words if word != "..."]))
    return commands


class ParsedError(Exception):
    """The command line was understood."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_parses(page, monkeypatch):
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, words=None):
        parse_args(parser, words)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    for script, words in find_commands(page):
        monkeypatch.setattr(sys, "argv", [script, *words])
        name = script.removesuffix(".py").replace("/", ".")
        module = importlib.import_module(name) if name.startswith("tests.") else load_script(name)
        start = module.main if name.startswith("tests.") else lambda command=module.command, words=words: command(words)
        with pytest.raises(ParsedError):
            start()


def test_the_pages_have_commands_of_every_script():
    commands = [command for page in PAGES for command in find_commands(page)]
    assert {script for script, _ in commands} == {
        "train_search.py", "select.py", "retrain.py", "analyze.py", "reproduce.py", "tests/benchmark.py",
        "tests/faults.py",
    }  # fmt: skip
    assert ("select.py", ["--ckpt", "supernet.pt"]) in commands
    assert ("reproduce.py", ["table4"]) in commands


def test_the_list_of_commands_has_the_titles_of_the_results_page_and_each_can_be_given_again():
    page, script = ((ROOT / "docs" / f"results.{end}").read_text("utf-8") for end in ("md", "sh"))
    titles = re.findall(r"^# (.+)\npython", script, re.MULTILINE)
    assert len(titles) > 8
    assert set(titles) <= set(re.findall(r"^## (.+)$", page, re.MULTILINE))
    for name, words in find_commands(ROOT / "docs" / "results.sh"):
        assert "--resume" in words or name == "reproduce.py" or words[0] in ("fig3", "cells"), "they take seconds"


def test_a_criterion_of_your_own_selects_as_the_page_shows(folder, capsys):
    (code,) = (block for block in BLOCK.findall((ROOT / "docs" / "files.md").read_text("utf-8")) if "CRITERIA" in block)
    before = dict(ptnas.CRITERIA)
    try:
        exec(code, {})
    finally:
        ptnas.CRITERIA.clear()
        ptnas.CRITERIA.update(before)
    first, *rounds, genotype = capsys.readouterr().out.splitlines()
    assert first.count("'gain'") == 2
    assert len(rounds) == 17
    assert Genotype.from_text(genotype)
    assert all("'gain'" in each for each in rounds)
