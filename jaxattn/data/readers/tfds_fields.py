"""Which fields of a TFDS data set are its text, label and so on.

This module imports tensorflow_datasets, so others import it late.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxattn.data.readers.archives import without_breaks, without_remains
from jaxattn.data.readers.options import check_there, chosen
from jaxattn.data.tfds_records import records, values
from jaxattn.system.lines import decoded

log = logging.getLogger("jaxattn")
ROLES = ("text", "image", "label", "evidence", "id", "group")


class Known(NamedTuple):
    """The field of each role of a data set, and how to clean its texts."""

    fields: Mapping[str, str]
    clean: Callable[[str], str] = str


def without_escapes(text: str) -> str:
    """Yelp's texts have line breaks as "\\n" and quotation marks doubled or escaped."""
    return text.replace("\\n", " ").replace('\\"', '"').replace('""', '"')


_PLAIN = {"text": "text", "label": "label"}

KNOWN: Mapping[str, Known] = {
    "imdb_reviews": Known(_PLAIN, without_breaks),
    "ag_news_subset": Known(_PLAIN | {"text": "title+description"}, without_remains),
    "yelp_polarity_reviews": Known(_PLAIN, without_escapes),
    "glue/sst2": Known(_PLAIN | {"text": "sentence"}),
    "movie_rationales": Known(_PLAIN | {"text": "review", "evidence": "evidences"}),
    "mnist": Known({"image": "image", "label": "label"}),
}


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


def kind_of(feature: Any) -> str:
    """What a feature holds: "text", "texts", "image", "3 classes", "int32" ...."""
    if isinstance(feature, tfds.features.ClassLabel):
        return f"{feature.num_classes} classes"
    if isinstance(feature, tfds.features.Image):
        return "image"
    if isinstance(feature.np_dtype, dict):
        return "records"
    shape = "" if feature.shape == () else f" {list(feature.shape)}"
    kind = f"{np.dtype(feature.np_dtype).name}{shape}"
    return {"object": "text", "object [None]": "texts"}.get(kind, kind)


def _is_name(feature: Any) -> bool:
    return feature.shape == () and np.dtype(feature.np_dtype).kind in "iubO"


_FIT: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda feature: kind_of(feature) in ("text", "texts"),
    "image": lambda feature: kind_of(feature) == "image",
    "label": _is_name,
    "evidence": lambda feature: kind_of(feature) == "texts",
    "id": _is_name,
    "group": _is_name,
}


class Source(NamedTuple):
    """A prepared data set, and how it is read."""

    name: str
    """For messages, as "tfds:glue/sst2"."""
    builder: Any
    splits: dict[str, str | None]
    """The split of ours for each one that is read; None where we divide it."""
    there: Mapping[str, Any]
    """Every feature by its name."""
    roles: Mapping[str, str]

    def coded(self) -> bool:
        """Whether labels are numbers of classes."""
        label = self.there[self.roles["label"]]
        return isinstance(label, tfds.features.ClassLabel)

    def examples(self, *wanted: str) -> Iterator[tuple[str, str | None, dict]]:
        """Place, split of ours and values of every example that has a label."""
        label, unlabelled = self.roles["label"], 0
        for split, ours in self.splits.items():
            for number, raw in enumerate(records(self.builder, split), 1):
                where = f"{self.name}, {split} {number}"
                got = values(raw, [label, *filter(None, wanted)], where)
                if self.coded() and got[label] == [-1]:
                    unlabelled += 1
                else:
                    yield where, ours, got
        if unlabelled:
            log.info(f"{self.name}: left out {unlabelled:,} examples without a label")


def one(got: Mapping[str, list], name: str, where: str) -> Any:
    """The value of a field that must have a single one."""
    if len(got[name]) != 1:
        raise ValueError(f"{where}: {name} has {len(got[name])} values instead of one")
    value = got[name][0]
    return decoded(value, where) if isinstance(value, bytes) else value


def named(
    source: str, builder: Any, there: Mapping[str, Any], fields: Sequence[str]
) -> dict:
    """The field of each role; "" where there is none."""
    own = known(builder)
    usual: dict[str, str] = dict.fromkeys(ROLES, "")
    usual |= dict(own.fields if own else _guessed(there, builder))
    roles = chosen(source, fields, usual)
    for role in ("text", "image"):
        # Naming the one means that it is not the other.
        if roles[role] != usual[role]:
            roles |= {r: "" for r in ("text", "image") if roles[r] == usual[r]}
    told = "; ".join(f"{name} ({kind_of(f)})" for name, f in there.items())
    for role, does in (("text", "text=FIELD or image=FIELD"), ("label", "label=FIELD")):
        if not roles[role] and not (role == "text" and roles["image"]):
            raise ValueError(
                f"{source}: which field is the {role}? --fields {does}; "
                f"there are: {told}"
            )
    for role, field in roles.items():
        for name in filter(None, field.split("+") if role == "text" else [field]):
            check_there(source, role, name, there)
            if not _FIT[role](there[name]):
                raise ValueError(
                    f"{source}: {role}={name} is of no use: it is "
                    f"{kind_of(there[name])}; there are: {told}"
                )
    return roles


def _guessed(there: Mapping[str, Any], builder: Any) -> dict[str, str]:
    supervised = builder.info.supervised_keys
    if isinstance(supervised, tuple) and len(supervised) == 2:
        given, label = map(str, supervised)
        image = given in there and kind_of(there[given]) == "image"
        return {"image" if image else "text": given, "label": label}
    usual: dict[str, str] = {}
    for role, ending in (("text", "text"), ("label", " classes")):
        fitting = [name for name in there if kind_of(there[name]).endswith(ending)]
        usual |= {role: fitting[0]} if len(fitting) == 1 else {}
    return usual
