"""The command line of the leak audit."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxattn.leakage import readers
from jaxattn.system import console, runtime
from jaxattn.system.files import write_text

FINE, USAGE, ABOVE, INCONCLUSIVE = 0, 2, 3, 4
OPTIONAL = ("lengths", "offsets", "groups", "tokens", "values", "predictions")
LABELS = ("labels", "label", "y")


@dataclasses.dataclass(frozen=True)
class Flags:
    """How many bits of the label do attention masks alone carry?

    - MASKS is a .npz, .npy, .jsonl or .h5 file of any framework, or a folder of
      .h5 files (one a bag, as CLAM writes them).
    - Arrays are given as FILE, FILE:ARRAY or as an ARRAY of MASKS; those of MASKS
      that are named like an option are taken anyway.
    - Exit codes: 0 fine, 2 wrong input, 3 above --fail-above, 4 inconclusive.
    """

    masks: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MASKS")]
    """[N, T], [N, heads, T], [N, heads, T, T], or rows of different lengths."""
    labels: str | None = None
    """Classes [N]; for a folder of .h5 files a CSV file of bag and label."""
    lengths: str | None = None
    """Where padding begins [N]."""
    offsets: str | None = None
    """Where each row begins in flat weights, [N + 1]."""
    groups: str | None = None
    """Examples that belong together [N], such as patients; folds never split one."""
    tokens: str | None = None
    """What was attended [N, T]."""
    values: str | None = None
    """What the mask lets through, [N, T, D] or pooled [N, D]."""
    predictions: str | None = None
    """What the model answered [N]."""
    kind: Literal["auto", "weights", "scores"] = "auto"
    """Whether masks are weights or scores (logits)."""
    row: Literal["mean", "cls", "all"] = "mean"
    """Which queries of [N, heads, T, T] count."""
    folds: int = 5
    """Folds of the cross-fitting."""
    permutations: int = 199
    """How often labels are exchanged for the null."""
    seed: int = 0
    """Of folds and exchanges."""
    run_seed: int | None = None
    """Which seed of a file that jaxattn.train wrote; its first if not given."""
    fail_above: Annotated[float | None, tyro.conf.arg(metavar="BITS")] = None
    """Exit with 3 where the leak is above this many bits."""
    out: Path | None = None
    """Folder for audit.json and audit.html; audits/NAME if not given."""
    allow_pickle: bool = False
    """Read pickled object arrays: this runs code from the file."""
    quiet: bool = False
    """Print nothing but errors."""
    json: bool = False
    """Print audit.json, without its pointwise bits, as the last line."""


@console.messages_shown()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        flags = tyro.cli(Flags, args=arguments, prog="jaxattn audit")
        console.settings.quiet = flags.quiet
        return _run(flags)
    except (ValueError, OSError) as error:
        console.error(console.reason(error, "writing the audit"))
        return USAGE
    except KeyboardInterrupt:
        console.error("stopped; nothing was written")
        return 130


def _run(flags: Flags) -> int:
    if flags.fail_above is not None and not flags.fail_above >= 0:
        raise ValueError(f"fail-above = {flags.fail_above}: must be 0 bits or more")
    masks, labels, more, path = _given(flags)
    runtime.configure()
    # Only now: jax takes a second to import, and --help should not.
    from jaxattn.leakage import audit, rendering

    options = {"kind": flags.kind, "row": flags.row, "seed": flags.seed}
    options |= {"n_folds": flags.folds, "permutations": flags.permutations}
    with _progress() as progress:
        report = audit.audit(masks, labels, **more, **options, progress=progress)
    folder = flags.out or Path("audits") / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    source = {"masks": flags.masks, "labels": flags.labels, **options, "with": [*more]}
    written = rendering.document(report, source)
    page = rendering.page(written, rendering.rows(report))
    write_text(folder / "audit.json", json.dumps(written, allow_nan=False) + "\n")
    write_text(folder / "audit.html", page)
    if not flags.quiet:
        rendering.show(report, path.name)
        console.say(f"{folder}: audit.html, audit.json")
    if flags.json:
        del written["masks"]["pointwise_bits"]
        print(json.dumps(written, allow_nan=False))
    if flags.fail_above is not None and report.masks.bits > flags.fail_above:
        console.error(
            f"the leak of {report.masks.bits:.3f} bits is above {flags.fail_above:g}"
        )
        return ABOVE
    return INCONCLUSIVE if report.verdict == "inconclusive" else FINE


def _given(flags: Flags) -> tuple[Any, Any, dict[str, Any], Path]:
    """Masks, labels and what else belongs to them, and the file they came from."""
    path, name = readers.split(flags.masks)
    beside = readers.read(path, flags.allow_pickle)
    beside = _one_seed(beside, flags.run_seed, path)
    masks = readers.pick(beside, path, name, readers.MASK_KEYS)
    bags = beside.get("names") if path.is_dir() else None
    if bags is not None:
        if flags.labels is None:
            raise ValueError(
                f"{path}: give --labels FILE.csv, a bag and its label a line"
            )
        more = {}
        if flags.groups is not None:
            more["groups"] = readers.labels_of_bags(Path(flags.groups), bags)
        return masks, readers.labels_of_bags(Path(flags.labels), bags), more, path
    if flags.labels is None:
        if not any(key in beside for key in LABELS):
            raise ValueError(
                f"{path} has no array of labels ({', '.join(beside)}): give --labels "
                "FILE, FILE:ARRAY or ARRAY"
            )
        labels = readers.pick(beside, path, None, LABELS)
    else:
        labels = readers.fetch(flags.labels, beside, flags.allow_pickle)
    more = {}
    for what in OPTIONAL:
        where = getattr(flags, what)
        if where is not None:
            more[what] = readers.fetch(where, beside, flags.allow_pickle)
        elif what in beside and what != name:
            more[what] = beside[what]
    return masks, labels, more, path


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    with contextlib.ExitStack() as stack:
        advance, before = None, 0

        def progress(what: str, done: int, of: int) -> None:
            nonlocal advance, before
            if advance is None:
                advance = stack.enter_context(console.bar("audit", of, "fits"))
            advance(done - before, what)
            before = done

        yield progress


def _one_seed(arrays: dict[str, Any], seed: int | None, path: Path) -> dict[str, Any]:
    """The arrays of one seed of a file that jaxattn.train wrote for many."""
    if not {"seeds", "alive", "masks"} <= arrays.keys():
        if seed is not None:
            raise ValueError(f"{path}: run-seed is for files that jaxattn.train wrote")
        return arrays
    seeds = arrays["seeds"].tolist()
    alive = [s for s, lives in zip(seeds, arrays["alive"], strict=True) if lives]
    seed = alive[0] if seed is None and alive else seed
    if seed not in alive:
        raise ValueError(f"run-seed = {seed}: {path} has {', '.join(map(str, alive))}")
    i = seeds.index(seed)
    gone = {"seeds", "alive", "ids"}
    words = arrays.get("tokens")
    if words is not None and words.shape[-1] != arrays["masks"].shape[-1]:
        # Masks that reach default tokens: the words' own lengths do not bound them.
        gone |= {"tokens", "lengths"}
    many = {k: v for k, v in arrays.items() if k not in gone}
    console.say(f"seed {seed} of a run's {len(seeds)}; another with --run-seed")
    return {k: v[i] if len(v) == len(seeds) else v for k, v in many.items()}
