"""Makes the numbers of papers again, and the page that holds them to what was published.

    python -m experiments.reproduce [--only=iwae_table1,vq] [--mnist=FOLDER] [--binarized_mnist=FOLDER]

A row is a config in configs/papers. Its seeds train as one population, its metric is computed of each, and what they
give goes into a JSON file beside the page; rows that are not run keep what the file has of them. The same command goes
on where it stopped. Without --mnist MNIST comes through TFDS. --smoke takes a few steps on other data, to see that all
of it works, and writes no page. --render writes the page of the JSON that is there, and runs nothing.
"""

import multiprocessing
import shlex
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from experiments.reproduce.measure import measure_row
from experiments.reproduce.page import render, row_line
from experiments.reproduce.rows import Row, choose_rows
from vae_jax.config.command_line import Parser, path, words
from vae_jax.errors import UserError
from vae_jax.files import parse_json, write_json, write_text

DATA_FLAGS = ("mnist", "binarized_mnist")


def main(argv: list[str]) -> int:
    """Runs the rows of --only and writes --page; the exit status."""
    parser = Parser("experiments.reproduce", __doc__, launcher="python -m")
    parser.flag("only", words, (), "NAMES", "tables or rows, with commas between; all where it is left out")
    parser.flag("page", path, Path("docs/reproductions.md"), "FILE.md", "where the page goes")
    parser.flag("workdir", path, Path("runs/reproduce"), "FOLDER", "where the runs lie")
    for name in DATA_FLAGS:
        parser.flag(name, path, None, "FOLDER", f"where the files of data.name={name} lie; left out: through TFDS")
    parser.switch("smoke", "a few steps of two seeds on data without files; no page")
    parser.switch("render", "the page of what was measured before; runs nothing")
    flags, _ = parser.parse(argv)
    rows = choose_rows(flags.only)
    paths = {name: getattr(flags, name) for name in DATA_FLAGS}
    check_page(flags.page)
    if flags.render:
        write_text(flags.page, render(read_results(flags.page)))
        return 0
    finished, resume = True, shlex.join(["python", "-m", "experiments.reproduce", *argv])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as evaluator:
        for row in rows:
            measured = measure_row(row, flags.workdir, paths, flags.smoke, evaluator, resume)
            finished &= measured is not None
            report(row, measured, None if flags.smoke else flags.page)
    return 0 if finished else 1


def report(row: Row, measured: dict[str, Any] | None, page: Path | None) -> None:
    """Prints what was measured of a row, and writes it where there is a page."""
    if page is None:
        print(f"{row.name}: {'it works' if measured else 'it does not work'}", flush=True)
    elif measured:
        print(row_line(row, measured), flush=True)
        results = {**read_results(page), row.name: measured}
        write_json(page.with_suffix(".json"), results)
        write_text(page, render(results))


def check_page(page: Path) -> None:
    """Raises UserError, before anything is trained, where the page could not be written or what it has not be read."""
    if page.suffix != ".md" or page.is_dir():
        raise UserError(f"--page: {str(page)!r} is not allowed; give a file that ends in .md")
    page.parent.mkdir(parents=True, exist_ok=True)
    read_results(page)


def read_results(page: Path) -> Mapping[str, Any]:
    """What was measured before, by row. Raises UserError where the JSON beside the page is damaged."""
    file = page.with_suffix(".json")
    return parse_json(file) if file.exists() else {}
