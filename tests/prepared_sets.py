"""Small TFDS data sets in the true formats, made without TensorFlow."""

import io
import json
import struct

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from jaxattn.data.tfds_records import quiet


def prepare(folder, called, features, splits, config=None, version="1.0.0", **more):
    """Prepares a data set as array_record; returns the folder of its version.

    `splits` has the examples by the name of the split.
    """
    with registered.skip_registration():

        class Made(tfds.core.GeneratorBasedBuilder):
            name = called
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = (
                [tfds.core.BuilderConfig(name=config, version=version)]
                if config
                else []
            )

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    disable_shuffling=True,
                    **more,
                )

            def _split_generators(self, dl_manager):
                return {split: enumerate(rows) for split, rows in splits.items()}

            def _generate_examples(self):
                raise NotImplementedError

    builder = Made(data_dir=str(folder), file_format="array_record")
    with quiet():
        builder.download_and_prepare()
    return folder / called / (config or "") / version


def frame(record):
    """A record as it stands in a TFRecord file, with checksums that are none."""
    return struct.pack("<QI", len(record), 0) + record + bytes(4)


def to_tfrecord(folder, shards=2):
    """Makes the array_record files of a prepared data set TFRecord files."""
    builder = tfds.builder_from_directory(folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        source = builder.as_data_source(split["name"], deserialize_method=raw)
        records = [source[i] for i in range(len(source))]
        sizes = []
        for shard, part in enumerate(np.array_split(np.arange(len(records)), shards)):
            name = f"{builder.name}-{split['name']}.tfrecord-{shard:05}-of-{shards:05}"
            framed = b"".join(frame(records[i]) for i in part)
            (folder / name).write_bytes(framed)
            sizes.append(str(len(part)))
        split["shardLengths"] = sizes
        split["filepathTemplate"] = split["filepathTemplate"].replace(
            "array_record", "tfrecord"
        )
    info["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for old in folder.glob("*.array_record*"):
        old.unlink()


def png(array):
    """An image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return io.BytesIO(file.getvalue())
