"""The order of the house: imports run down the floors, libraries stay in their rooms, files and functions are short."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"vae_jax": "vae_jax", "vae_jax.configs": "configs", "experiments": "experiments", "launch": "launch"}
"""Where the code of a package lies in the clone."""

FLOORS = (
    ("errors", "phrases", "typing"),
    ("files", "screen"),
    ("pane",),
    ("jax_flags", "randomness", "registry"),
    ("models",),
    ("samplers",),
    ("data",),
    ("variants",),
    ("model",),
    ("aggregate_codes",),
    ("inference",),
    ("config",),
    ("metrics",),
    ("plots",),
    ("training",),
    ("sweeps",),
    ("configs",),
    ("launch",),
    ("comparison",),
    ("report",),
    ("api", "vae_jax"),
    ("cli",),
    ("__main__",),
    ("experiments/", "launch/"),
)
"""From the ground up: a room imports from its own floor and those below. A name with / is a folder of programs."""
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}

LIBRARIES = {
    "flax": ("vae_jax/models/networks/",),
    "matplotlib": ("vae_jax/plots/",),
    "orbax": ("vae_jax/training/checkpoint.py",),
    "rich": (
        "vae_jax/pane.py",
        "vae_jax/screen.py",
        "vae_jax/training/bars.py",
        "vae_jax/launch/live_table.py",
        "vae_jax/launch/summary.py",
        "vae_jax/comparison/terminal.py",
    ),
    "wandb": (
        "vae_jax/training/writers.py",
        "vae_jax/launch/wandb_agent.py",
        "vae_jax/launch/wandb_heartbeats.py",
    ),
    "jax.pmap": ("vae_jax/training/executors.py",),
    "jax.devices": ("vae_jax/training/executors.py",),
    "jax.local_devices": ("vae_jax/training/executors.py",),
}
"""What only these files of the package import, or name."""

FILE_LINES, FUNCTION_LINES, NESTING = 400, 50, 2


class Module(NamedTuple):
    """A file of code, parsed."""

    name: str
    file: str
    is_package: bool
    lines: int
    tree: ast.Module


class Import(NamedTuple):
    """A line of a module that imports another of ours."""

    importer: str
    imported: str
    line: str


def parse(root: Path) -> dict[str, Module]:
    """Every module of the packages under `root`, by its dotted name."""
    modules = {}
    for package, folder in PACKAGES.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = [package, *path.relative_to(root / folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            text = path.read_text()
            file = str(path.relative_to(root))
            modules[name] = Module(name, file, is_package, len(text.splitlines()), ast.parse(text, file))
    return modules


def nearest(name: str, modules: dict[str, Module]) -> str | None:
    """The module of ours that an import of `name` reads: itself, or the one that defines it."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def dotted_imports(module: Module) -> Iterator[tuple[str, int]]:
    """What a module imports by its full dotted name, at the top and in functions, with the line."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, module)
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)


def absolute(node: ast.ImportFrom, module: Module) -> str:
    """The package that a from-import names, with the dots of a relative one resolved."""
    if not node.level:
        return node.module or ""
    parents = module.name.split(".")
    parents = parents[: len(parents) - node.level + module.is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])


def imports(modules: dict[str, Module]) -> list[Import]:
    """Every import of one of our modules in another."""
    edges = []
    for module in modules.values():
        for name, line in dotted_imports(module):
            imported = nearest(name, modules)
            if imported and imported != module.name:
                edges.append(Import(module.name, imported, f"{module.file}:{line}"))
    return edges


def room(name: str) -> str:
    """The room of a module: the first folder or file below vae_jax, or a folder of programs."""
    package, _, below = name.partition(".")
    if package != "vae_jax":
        return f"{package}/"
    return below.partition(".")[0] or package


def folder(module: Module) -> str:
    """The folder whose order counts: a file that lies in vae_jax itself is a room of its own."""
    return str(Path(module.file).parent) if "/" in module.file.removeprefix("vae_jax/") else module.file


def climbing_imports(edges: Iterable[Import]) -> list[str]:
    """The imports from a floor above."""
    return [
        f"{edge.line} ({room(edge.importer)}) imports {edge.imported}"
        for edge in edges
        if HEIGHT[room(edge.imported)] > HEIGHT[room(edge.importer)]
    ]


def circle(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """One circle of a graph, [] where there is none."""
    graph = defaultdict(set)
    for importer, imported in pairs:
        if importer != imported:
            graph[importer].add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def names_of_libraries(module: Module) -> Iterator[tuple[str, int]]:
    """What a module imports, and every attribute of jax that it reads, by dotted name and line."""
    yield from dotted_imports(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jax":
            yield f"jax.{node.attr}", node.lineno


def strayed_libraries(modules: dict[str, Module]) -> list[str]:
    """The uses of a library, or of devices, outside the files that may."""
    return [
        f"{module.file}:{line} uses {library}"
        for module in modules.values()
        if module.name.startswith("vae_jax")
        for name, line in names_of_libraries(module)
        for library, files in LIBRARIES.items()
        if f"{name}.".startswith(f"{library}.") and not module.file.startswith(files)
    ]


def shared_names(modules: dict[str, Module]) -> list[str]:
    """The names that two modules of vae_jax have, or a module and the standard library."""
    files = defaultdict(list)
    for module in modules.values():
        if module.name.startswith("vae_jax.") and not module.file.startswith("configs/"):
            files[module.name.rpartition(".")[2]].append(module.file)
    twice = [f"{name}: {', '.join(paths)}" for name, paths in files.items() if len(paths) > 1]
    python = [f"{name}: {files[name][0]}, Python's" for name in files.keys() & sys.stdlib_module_names]
    return sorted(twice + python)


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of a module with its dotted name, those inside others too."""

    def walk(node: ast.AST, parents: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (ast.FunctionDef, ast.ClassDef))
            name = f"{parents}.{child.name}" if named else parents
            if isinstance(child, ast.FunctionDef):
                yield name, child
            yield from walk(child, name)

    return walk(module.tree, module.name)


def code_lines(function: ast.FunctionDef) -> int:
    """The lines of a function without its docstring."""
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - docstring


BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match)


def nesting(node: ast.AST) -> int:
    """How many blocks stand in one another in a function; what is defined inside it is counted by itself."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        chained = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]  # elif
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not chained))
    return deepest


@pytest.fixture(scope="module")
def modules():
    return parse(ROOT)


@pytest.fixture(scope="module")
def edges(modules):
    return imports(modules)


def lines_of(problems):
    return "\n" + "\n".join(problems)


def test_every_room_has_its_floor(modules):
    assert {room(name) for name in modules} <= HEIGHT.keys()


def test_no_import_climbs(edges):
    problems = climbing_imports(edges)
    assert not problems, lines_of(problems)


def test_no_circle_of_files(edges):
    assert not circle((edge.importer, edge.imported) for edge in edges)


def test_no_circle_of_folders(modules, edges):
    assert not circle((folder(modules[edge.importer]), folder(modules[edge.imported])) for edge in edges)


def test_libraries_stay_in_their_rooms(modules):
    problems = strayed_libraries(modules)
    assert not problems, lines_of(problems)


def test_no_two_modules_share_a_name(modules):
    problems = shared_names(modules)
    assert problems == ["typing: vae_jax/typing.py, Python's"], lines_of(problems)


def test_files_are_short(modules):
    problems = [f"{m.file}: {m.lines} lines" for m in modules.values() if m.lines > FILE_LINES]
    assert not problems, lines_of(problems)


def test_functions_are_short(modules):
    problems = [
        f"{name}: {code_lines(function)} lines"
        for module in modules.values()
        for name, function in functions(module)
        if code_lines(function) > FUNCTION_LINES
    ]
    assert not problems, lines_of(problems)


def test_functions_nest_two_levels(modules):
    problems = [
        f"{name}: {nesting(function)} levels"
        for module in modules.values()
        for name, function in functions(module)
        if nesting(function) > NESTING
    ]
    assert not problems, lines_of(problems)


def house(root: Path, **files: str) -> dict[str, Module]:
    """A made-up tree: vae_jax__models__step="..." is vae_jax/models/step.py."""
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return parse(root)


def test_a_climbing_import_is_named_at_the_top_and_in_a_function(tmp_path):
    modules = house(
        tmp_path,
        vae_jax__training__loop="from vae_jax.models import step\n",
        vae_jax__models__step="import jax\nfrom vae_jax.training import loop\n",
        vae_jax__models__other="def f():\n    from ..training.loop import train\n",
        configs__mine="import vae_jax.models.step\n",
        vae_jax__sweeps__plan="from vae_jax import configs\nfrom vae_jax.configs import mine\n",
    )
    assert climbing_imports(imports(modules)) == [
        "vae_jax/models/other.py:2 (models) imports vae_jax.training.loop",
        "vae_jax/models/step.py:2 (models) imports vae_jax.training.loop",
        "vae_jax/sweeps/plan.py:2 (sweeps) imports vae_jax.configs.mine",
    ]


def test_a_circle_is_found():
    assert circle([("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]) in (
        ["a", "b", "c", "a"],
        ["b", "c", "a", "b"],
        ["c", "a", "b", "c"],
    )
    assert circle([("a", "b"), ("a", "c"), ("b", "c")]) == []


def test_a_library_outside_its_room_is_named(tmp_path):
    modules = house(
        tmp_path,
        vae_jax__models__step="from flax import linen as nn\n",
        vae_jax__models__networks__mlp="from flax import linen as nn\n",
        vae_jax__training__loop="import jax\n\n\ndef f():\n    return jax.pmap\n",
        vae_jax__training__run="from jax import local_devices\nimport jax\njax.device_put(1)\n",
    )
    assert strayed_libraries(modules) == [
        "vae_jax/models/step.py:1 uses flax",
        "vae_jax/training/loop.py:5 uses jax.pmap",
        "vae_jax/training/run.py:1 uses jax.local_devices",
    ]


def test_shared_names_are_named(tmp_path):
    modules = house(tmp_path, vae_jax__a__train="", vae_jax__b__train="", vae_jax__a__statistics="", configs__train="")
    assert shared_names(modules) == [
        "statistics: vae_jax/a/statistics.py, Python's",
        "train: vae_jax/a/train.py, vae_jax/b/train.py",
    ]


def test_nesting_counts_blocks_and_not_what_follows_an_elif():
    def depth(text):
        return nesting(ast.parse(text).body[0])

    assert (
        depth(
            "def f():\n  for i in x:\n    if i:\n      return 1\n    elif x:\n      return 2\n    else:\n      return 3"
        )
        == 2
    )
    assert depth("def f():\n  with x:\n    for i in x:\n      if i:\n        return 1") == 3
    assert depth("def f():\n  if x:\n    def g():\n      if y:\n        return 1") == 1
    assert depth("def f():\n  if x:\n    return 1\n  else:\n    if y:\n      return 1\n    return 2") == 2


MARKS = ("<" * 7 + " ", ">" * 7 + " ")
"""With which a merge leaves what it could not join."""


def test_no_file_holds_the_marks_of_a_merge():
    folders = (*PACKAGES.values(), "docs", "tests")
    files = [
        file for folder in folders for kind in ("py", "md", "js", "css") for file in (ROOT / folder).rglob(f"*.{kind}")
    ]
    files += [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "mkdocs.yml", ROOT / "constraints.txt"]
    marked = {
        str(file.relative_to(ROOT)) for file in files for line in file.read_text().split("\n") if line.startswith(MARKS)
    }
    assert not marked
