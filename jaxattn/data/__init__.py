"""Data for the experiments: rated texts, digits, and tasks with a known answer."""

from jaxattn.data.dataset import Dataset, Split
from jaxattn.data.tasks import TASKS, Task, load
from jaxattn.data.text import Cut

__all__ = ["TASKS", "Cut", "Dataset", "Split", "Task", "load"]
