"""From texts to arrays: tokens, vocabulary, padding, kinds, lexicon and stop words."""

import bz2
import importlib.resources
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

STOP_WORDS = frozenset(
    """
    a an the
    i me my mine myself we us our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself they them their theirs
    themselves one this that these those who whom whose which what each either some any
    all both another other such
    about above across after against along among around as at before behind below
    beneath beside between beyond by down during for from in inside into near of off on
    onto out outside over per since through throughout to toward towards under until up
    upon via with within
    and or but so if because while although though unless whether than then when where
    why how
    am is are was were be been being have has had having do does did doing will would
    shall should can could may might must ought
    i'm you're he's she's it's we're they're i've you've we've they've i'd you'd he'd
    she'd we'd they'd i'll you'll he'll she'll it'll we'll they'll that's who's what's
    here's there's there here
    """.split()
)
"""Articles, pronouns, prepositions, conjunctions, auxiliaries and their contractions.

Negations are not among them: they carry polarity.
"""

PAD, UNKNOWN = "<pad>", "<unk>"
SPECIAL, WORD, PUNCTUATION = 0, 1, 2

# In this order: web address; user name; emoticon; number with points or commas; word
# with inner apostrophes; any other single mark. The look-behind keeps "10:30" and
# "a@b" from being read as emoticon and user name.
_TOKEN = re.compile(
    r"(?<!\w)(?:https?://|www\.)\S*\w"
    r"|(?<!\w)@\w+"
    r"|(?<!\w)(?:[:;=]['o^-]?[()\[\]dp/\\|*3]|<3)(?!\w)"
    r"|\d+(?:[.,]\d+)+"
    r"|[^\W_]+(?:'[^\W_]+)*"
    r"|[^\w\s]|_"
)
MAX_LENGTH = 4096


class Cut(NamedTuple):
    """What padding to a fixed length cost one split."""

    examples: int
    """That lost tokens."""
    tokens: int
    """That were lost."""


def embedded(name: str) -> Iterator[list[str]]:
    """The rows of a table that the package carries, without its header."""
    file = importlib.resources.files("jaxattn.data") / "hutto" / f"{name}.tsv.bz2"
    lines = bz2.decompress(file.read_bytes()).decode().split("\n")
    return (line.split("\t") for line in lines[1:-1])


def check_whole(name: str, value: Any, most: int | None = None) -> None:
    """Raises ValueError unless 1 <= value <= most and it is a whole number."""
    # A bool is an int to Python; "True tokens" is a mistake all the same.
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= (most or value):
        allowed = "at least 1" if most is None else f"1 to {most}"
        raise ValueError(f"{name} is {value!r}; allowed: a whole number, {allowed}")


def tokenize(text: str) -> list[str]:
    """Splits a text into lower-cased words and single punctuation marks.

    "Don't" is one word; so are a number ("1,000.5"), a web address, a user name
    ("@anonymous") and a simple emoticon (":-)", "<3"). A hyphenated word is three
    tokens, and a hash tag is "#" and a word. Typographic apostrophes become "'".
    """
    return _TOKEN.findall(_lower(text))


def _lower(text: str) -> str:
    return text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def token_offsets(text: str) -> list[tuple[int, int]]:
    """Where in the text each token of `tokenize` begins and ends, in characters."""
    lower = _lower(text)
    spans = [match.span() for match in _TOKEN.finditer(lower)]
    if len(lower) == len(text):
        return spans
    # Some characters become two in lower case ("\u0130"); a token that begins or ends
    # within one has all of it.
    origin = [i for i, character in enumerate(text) for _ in character.lower()]
    return [(origin[a], origin[b - 1] + 1) for a, b in spans]


def build_vocabulary(
    documents: Iterable[Sequence[str]], min_count: int = 2
) -> tuple[str, ...]:
    """The tokens met at least `min_count` times, most frequent first.

    Ties go by the token's code points, so the order is the same everywhere. Ids 0 and
    1 are "<pad>" and "<unk>".

    Raises:
        ValueError: `min_count` is under 1, or no token is that frequent.
    """
    counts = Counter(token for document in documents for token in document)
    return most_frequent(counts, min_count)


def most_frequent(counts: Mapping[str, int], min_count: int) -> tuple[str, ...]:
    """The vocabulary of tokens that are met so often; see `build_vocabulary`."""
    check_whole("min_count", min_count)
    kept = [(-n, token) for token, n in counts.items() if n >= min_count]
    if not kept:
        most = max(counts.values(), default=0)
        raise ValueError(
            f"min_count {min_count} leaves no token: the commonest of the training "
            f"split is met {most} times"
        )
    return (PAD, UNKNOWN, *(token for _, token in sorted(kept)))


def encode(
    documents: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int
) -> tuple[np.ndarray, np.ndarray, Cut]:
    """Token ids [N, T] with T = `length`, padded with 0, lengths [N], and the loss.

    A longer document keeps its first T tokens. One without any token becomes a single
    "<unk>", so that every document has something to attend to.

    Raises:
        ValueError: `length` is not a whole number from 1 to 4096.
    """
    check_whole("length", length, MAX_LENGTH)
    index = {token: i for i, token in enumerate(vocabulary)}
    unknown = index[UNKNOWN]
    smallest = np.min_scalar_type(max(len(vocabulary) - 1, 0))
    tokens = np.zeros((len(documents), length), smallest)
    lengths = np.zeros(len(documents), np.int32)
    for row, document in enumerate(documents):
        ids = [index.get(token, unknown) for token in document[:length]] or [unknown]
        tokens[row, : len(ids)] = ids
        lengths[row] = len(ids)
    lost = [len(document) - length for document in documents if len(document) > length]
    return tokens, lengths, Cut(examples=len(lost), tokens=sum(lost))


def kinds(vocabulary: Sequence[str]) -> np.ndarray:
    """[V] uint8: 0 special, 1 word, 2 punctuation (a single mark)."""

    word = [WORD if len(t) > 1 or t.isalnum() else PUNCTUATION for t in vocabulary]
    special = [token in (PAD, UNKNOWN) for token in vocabulary]
    return np.where(special, SPECIAL, word).astype(np.uint8)


def read_lexicon() -> dict[str, float]:
    """Lower-cased token -> mean human rating, -4 to 4.

    Entries that become one by lower-casing, or that the source has twice ("lol": 2.9
    and 1.8, each by ten people), get the mean of their ratings.
    """
    ratings: defaultdict[str, list[float]] = defaultdict(list)
    for token, rating, _ in embedded("lexicon"):
        ratings[token.lower()].append(float(rating))
    return {token: sum(r) / len(r) for token, r in ratings.items()}


def lexicon_ratings(vocabulary: Sequence[str]) -> np.ndarray:
    """[V] float32: human rating -4 to 4 of each token, NaN where there is none."""
    lexicon = read_lexicon() if vocabulary else {}
    ratings = [lexicon.get(token.lower(), np.nan) for token in vocabulary]
    return np.array(ratings, np.float32)
