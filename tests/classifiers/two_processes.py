"""Steps that two processes do together: a launcher runs them in each, and a test runs them alone.

Each step returns arrays or strings. The script writes them to a file for each step and rank.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructclf import (
    InstructionTunedClassifier,
    MultiOutputPromptClassifier,
    OrdinalClassifier,
    PromptClassifier,
    PromptFeatures,
)
from instructclf.sampling import BalancedSampler

TEXTS = [f"good thing {i}" for i in range(8)] + [f"bad thing {i}" for i in range(8)]
LABELS = ["positive"] * 8 + ["negative"] * 8
NEW = [*TEXTS[::3], "good", "bad", "good", "a thing of which there is much to say " * 9]
TUNING = {
    "learning_rate": 0.01,
    "max_epochs": 3,
    "batch_size": 3,  # which two processes cannot share equally
    "adapter__rank": 4,
    "n_shots": 11,
    "random_state": 0,
    "model_options__dtype": "float64",
}
RANK = int(os.environ.get("RANK", "0"))


def make_tuning(folder, **changes):
    return InstructionTunedClassifier(folder).set_params(**(TUNING | changes))


def fit_prompting(folder, **changes):
    classifier = PromptClassifier(folder, n_shots=4, random_state=0)
    return classifier.set_params(**changes).fit(TEXTS, LABELS)


def describe(tuned):
    return {
        "loss_curve": np.array(tuned.loss_curve_),
        "stopped_by": tuned.stopped_by_,
        "shots": tuned.shots_,
        "probabilities": tuned.predict_proba(NEW),
        **{name: weight.numpy() for name, weight in tuned.adapter_.items()},
    }


def tune(folder, **changes):
    return describe(make_tuning(folder, **changes).fit(TEXTS, LABELS))


def tune_with_the_defaults(folder):
    return tune(folder)


def tune_until_it_is_good_enough(folder):
    return tune(folder, max_epochs=20, training_options__target_loss=0.1)


def tune_the_upper_layer_on_rows_that_count_differently(folder):
    classifier = make_tuning(folder, adapter__n_layers=1)
    return describe(classifier.fit(TEXTS, LABELS, sample_weight=np.arange(1, 17)))


def tune_and_read_the_checkpoint(folder):
    size = os.environ.get("WORLD_SIZE", "1")
    options = {"training_options__checkpoint_dir": Path(folder).with_name(f"runs-of-{size}")}
    first, again = tune(folder, **options), tune(folder, **options)
    return {**first, **{f"again {name}": value for name, value in again.items()}}


def prompt(folder):
    return {"probabilities": fit_prompting(folder).predict_proba(NEW)}


def answer_several_questions(folder):
    y = np.column_stack([LABELS, np.arange(len(TEXTS)) % 2])
    classifier = MultiOutputPromptClassifier(folder, n_shots=4, random_state=0)
    return {"probabilities": np.stack(classifier.fit(TEXTS, y).predict_proba(NEW))}


def read_states(folder):
    return {"states": PromptFeatures(folder).fit().transform(NEW)}


def prompt_with_fewer_texts_than_processes(folder):
    return {"probabilities": fit_prompting(folder).predict_proba(["good"])}


def average_over_seeds(folder):
    classifier = make_tuning(folder, n_seeds=2, max_epochs=1)
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
    return describe(make_tuning(pair).fit(TEXTS, LABELS))


ALIKE = [
    tune_with_the_defaults,
    tune_until_it_is_good_enough,
    tune_the_upper_layer_on_rows_that_count_differently,
    prompt,
    answer_several_questions,
    read_states,
    prompt_with_fewer_texts_than_processes,
    average_over_seeds,
    tune_and_read_the_checkpoint,
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
    return error_of(lambda: fit_prompting(folder, sampler=SamplerWithAFault()))


def get_other_rows(folder):
    classifier = PromptClassifier(folder, n_shots=4, random_state=0)
    return error_of(lambda: classifier.fit(TEXTS[RANK:], LABELS[RANK:]))


def get_other_texts(folder):
    classifier = fit_prompting(folder)
    return error_of(lambda: classifier.predict(TEXTS[RANK:]))


def get_other_texts_to_read(folder):
    features = PromptFeatures(folder).fit()
    return error_of(lambda: features.transform(TEXTS[RANK:]))


def ask_one_process_only(folder):
    """Rank 1 computes nothing, and rank 0 does not wait for it."""
    classifier = fit_prompting(folder)
    if RANK == 1:
        return {}
    found = {}

    def ask():
        found["in a thread"] = classifier.predict_proba(NEW)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    alone = pickle.loads(pickle.dumps(classifier)).set_params(model_options__distributed=None)
    return found | {"alone": alone.predict_proba(NEW)}


def save(folder):
    results = Path(os.environ["RESULTS"])
    classifier = make_tuning(folder, verbose=1).fit(TEXTS, LABELS)
    classifier.save(results / f"saved-by-{RANK}")
    classifier.export(results / f"exported-by-{RANK}")
    stars = OrdinalClassifier(FrozenEstimator(classifier), scores={"negative": 1, "positive": 2})
    stars.fit(TEXTS, LABELS).save(results / f"wrapped-by-{RANK}")
    return {}


def leave_the_other_alone(folder):
    """Rank 1 ends, and rank 0 asks for its part."""
    classifier = fit_prompting(folder)
    return {} if RANK == 1 else error_of(lambda: classifier.predict(NEW))


TOGETHER = [
    draw_without_a_seed,
    draw_from_a_generator,
    fail_in_one_process,
    get_other_rows,
    get_other_texts,
    get_other_texts_to_read,
    ask_one_process_only,
    save,
    leave_the_other_alone,  # the last: nothing can be done together after it
]
"""Steps for several processes only."""


def write_threads_at_the_end(path):
    threads = sorted(Path("/proc/self/task").glob("*/comm"))
    path.write_text("".join(thread.read_text() for thread in threads))


def main(folder):
    results = Path(os.environ["RESULTS"])
    # What is registered first is called last, after the processes have left their group.
    atexit.register(write_threads_at_the_end, results / f"threads-{RANK}.txt")
    for step in [*ALIKE, *TOGETHER]:
        np.savez(results / f"{step.__name__}-{RANK}.npz", **step(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
