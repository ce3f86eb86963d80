"""A reader that has no directory: the Run:ai Model Streamer, straight from S3 into the loading process.

`python -m benchmarks.streamer BUCKET/PREFIX READER RANK`, as `benchmarks.readers`. Every rank of `tp4`
fetches the whole model and keeps its share, which is what the streamer does without a process group.
"""

import sys
import time

import numpy as np
import torch
import xxhash
from runai_model_streamer import SafetensorsStreamer, list_safetensors

from benchmarks.readers import PIECE_BYTES_MAX, READERS, Sheet, desks, report, wait_for_word
from lazyfs.core.plan import natural_key


def load(prefix: str, rank: int, ranks: int) -> dict[str, float | int]:
    """Wait for the word; stream all tensors; copy this rank's share of each."""
    desk, sheet = desks(1).get(), Sheet()
    wait_for_word()
    ready_s = begun_s = time.monotonic()
    with SafetensorsStreamer() as streamer:
        # owned=False: views of the streamer's buffers, since each is copied at once
        streamer.stream_files(sorted(list_safetensors(f"s3://{prefix}"), key=natural_key), owned=False)
        for _, tensor in streamer.get_tensors():
            flat = tensor.reshape(-1).view(torch.uint8).numpy()
            start, stop = (flat.size * edge // ranks for edge in (rank, rank + 1))
            for begin in range(start, stop, PIECE_BYTES_MAX):
                target = desk[: min(PIECE_BYTES_MAX, stop - begin)]
                np.copyto(np.frombuffer(target, np.uint8), flat[begin : begin + len(target)])
                ended_s = time.monotonic()
                sheet.add(xxhash.xxh3_64_intdigest(target), len(target), begun_s, ended_s)
                begun_s = time.monotonic()
    return sheet.result(ready_s)


if __name__ == "__main__":
    place, name, rank_ = sys.argv[1:]
    report(load(place, int(rank_), READERS[name].ranks))
