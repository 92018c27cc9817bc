"""What there is to train on, a line each."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A stored task."""

    examples: int
    classes: int
    text: str


STORED = {
    "movie_sentiment": Entry(10_072, 2, "sign of a film review's rating by people"),
    "sentiment": Entry(19_459, 2, "the same over reviews, editorials and tweets"),
    "sources": Entry(23_703, 4, "film or product review, newspaper or tweet?"),
    "planted": Entry(10_070, 2, "a review beside a neutral sentence; truth is known"),
    "bags": Entry(1_750, 2, "a 9 among about ten digits? truth is known"),
    "digits_pixels": Entry(5_000, 10, "which digit, by 784 pixels"),
    "digits_patches": Entry(5_000, 10, "which digit, by 49 patches of 16 pixels"),
}
GENERATED = (
    "xor orange_skin nonlinear_additive switch: L2X's, 10 features",
    "syn1 to syn6: INVASE's, 11 features; syn1_100 to syn6_100: with 100",
)
OWN = (
    ("FILE.jsonl .json .csv .tsv", "text or tokens, label; also .gz"),
    ("tfds:NAME", "what TFDS has prepared, or prepares"),
    ("FOLDER", "ERASER's form: docs/ and *.jsonl"),
    ("imdb:PATH  ag_news:PATH", "the archives their authors publish"),
    ("bags:FILE.csv", "bags of vectors, such as slides"),
    ("FILE.npz", "what `prepare` wrote"),
)
