"""Real text for the experiments: three tasks over embedded, human-rated snippets."""

from jaxattn.data.dataset import Cut, Dataset, Split
from jaxattn.data.tasks import TASKS, Task, load

__all__ = ["TASKS", "Cut", "Dataset", "Split", "Task", "load"]
