"""Who may import whom, what files may be called, and what importing may cost."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "system": "",
    "nn": "",
    "config": "system",
    "metrics": "nn",
    "data": "system",
    "methods": "config nn system.errors",
    "training": "config data methods metrics nn",
    "leakage": "metrics system",
    "reports": "config methods metrics system",
    "inference": "config data methods metrics nn system training",
    # A run writes what `inference` reads, and takes names and format from there.
    "experiment": "config data inference leakage methods metrics nn reports system "
    "training",
    "predict": "data inference metrics reports system",
    "doctor": "data experiment leakage system",
    "train": "config data experiment methods reports system",
    "__main__": "system.errors",
    "__init__": "",
}
"""Files of the root and packages, each with what it may import of the package."""

PACKAGES = set(
    "system nn metrics data methods training leakage reports experiment".split()
)

VAGUE = {"common", "helpers", "misc", "util", "utils"}

GONE = """
adam adversary asked attributions blackbox blackbox_models blackbox_own callables
captured checkpoint choice comparison console data.archives data.bags data.builders
data.catalogue data.checking data.digits data.doors data.download data.eraser
data.evidence data.features data.fields data.kept data.lines data.memory data.own
data.planted data.planted_shortcut data.prepared data.progress data.rebuild
data.showing data.sides data.slides data.snippets data.splitting data.stopwords
data.synthetic data.tfds_door data.tfds_fields data.tfds_images data.tfrecord
data.tokenizer diagnostics digests edits explain figures files findings forward halves
heat hosts human interventions jobs known lanes layers leakage.channels
leakage.document leakage.encoding leakage.intake leakage.report leakage.screen leaks
lessons loop machine masks metrics.agreement metrics.attention
metrics.definitions_of_attention metrics.erasure metrics.hsic metrics.inverse
metrics.plausibility metrics.recovery metrics.robustness model_files models neutral
nn.estimator nn.noise nn.orthogonal nn.score_function nulls objective opening outputs
overlap pages phases plan prediction probe removals report reporting request results
runs runtime schedule schema scrutiny selftest settings source sweep tables tradeoffs
trained waves weighting workdir
"""
"""Modules that a text may not name, since nobody finds them under these names."""

TEXTS = ("jaxattn/**/*", "configs/*.py", "configs/*.md", "launch/*", "README.md")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "jaxattn").rglob("*.py"))}


def module_of(name: str) -> str:
    """The longest prefix of a dotted name that is a module of ours, or ''."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports_of(source: str) -> set[str]:
    """Modules of ours that a source imports, wherever it does so."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "import by the whole name, not from . or .."
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module_of(n) for n in names if n.partition(".")[0] == "jaxattn"}


@functools.cache
def graph() -> dict[str, set[str]]:
    return {name: imports_of(p.read_text()) - {name} for name, p in MODULES.items()}


def room_of(name: str) -> str:
    """The package that a module is in, or the file of the root that it is."""
    return name.split(".")[1] if "." in name else "__init__"


def test_imports_are_seen_wherever_they_stand():
    source = (
        "import jaxattn.nn.gates as g, os\nfrom jaxattn import doctor, audit\n"
        "def f():\n    from jaxattn.data.tasks import load\n"
    )
    names = {"jaxattn.nn.gates", "jaxattn.doctor", "jaxattn", "jaxattn.data.tasks"}
    assert imports_of(source) == names


def test_imports_are_those_allowed():
    def fits(room: str, other: str) -> bool:
        inside = other.removeprefix("jaxattn.")
        allowed = [room, *ALLOWED[room].split()]
        return any(inside == a or inside.startswith(f"{a}.") for a in allowed)

    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in sorted(others)
        if not fits(room_of(name), other)
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle():
    graphlib.TopologicalSorter(graph()).prepare()  # raises CycleError
    rooms: dict[str, set[str]] = {room_of(name): set() for name in MODULES}
    for name, others in graph().items():
        rooms[room_of(name)] |= {room_of(other) for other in others} - {room_of(name)}
    assert rooms["experiment"] >= {"training", "reports"}
    graphlib.TopologicalSorter(rooms).prepare()


def test_files_have_their_places_and_names():
    assert {p.parent.name for p in ROOT.glob("jaxattn/*/__init__.py")} == PACKAGES
    assert len(list(ROOT.glob("jaxattn/*.py"))) <= 8
    assert not [name for name in MODULES if VAGUE & set(name.split("."))]


def test_no_text_names_a_module_that_is_gone():
    gone = [n for n in GONE.split() if f"jaxattn.{n}" not in MODULES]
    assert len(gone) > 100
    names = "|".join(n.replace(".", "[./]") for n in sorted(gone, key=len)[::-1])
    # Of all modules only `jaxattn.train` is a command; the others have `jaxattn NAME`.
    old = re.compile(rf"\bjaxattn[./](?:{names})\b|-m jaxattn\.(?!train\b)\S*")
    assert old.search("see jaxattn/loop.py") and old.search("-m jaxattn.audit m.npz")
    assert not old.search("python -m jaxattn audit, jaxattn.nn.masks, jaxattn.planted")
    texts = [p for pattern in TEXTS for p in ROOT.glob(pattern)]
    texts = [p for p in texts if p.suffix != ".pyc" and p.is_file()]
    assert len(texts) > 100
    wrong = {
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in texts
        for found in old.finditer(path.read_text(errors="ignore"))
    }
    assert not wrong, "\n".join(sorted(wrong))


def fresh(code: str) -> None:
    """Runs code in a process of its own, in which nothing is imported yet."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_and_its_config_imports_no_jax():
    names = "jaxattn, jaxattn.config, jaxattn.__main__, jaxattn.system.runtime"
    fresh(f"import sys, {names}; assert 'jax' not in sys.modules")


def test_importing_all_modules_touches_no_device_and_hides_no_function():
    """Settings made by `runtime.configure` must still come in time afterwards."""
    names = [name for name in MODULES if not name.endswith("__main__")]
    fresh(
        f"import types, {', '.join(names)}\n"
        "public = {name: getattr(jaxattn, name) for name in dir(jaxattn)}\n"
        "modules = [n for n, x in public.items() if isinstance(x, types.ModuleType)]\n"
        "assert not modules and callable(jaxattn.audit), modules\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
