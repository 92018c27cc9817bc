"""Which fields of a TFDS data set are its text, label and so on, and their values.

This module imports tensorflow_datasets, so others import it late.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
import tensorflow_datasets.proto as tfds_proto

from jaxattn.data.readers.archives import without_breaks, without_remains
from jaxattn.data.readers.options import check_there, chosen

_proto: Any = tfds_proto.tf_example_pb2
ROLES = ("text", "image", "label", "evidence", "id", "group")


class Known(NamedTuple):
    """The field of each role of a data set, and how to clean its texts."""

    fields: Mapping[str, str]
    clean: Callable[[str], str] = str


def without_escapes(text: str) -> str:
    """Yelp's texts have line breaks as "\\n" and quotation marks doubled or escaped."""
    return text.replace("\\n", " ").replace('\\"', '"').replace('""', '"')


_PLAIN = {"text": "text", "label": "label"}

KNOWN: Mapping[str, Known] = MappingProxyType(
    {
        "imdb_reviews": Known(_PLAIN, without_breaks),
        "ag_news_subset": Known(
            {"text": "title+description", "label": "label"}, without_remains
        ),
        "yelp_polarity_reviews": Known(_PLAIN, without_escapes),
        "glue/sst2": Known({"text": "sentence", "label": "label"}),
        "movie_rationales": Known(
            {"text": "review", "label": "label", "evidence": "evidences"}
        ),
        "mnist": Known({"image": "image", "label": "label"}),
    }
)


def known(builder: Any) -> Known | None:
    """What is known of a data set, by its name or by name and configuration."""
    config = builder.builder_config
    both = f"{builder.name}/{config.name if config else ''}"
    return KNOWN.get(both) or KNOWN.get(builder.name)


def flat(features: Any, prefix: str = "") -> dict[str, Any]:
    """Name -> feature; what is within another feature is called "outer/inner"."""
    leaves: dict[str, Any] = {}
    # TFDS gives them in another order every time.
    for name, feature in sorted(features.items()):
        if isinstance(feature, tfds.features.FeaturesDict):
            leaves |= flat(feature, f"{prefix}{name}/")
        else:
            leaves[prefix + name] = feature
    return leaves


def is_text(feature: Any) -> bool:
    """Whether it is one text."""
    return feature.shape == () and feature.np_dtype == np.object_


def is_texts(feature: Any) -> bool:
    """Whether it is a list of texts."""
    return feature.shape == (None,) and feature.np_dtype == np.object_


def is_whole(feature: Any) -> bool:
    """Whether it is one whole number, as a label is."""
    kind = feature.np_dtype
    return feature.shape == () and np.dtype(kind).kind in "iub"


_FIT: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "text": lambda f: is_text(f) or is_texts(f),
        "image": lambda f: isinstance(f, tfds.features.Image),
        "label": lambda f: is_whole(f) or is_text(f),
        "evidence": is_texts,
        "id": lambda f: is_whole(f) or is_text(f),
        "group": lambda f: is_whole(f) or is_text(f),
    }
)


def named(
    source: str, builder: Any, there: Mapping[str, Any], fields: Sequence[str]
) -> dict:
    """The field of each role; "" where there is none.

    Raises: ValueError, naming the fields there are, where one is missing, cannot be
    guessed or holds something else.
    """
    usual: dict[str, str] = dict.fromkeys(ROLES, "")
    own = known(builder)
    usual.update(own.fields if own else _guessed(there, builder))
    roles = chosen(source, fields, usual)
    for role in ("text", "image"):
        # Naming the one means that it is not the other.
        if roles[role] != usual[role]:
            roles |= {r: "" for r in ("text", "image") if roles[r] == usual[r]}
    told = "; ".join(f"{name} ({_kind(f)})" for name, f in there.items())
    for role, does in (("text", "text=FIELD or image=FIELD"), ("label", "label=FIELD")):
        if not roles[role] and not (role == "text" and roles["image"]):
            raise ValueError(
                f"{source}: which field is the {role}? --fields {does}; "
                f"there are: {told}"
            )
    for role, field in roles.items():
        for name in _parts(role, field):
            check_there(source, role, name, there)
            if not _FIT[role](there[name]):
                raise ValueError(
                    f"{source}: {role}={name} is of no use: it is "
                    f"{_kind(there[name])}; there are: {told}"
                )
    return roles


def _parts(role: str, field: str) -> list[str]:
    return list(filter(None, field.split("+") if role == "text" else [field]))


def _guessed(there: Mapping[str, Any], builder: Any) -> dict[str, str]:
    usual: dict[str, str] = {}
    supervised = builder.info.supervised_keys
    if isinstance(supervised, tuple) and len(supervised) == 2:
        given, usual["label"] = map(str, supervised)
        image = isinstance(there.get(given), tfds.features.Image)
        usual["image" if image else "text"] = given
        return usual
    texts = [name for name, feature in there.items() if is_text(feature)]
    labels = [
        name
        for name, feature in there.items()
        if isinstance(feature, tfds.features.ClassLabel)
    ]
    usual |= {"text": texts[0]} if len(texts) == 1 else {}
    return usual | ({"label": labels[0]} if len(labels) == 1 else {})


def _kind(feature: Any) -> str:
    if isinstance(feature, tfds.features.ClassLabel):
        return f"{feature.num_classes} classes"
    if isinstance(feature, tfds.features.Image):
        return "image"
    if is_text(feature):
        return "text"
    if is_texts(feature):
        return "texts"
    if isinstance(feature.np_dtype, dict):
        return "records"
    shape = "" if feature.shape == () else f" {list(feature.shape)}"
    return f"{np.dtype(feature.np_dtype).name}{shape}"


def values(raw: bytes, fields: Iterable[str], where: str) -> dict[str, list]:
    """The values of some fields of a serialised example; ValueError where damaged.

    Ten times faster than to let TFDS decode the example.
    """
    try:
        example = _proto.Example.FromString(raw).features.feature
        kinds = {name: example[name].WhichOneof("kind") for name in fields}
        return {
            name: list(getattr(example[name], kind).value) if kind else []
            for name, kind in kinds.items()
        }
    except Exception as error:
        raise ValueError(f"{where}: damaged ({type(error).__name__})") from error
