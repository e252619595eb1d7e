"""The tour is stored with what it printed and drew. CI runs it from top to bottom."""

import ast
import json

from tests.conftest import ROOT

CELLS = json.loads((ROOT / "docs" / "tour.ipynb").read_text("utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_the_tour_was_run_from_top_to_bottom():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    kinds = [output["output_type"] for cell in CODE for output in cell["outputs"]]
    assert set(kinds) <= {"stream", "execute_result", "display_data"}, "no error"
    assert sum("image/png" in output.get("data", ()) for cell in CODE for output in cell["outputs"]) >= 6
    assert str(ROOT) not in json.dumps(CELLS)


def test_the_tour_uses_public_names_only():
    for cell in CODE:
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("_") for name in [*names, getattr(node, "attr", "")])
