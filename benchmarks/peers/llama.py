"""llama.cpp through its own interface: one prefix in its cache, which all texts read.

Its fastest way to score labels: the prefix is computed once and shared between sequences without
copying data, texts are packed without padding, and logits are computed at the last token only.

    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python==0.3.36
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as library
from numpy.typing import NDArray
from processes import Stages

_MOST_TEXTS = 16
"""At once, in as many sequences after that of the prefix."""
_PREFIX = 0
_BFLOAT16 = 30
"""Of the keys and values in the cache, by ggml's number."""


@library.llama_log_callback
def _keep_quiet(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    pass


def write_bfloat16(source: str, target: Path) -> Path:
    """Write the weights of a GGUF file in bfloat16 into another one, with llama.cpp's own tool."""
    _start()
    options = library.llama_model_quantize_default_params()
    options.nthread, options.allow_requantize = 1, True
    options.ftype = library.LLAMA_FTYPE_MOSTLY_BF16
    if library.llama_model_quantize(source.encode(), str(target).encode(), ctypes.byref(options)):
        msg = f"llama.cpp could not write {source!r} in bfloat16."
        raise RuntimeError(msg)
    return target


def score(
    *,
    path: str,
    prefix: list[int],
    tails: list[list[int]],
    labels: list[int],
    batch: int,
    threads: int,
    flash: bool,
) -> dict[str, Any]:
    """Score texts after a prefix, and return the scores with time and memory."""
    stages = Stages()
    scorer = LlamaScorer(
        path, n_context=len(prefix) + batch, n_batch=batch, threads=threads, flash=flash
    )
    stages.end("load")
    scorer.compute_prefix(prefix)
    scorer.score(tails[:1], labels)
    stages.end("first text")
    scores = scorer.score(tails, labels)
    stages.end("texts")
    return {"stages": stages.found, "scores": scores.tolist()}


class LlamaScorer:
    """A model of a GGUF file, and the prefix that it has computed.

    Parameters
    ----------
    path : str
        The file.
    n_context : int
        Tokens that its cache has room for: the prefix, and the texts of a batch.
    n_batch : int
        The most tokens of texts that go through the model at once.
    threads : int
        Its threads.
    flash : bool
        Whether attention runs in one fused kernel.
    """

    def __init__(
        self, path: str, *, n_context: int, n_batch: int, threads: int, flash: bool
    ) -> None:
        _start()
        self._n_batch = n_batch
        self._model = library.llama_model_load_from_file(
            path.encode(), library.llama_model_default_params()
        )
        options = library.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = n_context, n_batch, n_batch
        options.n_seq_max = options.n_outputs_max = _MOST_TEXTS + 1
        options.n_threads = options.n_threads_batch = threads
        options.type_k = options.type_v = _BFLOAT16
        options.flash_attn_type = (
            library.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if flash
            else library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        options.kv_unified = True
        self._context = library.llama_init_from_model(self._model, options)
        if not self._context:
            msg = f"llama.cpp could not open {path!r}."
            raise RuntimeError(msg)
        self._memory = library.llama_get_memory(self._context)
        vocabulary = library.llama_model_get_vocab(self._model)
        self._n_vocabulary = library.llama_vocab_n_tokens(vocabulary)
        self._batch = library.llama_batch_init(n_batch, 0, 1)
        self._n_prefix = 0

    def compute_prefix(self, ids: Sequence[int]) -> None:
        """Compute the keys and values of the tokens that all texts follow."""
        self._n_prefix = len(ids)
        for start in range(0, len(ids), self._n_batch):
            chunk = ids[start : start + self._n_batch]
            self._run([(_PREFIX, start, chunk)], reads=False)

    def score(self, tails: Sequence[Sequence[int]], labels: Sequence[int]) -> NDArray[np.float64]:
        """Return ``log p(label | prompt)`` of labels of one token, (n_texts, n_labels)."""
        scores: list[NDArray[np.float64]] = []
        for group in self._groups(tails):
            rows = [(row, self._n_prefix, tail) for row, tail in enumerate(group, start=1)]
            for row, _, _ in rows:
                library.llama_memory_seq_cp(self._memory, _PREFIX, row, -1, -1)
            scores += [_log_softmax(logits)[list(labels)] for logits in self._run(rows, reads=True)]
            for row, _, _ in rows:
                library.llama_memory_seq_rm(self._memory, row, -1, -1)
        return np.array(scores)

    def _groups(self, tails: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
        group: list[Sequence[int]] = []
        for tail in tails:
            is_full = sum(map(len, group)) + len(tail) > self._n_batch
            if group and (is_full or len(group) == _MOST_TEXTS):
                yield group
                group = []
            group.append(tail)
        yield group

    def _run(
        self, rows: Sequence[tuple[int, int, Sequence[int]]], *, reads: bool
    ) -> list[NDArray[np.float32]]:
        """Send rows of (sequence, first position, tokens) through, and return their last logits."""
        batch, n_tokens, ends = self._batch, 0, []
        for sequence, first, ids in rows:
            for offset, token in enumerate(ids):
                batch.token[n_tokens] = token
                batch.pos[n_tokens] = first + offset
                batch.n_seq_id[n_tokens] = 1
                batch.seq_id[n_tokens][0] = sequence
                batch.logits[n_tokens] = reads and offset == len(ids) - 1
                n_tokens += 1
            ends.append(n_tokens - 1)
        batch.n_tokens = n_tokens
        error = library.llama_decode(self._context, batch)
        if error:
            msg = f"llama.cpp stopped with error {error}."
            raise RuntimeError(msg)
        return [self._logits(end) for end in ends] if reads else []

    def _logits(self, position: int) -> NDArray[np.float32]:
        pointer = library.llama_get_logits_ith(self._context, position)
        return np.ctypeslib.as_array(pointer, shape=(self._n_vocabulary,))


def _start() -> None:
    library.llama_log_set(_keep_quiet, ctypes.c_void_p())
    library.llama_backend_init()


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max()
    return wide - np.log(np.exp(wide).sum())
