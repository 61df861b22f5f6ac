"""Save classifiers with this version, as folders that every later version must be able to load.

    python -m tools.golden_folders                # into tests/data/saved/schema-<n>

Run this once per schema, before a release, and again for a new kind of classifier. A folder that is
there stays as it is: the folders are like those that users have on their disks.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from peft import IA3Config

from instructclf import (
    BagOfWordsClassifier,
    BlendedClassifier,
    ConformalClassifier,
    InstructionTunedClassifier,
    LoRA,
    MultiOutputPromptClassifier,
    OrdinalClassifier,
    PromptClassifier,
    SelectiveClassifier,
    TrainingOptions,
)
from instructclf.classifiers.saving import SCHEMA
from instructclf.sampling import KMeansSampler
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "saved" / f"schema-{SCHEMA}"
UNSEEN = ["good", "", "bad {input} </s>", "a film that is long and not so good", "très bien 👍"]
SMALL = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


def make_classifiers() -> dict[str, Any]:
    """Return one unfitted classifier of each kind."""
    prompting: dict[str, Any] = {"n_shots": 2, "random_state": 0}
    tuning: dict[str, Any] = {
        "n_shots": 4,
        "adapter": LoRA(rank=1),
        "learning_rate": 0.01,
        "max_epochs": 1,
        "random_state": 0,
    }
    mean = TrainingOptions(seed_average="adapter")
    definitions = {"negative": "They do not like it: a | <b>.", "positive": "Élan 文 \u2028 yes."}
    answers = {"negative": ["bad", "awful"], "positive": ["good", "great film"]}
    return {
        "prompting": PromptClassifier(
            "base", label_definitions=definitions, verbalizer=answers, **prompting
        ),
        "prompting-shots-per-text": PromptClassifier("base", sampler="knn", **prompting),
        "prompting-seeds": PromptClassifier(
            "base", n_seeds=2, label_order="random", sampler=KMeansSampler(), **prompting
        ),
        "tuning": InstructionTunedClassifier("base", label_definitions=definitions, **tuning),
        "tuning-seeds": InstructionTunedClassifier("base", n_seeds=2, **tuning),
        "tuning-average": InstructionTunedClassifier(
            "base", n_seeds=2, training_options=mean, **tuning
        ),
        "tuning-ia3": InstructionTunedClassifier("base", **{**tuning, "adapter": IA3Config()}),
        "several": MultiOutputPromptClassifier(
            "base",
            questions=["opinion", "even"],
            label_definitions={"opinion": definitions, "even": "Its number is even."},
            thresholds="f1",
            n_seeds=2,
            **prompting,
        ),
        **make_combinations(PromptClassifier("base", **prompting)),
    }


def make_combinations(inside: PromptClassifier) -> dict[str, Any]:
    """Return one unfitted classifier of each kind that has a prompted one inside."""
    held_out: dict[str, Any] = {"cv": 0.5, "random_state": 2}  # which leaves a text open
    two = [("prompting", inside), ("words", BagOfWordsClassifier(random_state=0))]
    ordinal = OrdinalClassifier(inside, scores={"negative": -1, "positive": 2})
    return {
        "blend": BlendedClassifier(two, cv=2, random_state=0),
        "ordinal": ordinal,
        "conformal": ConformalClassifier(inside, confidence_level=0.6, **held_out),
        "selective": SelectiveClassifier(ordinal, risk=0.5, confidence=0.5, **held_out),
    }


def answer(classifier: Any, texts: list[str]) -> list[Any]:
    """Return the labels of texts or, if they are what a classifier is for, the sets."""
    ask = getattr(classifier, "predict_set", classifier.predict)
    return np.array(ask(texts)).tolist()


def main() -> None:
    """Fit and save one classifier of each kind, with its predictions."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    several = [[label, number % 2] for number, label in enumerate(LABELS)]
    with contextlib.chdir(FOLDER):  # so that the folders contain no path of this machine
        if not Path("base").exists():
            make_model(**SMALL).save_pretrained("base")
            make_tokenizer().save_pretrained("base")
        path = Path("expected.json")
        record = {"texts": UNSEEN, "log_probabilities": {}, "answers": {}}
        if path.exists():
            record |= json.loads(path.read_text(encoding="utf-8"))
        for name, classifier in make_classifiers().items():
            if not Path(name).exists():
                classifier.fit(TEXTS, several if name == "several" else LABELS).save(name)
                predicted = np.array(classifier.predict_log_proba(UNSEEN)).tolist()
                record["log_probabilities"][name] = predicted
                record["answers"][name] = answer(classifier, UNSEEN)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # one epoch of a random model learns nothing, and warns
    main()
