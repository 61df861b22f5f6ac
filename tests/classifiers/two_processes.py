"""What two processes do together: run by a launcher in each of them, and by a test alone.

Each step returns arrays or strings. The script writes them to ``rank-0`` and ``rank-1``.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructclf import InstructionTunedClassifier, PromptClassifier, predict_in_chunks
from instructclf.sampling import BalancedSampler

TEXTS = [f"good thing {i}" for i in range(8)] + [f"bad thing {i}" for i in range(8)]
LABELS = ["positive"] * 8 + ["negative"] * 8
NEW = [*TEXTS[::3], "good", "bad", "good", "a thing of which there is much to say " * 9]
TUNING = {
    "learning_rate": 0.01,
    "max_epochs": 3,
    "train_batch_size": 3,  # a batch has rows for one process and a half
    "lora_rank": 4,
    "n_shots": 11,
    "random_state": 0,
    "dtype": "float64",
}
RANK = int(os.environ.get("RANK", "0"))


def describe(tuned):
    return {
        "loss_curve": np.array(tuned.loss_curve_),
        "stopped_by": tuned.stopped_by_,
        "shots": tuned.shots_,
        "probabilities": tuned.predict_proba(NEW),
        **{name: weight.numpy() for name, weight in tuned.adapter_.items()},
    }


def tune(folder, **changes):
    return describe(InstructionTunedClassifier(folder, **(TUNING | changes)).fit(TEXTS, LABELS))


def tune_plainly(folder):
    return tune(folder)


def tune_until_it_is_good_enough(folder):
    return tune(folder, max_epochs=20, target_loss=0.1)


def tune_the_upper_layer_on_rows_that_count_differently(folder):
    classifier = InstructionTunedClassifier(folder, **(TUNING | {"n_tuned_layers": 1}))
    return describe(classifier.fit(TEXTS, LABELS, sample_weight=np.arange(1, 17)))


def place_beside(folder, name):
    return Path(folder).with_name(f"{name}-of-{os.environ.get('WORLD_SIZE', '1')}")


def tune_and_take_what_was_kept(folder):
    kept = place_beside(folder, "kept")
    first = tune(folder, checkpoint_dir=kept)
    again = tune(folder, checkpoint_dir=kept)
    return {**first, **{f"again {name}": value for name, value in again.items()}}


def predict_in_chunks_that_are_kept(folder):
    kept = place_beside(folder, "chunks")
    classifier = PromptClassifier(folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    first = predict_in_chunks(classifier, NEW, kept, chunk_size=3)
    if RANK == 0:
        (kept / "chunk-000001.safetensors").unlink()
    return {"first": first, "again": predict_in_chunks(classifier, NEW, kept, chunk_size=3)}


def prompt(folder):
    classifier = PromptClassifier(folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    return {"probabilities": classifier.predict_proba(NEW)}


def prompt_with_a_text_too_few_for_all(folder):
    classifier = PromptClassifier(folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    return {"probabilities": classifier.predict_proba(["good"])}


def average_over_seeds(folder):
    classifier = InstructionTunedClassifier(folder, **(TUNING | {"n_seeds": 2, "max_epochs": 1}))
    return {"probabilities": classifier.fit(TEXTS, LABELS).predict_proba(NEW)}


def draw_without_a_seed(folder):
    return tune(folder, random_state=None, max_epochs=1)


def draw_from_a_generator(folder):
    generator = np.random.RandomState(RANK)
    tuned = tune(folder, random_state=generator, max_epochs=1)
    return tuned | {"next": np.array([generator.randint(1000)])}


def _run_out_of_memory(module, arguments, options):
    if RANK == 1 and options["input_ids"].numel() > 150:
        raise torch.OutOfMemoryError("more than this process has")


def tune_where_one_process_has_less_memory(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    model.register_forward_pre_hook(_run_out_of_memory, with_kwargs=True)
    pair = (model, AutoTokenizer.from_pretrained(folder))
    return describe(InstructionTunedClassifier(pair, **TUNING).fit(TEXTS, LABELS))


ALIKE = [
    tune_plainly,
    tune_until_it_is_good_enough,
    tune_the_upper_layer_on_rows_that_count_differently,
    prompt,
    prompt_with_a_text_too_few_for_all,
    average_over_seeds,
    tune_and_take_what_was_kept,
    predict_in_chunks_that_are_kept,
    tune_where_one_process_has_less_memory,
]
"""Steps whose results do not depend on the number of processes."""


class SamplerWithAFault(BalancedSampler):
    """Fails in the second process only."""

    def select(self, *arguments, **options):
        if RANK == 1:
            raise OSError("its disk is full")
        return super().select(*arguments, **options)


def error_of(call):
    try:
        call()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": "none"}


def fail_in_one_process(folder):
    sampler = SamplerWithAFault()
    classifier = PromptClassifier(folder, n_shots=4, sampler=sampler, random_state=0)
    return error_of(lambda: classifier.fit(TEXTS, LABELS))


def get_other_rows(folder):
    classifier = PromptClassifier(folder, n_shots=4, random_state=0)
    return error_of(lambda: classifier.fit(TEXTS[RANK:], LABELS[RANK:]))


def get_other_texts(folder):
    classifier = PromptClassifier(folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    return error_of(lambda: classifier.predict(TEXTS[RANK:]))


def ask_one_process_only(folder):
    """Rank 1 never comes here, and nobody waits for it."""
    classifier = PromptClassifier(folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    if RANK == 1:
        return {}
    found = {}

    def ask():
        found["in a thread"] = classifier.predict_proba(NEW)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    alone = pickle.loads(pickle.dumps(classifier)).set_params(distributed=None)
    return found | {"alone": alone.predict_proba(NEW)}


def save(folder):
    place = Path(os.environ["RESULTS"])
    classifier = InstructionTunedClassifier(folder, **TUNING, verbose=1)
    classifier.fit(TEXTS, LABELS).save(place / f"saved-by-{RANK}")
    classifier.export(place / f"exported-by-{RANK}")
    return {}


def leave_the_other_alone(folder):
    """Rank 1 ends, and rank 0 asks for its part."""
    classifier = PromptClassifier(folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    return {} if RANK == 1 else error_of(lambda: classifier.predict(NEW))


TOGETHER = [
    draw_without_a_seed,
    draw_from_a_generator,
    fail_in_one_process,
    get_other_rows,
    get_other_texts,
    ask_one_process_only,
    save,
    leave_the_other_alone,  # the last: nothing can be done together after it
]
"""Steps that mean something in several processes only."""


def main(folder):
    place = Path(os.environ["RESULTS"])
    for step in [*ALIKE, *TOGETHER]:
        np.savez(place / f"{step.__name__}-{RANK}.npz", **step(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
