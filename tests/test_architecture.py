import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "jaxattn").rglob("*.py"))
MAINS = {
    "jaxattn.audit",
    "jaxattn.data.__main__",
    "jaxattn.doctor",
    "jaxattn.predict",
    "jaxattn.report",
    "jaxattn.train",
}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def module_of(name):
    """The longest prefix of a dotted name that is a module of ours."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports_of(source, package, everywhere=True):
    """The modules of ours that a source names in imports.

    `package` is what relative imports start from; with `everywhere` False only the
    imports that run when the module is imported count.
    """
    found = set()
    nodes = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if everywhere or not function:
            nodes += ast.iter_child_nodes(node)
    return {module_of(n) for n in found if n.split(".")[0] == "jaxattn"} - {""}


def imports(name, everywhere=True):
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports_of(path.read_text(), package, everywhere) - {name}


def within(name, *packages):
    return any(name == p or name.startswith(p + ".") for p in packages)


def test_the_reader_of_imports_sees_every_form():
    source = (
        "import jaxattn.loop as l\n"
        "from jaxattn import probe, methods\n"
        "from jaxattn.nn.model import build\n"
        "from . import config\n"
        "from .data.tasks import x\n"
        "import jax, os\n"
        "def f():\n    from jaxattn.weighting import update\n"
    )
    top = {f"jaxattn.{m}" for m in "loop probe methods nn.model config".split()}
    top.add("jaxattn.data.tasks")
    assert imports_of(source, "jaxattn") == top | {"jaxattn.weighting"}
    assert imports_of(source, "jaxattn", everywhere=False) == top
    below = imports_of("from ..methods import m\nfrom .model import x", "jaxattn.nn")
    assert below == {"jaxattn.methods", "jaxattn.nn.model"}


ALLOWED = {
    "jaxattn.nn": ("jaxattn.nn",),
    "jaxattn.data": (
        "jaxattn.console",
        "jaxattn.data",
        "jaxattn.files",
        "jaxattn.runtime",
    ),
    "jaxattn.metrics": ("jaxattn.metrics", "jaxattn.nn"),
    "jaxattn.schema": (),
    "jaxattn.config": ("jaxattn.schema",),
    "jaxattn.runtime": (),
    "jaxattn.pages": (),
    "jaxattn.machine": ("jaxattn.data", "jaxattn.runtime"),
    "jaxattn.methods": ("jaxattn.config", "jaxattn.nn"),
    "jaxattn.weighting": ("jaxattn.config", "jaxattn.methods", "jaxattn.nn"),
    "jaxattn.lessons": (
        "jaxattn.config",
        "jaxattn.methods",
        "jaxattn.nn",
        "jaxattn.weighting",
    ),
    "jaxattn.phases": ("jaxattn.methods",),
    "jaxattn.forward": (
        "jaxattn.config",
        "jaxattn.data",
        "jaxattn.methods",
        "jaxattn.nn",
    ),
    "jaxattn.objective": (
        "jaxattn.config",
        "jaxattn.forward",
        "jaxattn.lessons",
        "jaxattn.methods",
        "jaxattn.nn",
    ),
    "jaxattn.halves": ("jaxattn.methods", "jaxattn.phases"),
    "jaxattn.request": ("jaxattn.config", "jaxattn.methods"),
    "jaxattn.neutral": (
        "jaxattn.request",
        "jaxattn.config",
        "jaxattn.halves",
        "jaxattn.lessons",
        "jaxattn.methods",
        "jaxattn.nn",
        "jaxattn.weighting",
    ),
    "jaxattn.edits": ("jaxattn.methods", "jaxattn.nn"),
    "jaxattn.layers": (),
    "jaxattn.captured": ("jaxattn.edits", "jaxattn.layers"),
    "jaxattn.known": ("jaxattn.forward", "jaxattn.metrics", "jaxattn.nn"),
    "jaxattn.interventions": ("jaxattn.forward", "jaxattn.nn"),
    "jaxattn.human": ("jaxattn.forward", "jaxattn.metrics"),
    "jaxattn.adversary": (
        "jaxattn.config",
        "jaxattn.forward",
        "jaxattn.metrics",
        "jaxattn.nn",
    ),
    "jaxattn.removals": (
        "jaxattn.forward",
        "jaxattn.interventions",
        "jaxattn.metrics",
    ),
    "jaxattn.scrutiny": (
        "jaxattn.adversary",
        "jaxattn.config",
        "jaxattn.forward",
        "jaxattn.human",
        "jaxattn.interventions",
        "jaxattn.metrics",
        "jaxattn.nn",
        "jaxattn.removals",
    ),
    "jaxattn.leakage": (
        "jaxattn.console",
        "jaxattn.files",
        "jaxattn.leakage",
        "jaxattn.metrics",
        "jaxattn.pages",
        "jaxattn.runtime",
    ),
    "jaxattn.heat": ("jaxattn.files", "jaxattn.pages"),
    # It reads a folder, and knows nothing of what filled it.
    "jaxattn.reporting": (
        "jaxattn.config",
        "jaxattn.console",
        "jaxattn.figures",
        "jaxattn.files",
        "jaxattn.findings",
        "jaxattn.heat",
        "jaxattn.methods",
        "jaxattn.metrics",
        "jaxattn.overlap",
        "jaxattn.pages",
        "jaxattn.plan",
        "jaxattn.results",
        "jaxattn.tables",
        "jaxattn.tradeoffs",
    ),
    # To use what is trained takes nothing that trains.
    "jaxattn.trained": (
        "jaxattn.config",
        "jaxattn.data",
        "jaxattn.forward",
        "jaxattn.methods",
        "jaxattn.model_files",
        "jaxattn.nn",
    ),
    "jaxattn.prediction": (
        "jaxattn.console",
        "jaxattn.files",
        "jaxattn.heat",
        "jaxattn.metrics",
        "jaxattn.runtime",
        "jaxattn.trained",
    ),
    "jaxattn.models": (
        "jaxattn.config",
        "jaxattn.files",
        "jaxattn.model_files",
        "jaxattn.nn",
        "jaxattn.plan",
        "jaxattn.sweep",
    ),
    "jaxattn.model_files": (),
    "jaxattn.explain": ("jaxattn.forward", "jaxattn.known", "jaxattn.metrics"),
    "jaxattn.comparison": (
        "jaxattn.methods",
        "jaxattn.metrics",
        "jaxattn.results",
    ),
    "jaxattn.adam": (),
    "jaxattn.hosts": (),
    "jaxattn.settings": ("jaxattn.config", "jaxattn.schema"),
    "jaxattn.digests": ("jaxattn.hosts",),
    "jaxattn.checkpoint": ("jaxattn.digests", "jaxattn.hosts"),
    "jaxattn.lanes": (
        "jaxattn.hosts",
        "jaxattn.plan",
        "jaxattn.runtime",
        "jaxattn.sweep",
    ),
    "jaxattn.choice": (
        "jaxattn.config",
        "jaxattn.metrics",
        "jaxattn.results",
        "jaxattn.sweep",
    ),
    "jaxattn.loop": (
        "jaxattn.adam",
        "jaxattn.config",
        "jaxattn.forward",
        "jaxattn.methods",
        "jaxattn.nn",
        "jaxattn.objective",
        "jaxattn.phases",
        "jaxattn.weighting",
    ),
}


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_fall_one_way(package):
    members = [name for name in MODULES if within(name, package)]
    assert members, f"{package} is gone: correct this table"
    for name in members:
        # The package itself is only a list of names, looked up when they are used.
        wrong = {
            other
            for other in imports(name) - {"jaxattn"}
            if not within(other, package, *ALLOWED[package])
        }
        assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("low", ["probe", "loop", "methods", "weighting", "nn"])
def test_what_is_below_does_not_know_the_sweep(low):
    for name in MODULES:
        if within(name, f"jaxattn.{low}"):
            assert not imports(name) & {"jaxattn.sweep", "jaxattn.checkpoint"}, name


def test_nothing_imports_a_main():
    for name in MODULES:
        assert not imports(name) & MAINS, name


def test_there_is_no_cycle():
    graph = {name: imports(name) - {"jaxattn"} for name in MODULES if name != "jaxattn"}
    assert any(graph.values())
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", FILES, ids=MODULES)
def test_no_file_is_longer_than_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


def test_no_module_is_called_utils():
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert not [name for name in MODULES if vague & set(name.split("."))]


@pytest.mark.parametrize("name", ["jaxattn", "jaxattn.config", "jaxattn.runtime"])
def test_importing_does_not_import_jax(name):
    code = f"import sys, {name}; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_importing_the_package_touches_no_device():
    """Settings made by `runtime.configure` must still come in time afterwards."""
    names = [n for n in MODULES if n not in MAINS and not n.endswith("__main__")]
    code = (
        f"import {', '.join(names)}\n"
        "import sys\n"
        "from jax._src import xla_bridge\n"
        "sys.exit(xla_bridge.backends_are_initialized())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
