"""Runs where vLLM is installed: loads models as it is told, and says what came out of them and when.

One order a line comes on standard input and is answered by one line, both JSON. Everything else that engines
print goes to standard error. Times are of the clock that all processes of a machine share.
"""

import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROMPTS = ("w11 w222 w33 w444", "w5 w66 w777 w88 w999 w1010", "w7999")
TOKENS_MAX = 8


class Noted:
    """What a load has done, and when (seconds of `time.monotonic`); with `digest`, of which bytes."""

    def __init__(self, *, digest: bool) -> None:
        self.times: dict[str, float] = {}
        self.digests: dict[str, str] = {}
        self._digest = digest

    def now(self, event: str) -> None:
        """Note the time of an event."""
        self.times[event] = time.monotonic()

    def tensors(self, found: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Pass tensors on, and note what they hold."""
        import torch

        for name, tensor in found:
            if self._digest:
                bits = tensor.detach().contiguous().view(torch.uint8).numpy()
                self.digests[name] = hashlib.sha256(bits).hexdigest()
            yield name, tensor


@contextmanager
def _watched(noted: Noted) -> Iterator[None]:
    """Note when vLLM wants the weights, what its reader gives it, and when they are loaded."""
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
    from vllm.model_executor.model_loader.runai_streamer_loader import RunaiModelStreamerLoader

    def watch(kind: Any) -> Callable[[], None]:
        load, get = kind.load_weights, kind.get_all_weights

        def load_weights(self: Any, *arguments: Any, **options: Any) -> None:
            noted.now("weights_wanted")
            load(self, *arguments, **options)
            noted.now("weights_loaded")

        def get_all_weights(self: Any, *arguments: Any, **options: Any) -> Iterator[tuple[str, Any]]:
            return noted.tensors(get(self, *arguments, **options))

        kind.load_weights, kind.get_all_weights = load_weights, get_all_weights

        def restore() -> None:
            kind.load_weights, kind.get_all_weights = load, get

        return restore

    restores = [watch(kind) for kind in (DefaultModelLoader, RunaiModelStreamerLoader)]
    try:
        yield
    finally:
        for restore in restores:
            restore()


def vllm(directory: str, noted: Noted, **options: Any) -> dict[str, Any]:
    """Start an engine, say one token, then all of them."""
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    noted.now("imported")
    with _watched(noted):
        engine = LLM(model=directory, enforce_eager=True, max_model_len=256, seed=0, **options)
    noted.now("ready")
    engine.generate(PROMPTS[0], SamplingParams(temperature=0, max_tokens=1), use_tqdm=False)
    noted.now("first_token")
    wish = SamplingParams(temperature=0, max_tokens=TOKENS_MAX, ignore_eos=True, logprobs=0)
    said = [request.outputs[0] for request in engine.generate(list(PROMPTS), wish, use_tqdm=False)]
    del engine
    cleanup_dist_env_and_memory()
    return {
        "tokens": [list(one.token_ids) for one in said],
        "logprobs": [
            [step[token].logprob for token, step in zip(one.token_ids, one.logprobs, strict=True)]
            for one in said
        ],
    }


def transformers(directory: str, noted: Noted, **options: Any) -> dict[str, Any]:
    """Load with `from_pretrained` and let it speak."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="auto", **options)
    for _ in noted.tensors(model.state_dict().items()):
        pass
    said = []
    for prompt in PROMPTS:
        words = tokenizer(prompt, return_tensors="pt")
        tokens = model.generate(words.input_ids, max_new_tokens=TOKENS_MAX, do_sample=False)[0]
        said.append(tokens[words.input_ids.shape[1] :].tolist())
    return {"tokens": said}


def remote_code(model: str, _noted: Noted) -> dict[str, Any]:
    """Have the code run that comes with a model."""
    from transformers import AutoConfig

    return {"said": AutoConfig.from_pretrained(model, trust_remote_code=True).said}


def safetensors(directory: str, noted: Noted) -> dict[str, Any]:
    """Read every tensor by mmap: the yardstick for the others."""
    from safetensors import safe_open

    for shard in _shards(directory):
        with safe_open(shard, "pt") as file:
            for _ in noted.tensors((name, file.get_tensor(name)) for name in file.keys()):  # noqa: SIM118
                pass
    return {}


def fastsafetensors(directory: str, noted: Noted) -> dict[str, Any]:
    """Read every tensor by its own threads and bounce buffers."""
    from fastsafetensors import fastsafe_open

    with fastsafe_open(_shards(directory), nogds=True, device="cpu") as file:
        for _ in noted.tensors((name, file.get_tensor(name)) for name in file.keys()):  # noqa: SIM118
            pass
    return {}


def runai(directory: str, noted: Noted) -> dict[str, Any]:
    """Read every tensor by the threads of Run:ai's streamer."""
    from runai_model_streamer import SafetensorsStreamer

    with SafetensorsStreamer() as streamer:
        streamer.stream_files(_shards(directory))
        for _ in noted.tensors(streamer.get_tensors()):
            pass
    return {}


def _shards(directory: str) -> list[str]:
    return [str(path) for path in sorted(Path(directory).glob("*.safetensors"))]


READERS: dict[str, Callable[..., dict[str, Any]]] = {
    reader.__name__: reader
    for reader in (vllm, transformers, remote_code, safetensors, fastsafetensors, runai)
}


def main() -> None:
    """Obey until standard input closes. An order that fails ends it: the traceback says why."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        noted = Noted(digest=order["digest"])
        answer = READERS[order["reader"]](order["directory"], noted, **order["options"])
        gc.collect()
        answers.write(json.dumps({**answer, "times": noted.times, "digests": noted.digests}) + "\n")
        answers.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
