"""What a run left behind, for Python and notebooks."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from jaxattn import pages
from jaxattn.files import plain
from jaxattn.plan import Name
from jaxattn.reporting import loaded
from jaxattn.results import Result


class Run(NamedTuple):
    """What a run left behind; in a notebook it shows verdict and main table."""

    folder: Path
    results: list[Result]
    findings: list[str]
    diverged: list[Name]
    signal: int | None
    """The signal that ended it early, if any."""

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self._state()})"

    def load(self) -> loaded.LoadedRun:
        """The run as arrays; raises ValueError where nothing is finished."""
        return loaded.load_run(self.folder)

    def _repr_html_(self) -> str:
        if self.results:
            return self.load()._repr_html_()
        return pages.render("unfinished.html", folder=self.folder, state=self._state())

    def _state(self) -> str:
        ended = "" if self.signal is None else f", ended by signal {self.signal}"
        return f"{len(self.results):,} results{ended}"

    def to_dict(self) -> dict[str, Any]:
        """Folder, results and findings as plain JSON values."""
        return plain(
            {
                "folder": str(self.folder),
                "signal": self.signal,
                "findings": self.findings,
                "diverged": self.diverged,
                "results": [r._asdict() for r in self.results],
            }
        )

    def table(self, *metrics: str) -> str:
        """A table of 80 columns as text: methods by metrics, by default the main three.

        metrics: `metric` or `metric:variant`; nulls stand in the second line.
        """
        return loaded.text_of(self.results, metrics)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report of the run; raises ValueError where nothing is finished."""
        self.load().save_html(path)
