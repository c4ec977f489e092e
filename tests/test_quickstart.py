"""The notebook of docs/: it runs from the first cell to the last; what it shows is small and of nobody's machine."""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra 'dev'")
nbclient = pytest.importorskip("nbclient", reason="needs the extra 'dev'")

FILE = Path(__file__).parents[1] / "docs/quickstart.ipynb"
MOST_BYTES = 600_000


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(FILE, 4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_small_and_was_run_in_order(notebook):
    assert FILE.stat().st_size < MOST_BYTES
    assert [cell.execution_count for cell in code_cells(notebook)] == [*range(1, len(code_cells(notebook)) + 1)]
    kinds = {kind for cell in code_cells(notebook) for output in cell.outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds


def test_its_outputs_name_no_machine(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            words = [output.get("text", ""), *(str(value) for value in output.get("data", {}).values())]
            assert not re.search(r"(^|[\s'\"=(])/\w+/|(?i:warning|traceback)", " ".join(words)), cell.source


@pytest.mark.full
def test_it_runs_from_the_first_cell_to_the_last(notebook, tmp_path, monkeypatch):
    """With a fiftieth of its steps, and as many draws: a cell that fails raises here."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    monkeypatch.setenv("XLA_FLAGS", " ".join(flags))  # one device, as a reader has
    for cell in code_cells(notebook):
        cell.source = re.sub(r"(steps=|every\": |k=)(\d+)", lambda m: f"{m[1]}{int(m[2]) // 50}", cell.source)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    last = code_cells(notebook)[-1].outputs[-1]["data"]["text/plain"]
    assert last.startswith("(50, ")
