"""Many runs on a person's own images as one compiled program, from Python."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from ml_collections import ConfigDict

from vae_jax.api import objects
from vae_jax.api.fit_run import choose_folder, given_sections, make_config
from vae_jax.api.history import html_table, text_table
from vae_jax.api.image_source import point_to_arrays, taken_back, write_arrays
from vae_jax.api.keywords import NAMED, dotted_fields, keyword_errors, keyword_of, plain_value, set_keywords
from vae_jax.api.trained_run import TrainedRun, open_folder
from vae_jax.config.command_line import command
from vae_jax.config.parse import flatten
from vae_jax.errors import UserError
from vae_jax.files import read_json, write_json, write_text
from vae_jax.launch.progress import (
    all_entries,
    incomplete,
    read_progress,
    record_speed,
    report_end,
    start_line,
    write_members_file,
)
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.phrases import plural
from vae_jax.report.markup import join, tag
from vae_jax.screen import wrap_text
from vae_jax.sweeps import algebra, study
from vae_jax.sweeps.algebra import Point
from vae_jax.sweeps.groups import PlannedRun, group_runs, plan_entries, plan_runs
from vae_jax.training.population import train_members

CONFIG_TEXT = '''"""A study that vae_jax.sweep began; vae-jax sweep --config=THIS --workdir=FOLDER goes on with it."""

import json
from pathlib import Path

from vae_jax.config.parse import read_config

RECORD = Path(__file__).with_suffix(".json")


def get_config():
    """What all of its runs share."""
    return read_config(str(RECORD))


def sweep():
    """What each of them sets."""
    return json.loads(RECORD.read_text())["points"]
'''


class Runs:
    """The runs of a study in the order of its points, a list. Each run is opened when you take it.

    Attributes:
        folder: the folder of the study.
        points: the fields that each run sets, as {"variant.beta": 4.0, "seed": 1}.
        folders: the folder of each run.
    """

    def __init__(self, folder: Path, points: Sequence[Point], folders: Sequence[Path]):
        self.folder, self.points, self.folders = folder, list(points), list(folders)
        self._opened: dict[Path, TrainedRun] = {}

    def __len__(self) -> int:
        return len(self.folders)

    @overload
    def __getitem__(self, index: int) -> TrainedRun: ...

    @overload
    def __getitem__(self, index: slice) -> "Runs": ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Runs(self.folder, self.points[index], self.folders[index])
        folder = self.folders[index]
        if folder not in self._opened:
            self._opened[folder] = open_folder(folder)
        return self._opened[folder]

    def __iter__(self) -> Iterator[TrainedRun]:
        return (self[i] for i in range(len(self)))

    def states(self) -> list[str]:
        """The state of each run: done, failed, dropped, running or missing."""
        return [study.run_state(folder, _steps(folder)) for folder in self.folders]

    def __repr__(self) -> str:
        return f"{plural(len(self), 'run')} in {self.folder}\n{text_table(self._columns(), self._rows())}"

    def _repr_html_(self) -> str:
        return join(tag("p", f"{plural(len(self), 'run')} in {self.folder}"), html_table(self._columns(), self._rows()))

    def _columns(self) -> list[str]:
        fields = dict.fromkeys(field for point in self.points for field in point)
        return [*map(keyword_of, fields), *SCORES, "state"]

    def _rows(self) -> list[list[str]]:
        fields = dict.fromkeys(field for point in self.points for field in point)
        rows = []
        for point, folder, state in zip(self.points, self.folders, self.states(), strict=True):
            evaluation = read_json(folder / "evaluation.json")
            scores = [f"{evaluation[name]:.2f}" if name in evaluation else "" for name in SCORES]
            rows.append([*(_cell(point.get(field, "")) for field in fields), *scores, state])
        return rows


SCORES = ("elbo", "distortion", "rate")
"""Of an evaluation, nats per image, that stand beside each run."""


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _steps(folder: Path) -> int:
    return read_json(folder / "config.json").get("config", {}).get("train", {}).get("steps", 0)


def sweep(
    images: Any,
    labels: Any = None,
    *,
    seeds: int | Sequence[int] = 1,
    variant: Any = None,
    net: Any = None,
    likelihood: Any = None,
    workdir: str | Path | None = None,
    **fields: Any,
) -> Runs:
    """Trains every combination of the values in lists; runs that can share a program train as one.

    runs = vae_jax.sweep(images, variant="beta", beta=[1, 2, 4, 8], seeds=4)    # 16 runs, one program
    vae_jax.compare(runs)

    Runs that differ only in the seed, floats of the variant, the learning rate or the weight decay share a program;
    each ends with the numbers that it would have alone. The folder is a study like that of `vae-jax sweep`:
    `vae-jax status` and `vae-jax compare` read it. Arrays are written once for all runs. The same call with the same
    `workdir` resumes, and trains the runs that were added.

    Args:
        images: as `fit` takes them.
        labels: as `fit` takes them.
        seeds: how many seeds, from 0, or a list of them.
        variant: as `fit` takes it, or a list.
        net: the networks, or a list.
        likelihood: the likelihood, or a list; images are binarised for the first one.
        workdir: the folder of the study; by default a new one in the temporary folder, which is kept.
        fields: as `fit` takes them; a list gives a run for each value, a tuple is one value (`hidden=(512, 256)`).

    Returns:
        All runs, also those that failed or were dropped.

    Raises:
        UserError: naming the argument that is wrong; then nothing is trained.
        KeyboardInterrupt: if the sweep was stopped, once all is saved.
    """
    keywords = given_sections(variant=variant, net=net, likelihood=likelihood) | fields
    axes = {name: _axis(name, value) for name, value in keywords.items() if _is_axis(value)}
    first = {name: axes[name][0] if name in axes else value for name, value in keywords.items()}
    config, arrays, said = make_config(images, labels, first)
    points = algebra.product(algebra.grid(**_dotted_axes(config, axes, first)), _seed_points(seeds, keywords))
    folder = choose_folder(workdir, "study")
    print(said, end="", flush=True)
    data_files = [] if arrays is None else [point_to_arrays(config, arrays, folder / "programs")]
    file = folder / "programs" / f"study_{study.digest(config.to_dict())}.py"  # another config is another file
    files = [*data_files, file, file.with_suffix(".json")]
    with taken_back(files, proof=folder / "plan.json"), keyword_errors({}), lock_unqueued(folder):
        if arrays is not None:
            write_arrays(data_files[0], arrays)
        write_json(file.with_suffix(".json"), {"config": config.to_dict(), "points": points})
        write_text(file, CONFIG_TEXT)
        return _train_study(file, points, folder)


def _is_axis(value: Any) -> bool:
    return isinstance(value, (list, range)) or getattr(value, "ndim", 0) == 1


def _axis(name: str, values: Any) -> list[Any]:
    """The values of an axis. Raises UserError for none."""
    axis = [plain_value(value) for value in values]
    if not axis:
        raise UserError(f"{name}: a list of no values is not allowed; give at least one, or no list")
    return axis


def _seed_points(seeds: Any, keywords: Mapping[str, Any]) -> list[Point]:
    if "seed" in keywords:
        raise UserError("seed: give seeds=4, or seeds=[0, 1], instead")
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        return algebra.seeds(seeds)
    return algebra.grid(seed=seeds)


def _dotted_axes(
    config: ConfigDict, axes: Mapping[str, list[Any]], keywords: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """The values of each axis by its dotted field.

    What is given for a section whose name is an axis is one too, of one value: another name brings its own defaults.
    """
    names = {name: [objects.name_of(name, value) for value in axes[name]] for name in axes if name in NAMED}
    known: dict[str, Any] = {}
    for choice in itertools.product(*names.values()):
        other = config.copy_and_resolve_references()
        set_keywords(other, dict(zip(names, choice, strict=True)))
        known |= flatten(other)
    fields = dotted_fields(known, keywords)
    others = [name for name in keywords if name not in axes and fields[name].partition(".")[0] in names]
    single = {name: [plain_value(keywords[name])] for name in others}
    return {fields[name]: names.get(name, values) for name, values in {**axes, **single}.items()}


def _train_study(file: Path, points: Sequence[Point], folder: Path) -> Runs:
    """Trains the runs of the points of a config's file in the folder of a study, and gives them in their order."""
    planned = plan_runs(str(file), [], points, folder)
    progress = read_progress(plan_entries(group_runs(planned)), folder)
    study.write_plan(folder, all_entries(progress))
    print(wrap_text(start_line(progress, "this process", folder)), flush=True)
    for group in incomplete(progress):
        group.mark_start()
        status = train_members(write_members_file(group, folder))
        group.update(folder)
        record_speed(group, folder, processes=1)
        report_end(group, folder, print)
        if status > 128:
            again = command("sweep", [f"--config={file}", f"--workdir={folder}"])
            raise KeyboardInterrupt(
                f"stopped by signal {status - 128}, all is saved; to go on: the same call with "
                f"workdir={str(folder)!r}, or {again}"
            )
    return Runs(folder, [_point_of(run, points) for run in planned], [folder / run.id for run in planned])


def _point_of(run: PlannedRun, points: Sequence[Point]) -> Point:
    """The fields that the points set, with the values that a run has there."""
    fields = dict.fromkeys(field for point in points for field in point)
    values = flatten(run.config)
    return {field: values[field] for field in fields if field in values}
