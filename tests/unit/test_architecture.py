"""The house rules that a machine can hold: floors, owners, names, no circles, no work at import.

``faults`` reads a tree of sources and says what breaks a rule, one sentence each. The real tree must have none;
a made-up tree that breaks one rule must have exactly that one.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

FLOORS = (
    {"words": "scrapray errors folders settings recipients config keys labels schema"},
    {"imagery": "imagery", "statistics": "statistics"},
    {"segmenter": "segmenter"},
    {"baselines": "baselines"},
    {"outside world": "storage lake lake_care registry"},
    {"cluster": "cluster", "alerts": "alerts"},
    {"datasets": "datasets"},
    {"review": "review"},
    {"audit": "audit", "training": "training", "report": "report"},
    {"evaluation": "evaluation"},
    {"command line": "cli cli_lake cli_models cli_review screen"},
    {"jobs": "jobs"},
)
"""From the ground up: on each floor its rooms, each with the files or folders that make it up."""

FLOOR_OF_ROOM = {room: number for number, floor in enumerate(FLOORS) for room in floor}
ROOM_OF_PART = {part: room for floor in FLOORS for room, parts in floor.items() for part in parts.split()}

ENGINES = frozenset({"audit", "datasets", "training", "evaluation", "report"})
TORCH = frozenset({"segmenter", "baselines", "training"})
OWNERS = {
    "ray": ENGINES | {"cluster"},
    "torch": TORCH,
    "torchvision": TORCH,
    "open_clip": TORCH,
    "transformers": frozenset({"segmenter"}),
    "ultralytics": frozenset({"baselines"}),
    "schedulefree": TORCH,
    "cv2": frozenset({"imagery"}),
    "PIL": frozenset({"imagery"}),
    "simplejpeg": frozenset({"imagery"}),
    "pycocotools": frozenset({"imagery"}),
    "mlflow": frozenset({"outside world"}),
    "fsspec": frozenset({"outside world"}),
    "s3fs": frozenset({"outside world"}),
    "botocore": frozenset({"outside world"}),
    "pyarrow.fs": frozenset({"outside world"}),
    "aiohttp": frozenset({"outside world", "alerts"}),
    "smtplib": frozenset({"alerts"}),
    "duckdb": frozenset({"report"}),
    "jinja2": frozenset({"report"}),
    "matplotlib": frozenset({"training", "evaluation", "report"}),
    "typer": frozenset({"command line"}),
    "rich": frozenset({"command line"}),
    "os.environ": frozenset({"words"}),
    "os.getenv": frozenset({"words"}),
    "pandas": frozenset(),
}
"""The only rooms that may import a library."""

FORBIDDEN_NAMES = frozenset({"utils", "common", "base", "core", "helpers", "manager"})
MAX_JOB_LINES = 40
MAX_FILE_LINES = 500
"""Well before that a file should be split; the longest ones are printed."""


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name and its syntax tree."""

    name: str
    path: Path

    @cached_property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, filename=str(self.path))

    @property
    def part(self) -> str:
        """The file or folder right below the package; a job is part of ``jobs``, ``scrapray`` of itself."""
        names = self.name.split(".")
        return names[1] if names[0] == "scrapray" and len(names) > 1 else names[0]

    @property
    def room(self) -> str | None:
        return ROOM_OF_PART.get(self.part)

    def imports(self) -> Iterator[str]:
        """Dotted names of all that is imported, wherever the import stands (also ``os.environ`` where it is read)."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                yield f"os.{node.attr}"


def read_modules(root: Path) -> dict[str, Module]:
    """All sources of the package and its jobs, by dotted name."""
    modules = {}
    for path in sorted([*root.glob("scrapray/**/*.py"), *root.glob("jobs/**/*.py")]):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module(name, path)
    return modules


def faults(root: Path) -> list[str]:
    """What in a tree breaks the rules, one sentence each."""
    modules = read_modules(root)
    return [
        *_bad_names(modules),
        *_bad_floors(modules),
        *_bad_owners(modules),
        *_circles(modules),
        *_work_at_import(modules),
        *_too_long(modules),
    ]


def _bad_names(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for word in FORBIDDEN_NAMES.intersection(module.name.split(".")):
            yield f"{module.name}: no file or folder is called {word!r}; name what it holds"
        if module.room is None:
            yield f"{module.name}: {module.part!r} stands in no room; give it a floor in this test"


def _bad_floors(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for target in _imported_modules(module, modules):
            if module.room is None or target.room is None or module.room == target.room:
                continue
            if FLOOR_OF_ROOM[target.room] >= FLOOR_OF_ROOM[module.room]:
                yield f"{module.name} ({module.room}) imports {target.name} ({target.room}), which is not below it"


def _bad_owners(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for library in sorted({library for name in module.imports() if (library := _library_of(name))}):
            if module.room not in OWNERS[library]:
                owners = ", ".join(sorted(OWNERS[library])) or "nobody"
                yield f"{module.name} ({module.room}) uses {library}, which belongs to {owners}"


def _circles(modules: dict[str, Module]) -> Iterator[str]:
    """Every set of files from which each can be reached from each other, found by trying all pairs."""
    targets = {name: {target.name for target in _imported_modules(module, modules)} for name, module in modules.items()}
    reach = {name: _reachable(name, targets) for name in targets}
    circles = {frozenset(other for other in reach[name] if name in reach[other]) for name in targets}
    yield from (f"circle of imports: {' - '.join(sorted(circle))}" for circle in circles if circle)


def _work_at_import(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for statement in module.tree.body:
            # A group of commands can be put below another by a call only.
            is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if is_call and not ast.unparse(statement).startswith("app.add_typer("):
                yield f"{module.name}: line {statement.lineno} does work when it is imported"


def _too_long(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        num_lines = len(module.source.splitlines())
        if num_lines > MAX_FILE_LINES:
            yield f"{module.name} has {num_lines} lines, at most {MAX_FILE_LINES}"
        elif module.part == "jobs" and len(_statement_lines(module.tree)) > MAX_JOB_LINES:
            yield f"{module.name} has {len(_statement_lines(module.tree))} lines of statements, at most {MAX_JOB_LINES}"


def _statement_lines(tree: ast.Module) -> set[int]:
    """Lines on which statements stand: neither comments nor blank lines nor what explains the file."""
    first = 1 if ast.get_docstring(tree) else 0
    return {node.lineno for statement in tree.body[first:] for node in ast.walk(statement) if hasattr(node, "lineno")}


def _imported_modules(module: Module, modules: dict[str, Module]) -> list[Module]:
    """Own files that a file imports: ``from scrapray.audit import pipeline`` is the file ``pipeline``."""
    found = {}
    for name in module.imports():
        target = modules.get(name) or modules.get(name.rpartition(".")[0])
        if target is not None and target is not module:
            found[target.name] = target
    return list(found.values())


def _library_of(name: str) -> str | None:
    return next((library for library in OWNERS if name == library or name.startswith(library + ".")), None)


def _reachable(start: str, targets: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = set(targets[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting |= targets[name]
    return seen


def _longest(root: Path, count: int) -> list[str]:
    """The longest files and functions, for people to look at."""
    files, functions = [], []
    for module in read_modules(root).values():
        files.append((len(module.source.splitlines()), module.name))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                functions.append((node.end_lineno - node.lineno + 1, f"{module.name}.{node.name}"))
    lines = []
    for kind, sizes in (("file", files), ("function", functions)):
        lines += [f"{size:5} lines  {kind} {name}" for size, name in sorted(sizes, reverse=True)[:count]]
    return lines


def test_the_house_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\nLongest:", *_longest(REPOSITORY, 5), sep="\n")
    assert faults(REPOSITORY) == []


def test_what_is_agpl_is_imported_in_one_file_only() -> None:
    users = {
        module.name
        for module in read_modules(REPOSITORY).values()
        if any(name.partition(".")[0] == "ultralytics" for name in module.imports())
    }
    assert users <= {"scrapray.baselines.yolo_sam"}
    assert any("ultralytics" in line for line in (REPOSITORY / "pyproject.toml").read_text().splitlines())


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ({"scrapray/imagery/utils.py": ""}, "no file or folder is called 'utils'"),
        ({"scrapray/attic/__init__.py": ""}, "'attic' stands in no room"),
        (
            {"scrapray/imagery/decode.py": "from scrapray import storage\n", "scrapray/storage.py": ""},
            "scrapray.imagery.decode (imagery) imports scrapray.storage (outside world), which is not below it",
        ),
        (
            {"scrapray/report/pages.py": "import scrapray.audit.publish\n", "scrapray/audit/publish.py": ""},
            "scrapray.report.pages (report) imports scrapray.audit.publish (audit), which is not below it",
        ),
        (
            {"scrapray/statistics/loads.py": "def f():\n    from scrapray.cli import g\n", "scrapray/cli.py": ""},
            "scrapray.statistics.loads (statistics) imports scrapray.cli (command line), which is not below it",
        ),
        ({"scrapray/segmenter/fit.py": "import ray.train\n"}, "uses ray, which belongs to"),
        ({"scrapray/audit/actors.py": "def f():\n    import torch\n"}, "scrapray.audit.actors (audit) uses torch"),
        ({"scrapray/lake.py": "import os\nhome = os.environ['HOME']\n"}, "uses os.environ, which belongs to words"),
        ({"scrapray/audit/manifest.py": "from pyarrow import fs\n"}, "uses pyarrow.fs"),
        ({"scrapray/report/queries.py": "import pandas as pd\n"}, "uses pandas, which belongs to nobody"),
        (
            {
                "scrapray/audit/a.py": "from scrapray.audit.b import x\n",
                "scrapray/audit/b.py": "from scrapray.audit.c import x\n",
                "scrapray/audit/c.py": "def f():\n    import scrapray.audit.a\n",
            },
            "circle of imports: scrapray.audit.a - scrapray.audit.b - scrapray.audit.c",
        ),
        ({"scrapray/config.py": "import logging\nlogging.basicConfig()\n"}, "line 2 does work when it is imported"),
        ({"jobs/nightly.py": "x = 1\n" * 41}, "jobs.nightly has 41 lines of statements, at most 40"),
    ],
)
def test_a_broken_rule_is_named(sources: dict[str, str], fault: str, tmp_path: Path) -> None:
    _write_tree(tmp_path, sources)
    (found,) = faults(tmp_path)
    assert fault in found


def test_a_tree_that_keeps_the_rules_has_no_fault(tmp_path: Path) -> None:
    sources = {
        "scrapray/errors.py": "class ScraprayError(Exception): pass\n",
        "scrapray/storage.py": "import s3fs\nfrom scrapray.errors import ScraprayError\n",
        "scrapray/lake.py": "from scrapray.storage import Storage\n",
        "scrapray/audit/__init__.py": "",
        "scrapray/audit/pipeline.py": "import ray\nfrom scrapray import lake\nfrom scrapray.audit import publish\n",
        "scrapray/audit/publish.py": "import scrapray.lake\n",
        "jobs/nightly.py": "from scrapray.audit.pipeline import run\nif __name__ == '__main__':\n    run()\n",
    }
    _write_tree(tmp_path, sources)
    assert faults(tmp_path) == []


def _write_tree(root: Path, sources: dict[str, str]) -> None:
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
