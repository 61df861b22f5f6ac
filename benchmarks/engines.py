"""Compare time, memory and scores of whole predictions in two precisions with llama.cpp's.

    python benchmarks/engines.py                     both real models
    python benchmarks/engines.py --model smollm2 --texts 9 --rounds 1
    python benchmarks/engines.py --table             the tables from the existing JSON

``--model`` takes ``gemma3``, ``smollm2`` or a GGUF file. Every measurement is a process of its own,
with 16 shots of two reviews each, two labels of one token, and the same token ids on both sides.
Processes of all kinds take turns. llama.cpp is driven as ``peers/llama.py`` says; rows of it need
``CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python`` and are left out without it.
Measurements go into ``results/engines.json``, and the tables into ``results/engines.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from engines_tables import CALIBRATED, LLAMA, LLAMA_FILE, OURS, tabulate_memory, tabulate_times
from measuring import RESULTS, Settings, environment, run_fresh, set_threads
from processes import Stages
from tables import load_record, page, save_page, save_record


def main() -> None:
    arguments = _parse()
    settings = Settings(rounds=arguments.rounds, threads=arguments.threads, out=arguments.out)
    set_threads(settings.threads)
    if not arguments.table:
        record: dict[str, Any] = {"environment": environment(settings), "cases": []}
        record |= {"batch": arguments.batch, "flash": arguments.flash}
        record["environment"]["packages"]["llama-cpp-python"] = _llama_version()
        for model in arguments.model:
            case: dict[str, Any] = {"model": model, "kinds": {}}
            record["cases"].append(case)
            for kind, run in _measure(case, arguments, settings):
                case["kinds"].setdefault(kind, []).append(run)
                save_record(record, "engines", settings.out)
    record = load_record("engines", settings.out)
    text = page(record, [tabulate_times(record), tabulate_memory(record)])
    print(text, flush=True)
    save_page(text, "engines", settings.out)


def _measure(
    case: dict[str, Any], arguments: argparse.Namespace, settings: Settings
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each engine measures with one model, all engines once a round."""
    from models import find_model  # noqa: PLC0415  (imports transformers, which processes measure)

    options = {"path": find_model(case["model"]), "n_texts": arguments.texts}
    options["threads"] = settings.threads
    with tempfile.TemporaryDirectory() as folder:
        files = _llama_files(options["path"], Path(folder))
        given: dict[str, Any] = {}
        for _ in range(settings.rounds):
            for kind in OURS:
                run = run_fresh("engines:ours", kind=kind, **options)
                given = {name: run.pop(name) for name in ("prefix", "tails", "labels")}
                case["tokens"] = _count(given)
                yield kind, run
            for kind, file in files.items():
                common = {"threads": settings.threads, "batch": arguments.batch}
                common["flash"] = arguments.flash
                yield kind, run_fresh("peers.llama:score", path=file, **common, **given)
    run = run_fresh("engines:ours", kind=CALIBRATED, **options)  # for its memory
    yield CALIBRATED, {name: run[name] for name in ("stages", "scores")}


def _llama_files(path: str, folder: Path) -> dict[str, str]:
    """Return the files that llama.cpp reads: in bfloat16, as ours computes, and as it is."""
    if find_spec("llama_cpp") is None:
        return {}
    from peers.llama import write_bfloat16  # noqa: PLC0415  (may not be installed)

    return {LLAMA: str(write_bfloat16(path, folder / "bfloat16.gguf")), LLAMA_FILE: path}


def _llama_version() -> str | None:
    if find_spec("llama_cpp") is None:
        return None
    try:
        return metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:  # put next to other packages without being installed
        import llama_cpp  # noqa: PLC0415

        return llama_cpp.__version__


# One process each


def ours(*, path: str, kind: str, n_texts: int, threads: int) -> dict[str, Any]:
    """Fit, predict one text and then all, and return the scores with time and memory."""
    set_threads(threads)
    stages = Stages()
    import transformers.modeling_utils  # noqa: F401, PLC0415  (which any model imports)
    from texts import SHOT, TEXT, TWO_LABELS, paired_reviews  # noqa: PLC0415

    from instructclf import ModelOptions, PromptClassifier  # noqa: PLC0415

    stages.end("imports")
    classifier = PromptClassifier(
        path,
        n_shots=16,
        calibration="auto" if kind == CALIBRATED else None,
        random_state=0,
        model_options=ModelOptions(dtype=kind.split(",", maxsplit=1)[0]),
    )
    tokenizer = classifier.open_model().base.tokenizer
    stages.end("load")
    shots = paired_reviews(tokenizer, SHOT, 16, TWO_LABELS, split="train", seed=0)
    texts = paired_reviews(tokenizer, TEXT, n_texts, TWO_LABELS, seed=1).texts
    stages.end("data")
    classifier.fit(shots.texts, shots.labels)
    stages.end("fit")
    classifier.label_log_likelihood(texts[:1])
    stages.end("first text")
    scores = classifier.label_log_likelihood(texts)
    stages.end("texts")
    return {"stages": stages.found, "scores": scores.tolist(), **_token_ids(classifier, texts)}


def _token_ids(classifier: Any, texts: list[str]) -> dict[str, Any]:
    """Return the token ids of the prefix, of what follows it, and of the labels."""
    encoder = classifier.labeller_.scorer(classifier.open_model).encoder
    prefix, prompts = list(encoder.prefix_ids), encoder.encode(texts)
    edges = prompts[0].trie.edges
    if len(edges) != len(encoder.verbalizer.answers):
        msg = "A label has more than one token, which peers/llama.py does not score."
        raise ValueError(msg)
    tails = [list(prompt.ids[len(prefix) :]) for prompt in prompts]
    labels = [token for _, _, token in sorted(edges)]
    return {"prefix": prefix, "tails": tails, "labels": labels}


def _count(given: dict[str, Any]) -> dict[str, float]:
    return {"prefix": len(given["prefix"]), "text": median(map(len, given["tails"]))}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="default: gemma3 and smollm2")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=512, help="tokens at once in llama.cpp")
    parser.add_argument("--flash", action="store_true", help="fused attention in llama.cpp")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only make the tables again")
    arguments = parser.parse_args()
    arguments.model = arguments.model or ["gemma3", "smollm2"]
    return arguments


if __name__ == "__main__":
    main()
