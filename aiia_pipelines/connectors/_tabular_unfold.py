"""Texts that are stored once and repeated by number, unfolded only as far as memory allows."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Sizes = npt.NDArray[np.int64]


def pieces(batch: pa.RecordBatch, target: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Cut a batch into pieces whose repeated texts unfold to `target` bytes, or one row each, with that size."""
    sizes = sum((_sizes(column) for column in batch.columns), np.zeros(len(batch), np.int64))
    ends = np.cumsum(sizes)
    first = 0
    while first < len(batch):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + target, "right")))
        yield batch.slice(first, last - first), int(ends[last - 1]) - before
        first = last


def _sizes(array: pa.Array) -> Sizes:
    """Tell for each row how many bytes its repeated texts have."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _of_texts(array)
    if pa.types.is_struct(kind):
        fields = [array.field(place) for place in range(kind.num_fields)]
        return sum((_sizes(field) for field in fields), np.zeros(len(array), np.int64))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        inner = _of_items(array)
        offsets = array.offsets.to_numpy(zero_copy_only=False)
        upto = np.concatenate([np.zeros(1, np.int64), np.cumsum(inner)])
        found: Sizes = upto[offsets[1:]] - upto[offsets[:-1]]
        return found
    return np.zeros(len(array), np.int64)


def _of_items(array: pa.Array) -> Sizes:
    if pa.types.is_map(array.type):
        return _sizes(array.keys) + _sizes(array.items)
    return _sizes(array.values)


def _of_texts(array: pa.DictionaryArray) -> Sizes:
    value = array.type.value_type
    if not (pa.types.is_binary(value) or pa.types.is_string(value)):
        return np.zeros(len(array), np.int64)
    lengths = pc.fill_null(pc.binary_length(array.dictionary), 0)
    sizes = pc.fill_null(pc.take(lengths, array.indices), 0)
    found: Sizes = sizes.to_numpy(zero_copy_only=False).astype(np.int64)
    return found
