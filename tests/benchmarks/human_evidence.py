"""Do attention maps find what people marked? Trained on real reviews of films.

    python tests/benchmarks/human_evidence.py FILE.jsonl.gz [--seeds 16]

FILE holds the counterfactually augmented reviews of Kaushik, Hovy & Lipton (2020,
arXiv 1909.12434), one JSON object a line with tokens, label, split, `rationale` (the
words that people had to change to turn the label) and `version`. Models are trained and
judged on the originals alone. Epochs and learning rate are those of configs/reviews.py:
of 40 epochs of `joint` (seeds 100 to 103) the eighth was best on the validation split.
Writes RESULTS_HUMAN.md beside this file; some ten minutes on two cores.
"""

import argparse
import datetime
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

from page import table

from jaxattn.reports.results import Result, choose, read_results

FOLDER = pathlib.Path(__file__).parent
CONFIG = FOLDER.parents[1] / "configs" / "reviews.py"
LENGTH = 400
"""Of 2,437 originals one is longer."""
METHODS = (
    "joint random_pretraining instance_weighting mask_swap random_always mask_mix "
    "mask_mix_delayed uniform"
).split()
COLUMNS = ("accuracy", "human_auroc", "human_auprc", "human_ap", "leak_bits")
RANKINGS = ("idf", "position", "lexicon", "random")


def originals(source: pathlib.Path, out: pathlib.Path) -> None:
    with gzip.open(source, "rt", encoding="utf-8") as lines, out.open("w") as file:
        for line in lines:
            if json.loads(line)["version"] == "original":
                file.write(line)


def cell(result: Result | None) -> str:
    if result is None:
        return "-"
    if not result.ci_low < result.ci_high:
        return f"{result.mean:.3f}"
    return f"{result.mean:.3f} [{result.ci_low:.3f}, {result.ci_high:.3f}]"


def page(results: list[Result], said: str, seeds: int) -> str:
    rows = []
    for method in METHODS:
        found = [choose(results, "own", method, name) for name in COLUMNS]
        apart = choose(results, "own", method, "human_auroc_vs_joint")
        rows.append([f"`{method}`", *map(cell, found), cell(apart)])
    rankings = []
    for name in RANKINGS:
        found = [
            choose(results, "own", "joint", f"{metric}:{name}")
            for metric in ("human_auroc", "human_auprc", "human_ap")
        ]
        rankings.append([name, *map(cell, found)])
    return f"""# Attention maps and what people marked

Written by `python tests/benchmarks/human_evidence.py`; do not edit.

Originals of the counterfactually augmented IMDB reviews (Kaushik, Hovy & Lipton 2020,
arXiv 1909.12434): 1,704 / 244 / 488, the networks, epochs and learning rate of
`configs/reviews.py`, {LENGTH} tokens, {seeds} seeds, 95 % BCa intervals over seeds,
test split. Evidence: the words that people had to change to turn the label, within
each review. Date: {datetime.date.today().isoformat()}.

AUROC of chance is .5; of `human_auprc` (trapezoids, as in ERASER) and `human_ap` it is
in the second table under random. Trapezoids flatter ties: from the point (recall 0,
precision 1) that the curve begins with, `uniform` and `lexicon` get a straight line.

{table(["method", *COLUMNS, "human_auroc against joint"], rows)}

Rankings without a model: inverse document frequency in the training split, earlier
before later, words of the lexicon before others, random.

{table(["ranking", "human_auroc", "human_auprc", "human_ap"], rankings)}

What the run said:

```text
{said}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER)
    parser.add_argument("--more", nargs="*", default=[], help="flags for the command")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, run = (pathlib.Path(folder, name) for name in ("originals.jsonl", "run"))
        originals(args.file, data)
        command = [sys.executable, "-m", "jaxattn.train", "--config", str(CONFIG)]
        command += ["--data", str(data), "--workdir", str(run)]
        command += ["--data.length", str(LENGTH), "--seeds", str(args.seeds)]
        command += ["--methods", *METHODS, "--metrics", "plausibility", *args.more]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results = read_results(run / "results.csv")
    # Without the paths at its end.
    said = ended.stdout.partition(f"\n{run}")[0].partition("\n- ")
    (args.output / "RESULTS_HUMAN.md").write_text(
        page(results, (said[1] + said[2]).strip(), args.seeds)
    )


if __name__ == "__main__":
    main()
