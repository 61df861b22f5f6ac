# %% [markdown]
# # Scaling out
#
# This script runs the same classifier three times: in two processes that share the work, on workers
# of Dask, and on workers of Ray. One machine without a GPU is enough, because the rows are few. On
# a large machine only the number of processes and rows changes. [Scaling](../scaling.md) says when
# to use which.
#
#     python examples/scaling_out.py
#
# Install Dask and Ray with `pip install -c constraints.txt -e ".[scale]"`; without them the script
# skips their parts.

# %%
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import joblib
from sklearn.model_selection import GridSearchCV

import instructclf
from instructclf import PromptClassifier
from instructclf.datasets import load_reviews

TRAIN, TEST = load_reviews("train"), load_reviews("test")
TEXTS, LABELS, NEW = TRAIN.texts[:32], TRAIN.labels[:32], TEST.texts[:32]

# %% [markdown]
# ## Two processes, one classifier
#
# Write the script as for one process. A launcher starts it several times. `fit` divides each batch
# among the processes, `predict` divides the texts, and all processes get the same result. With
# `--multi_gpu` accelerate starts several processes; without a GPU they work on the CPU.

# %%
SCRIPT = """
import os, sys
from instructclf import InstructionTunedClassifier
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
classifier = InstructionTunedClassifier(max_epochs=2, random_state=0)
classifier.fit(train.texts[:32], train.labels[:32])
right = (classifier.predict(test.texts[:32]) == test.labels[:32]).mean()
print(f"process {os.environ['RANK']}: losses {classifier.loss_curve_}, accuracy {right:.3f}")
classifier.save(sys.argv[1])  # only the first process writes
"""


def launch(script: str, *arguments: str) -> None:
    """Start a script in two processes, as `accelerate launch` does on the command line."""
    options = "--multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0"
    quiet = "--mixed_precision no --dynamo_backend no"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_text(script)
        command = [sys.executable, "-m", "accelerate.commands.launch", *options.split()]
        threads = {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*command, *quiet.split(), str(path), *arguments], env=os.environ | threads, check=True
        )


def share_one_classifier() -> None:
    with tempfile.TemporaryDirectory() as folder:
        launch(SCRIPT, str(Path(folder) / "reviews"))
        classifier = instructclf.load(Path(folder) / "reviews")
        print("loaded by a single process:", classifier.predict(NEW[:2]).tolist())


# %% [markdown]
# ## A grid search and a collection of texts on Dask
#
# joblib sends the fits to the workers. A fitted classifier travels without its base model, which
# each worker finds by name.


# %%
def use_dask() -> None:
    import dask
    import dask.bag
    from dask.distributed import Client, LocalCluster

    search = GridSearchCV(PromptClassifier(random_state=0), {"n_shots": [2, 4]}, cv=2)
    workers = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1"}
    with LocalCluster(**workers, dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config("dask"):
            search.fit(TEXTS, LABELS)
        print("dask: accuracy of each candidate", search.cv_results_["mean_test_score"])
        texts = dask.bag.from_sequence(NEW, npartitions=2)
        shipped = dask.delayed(search.best_estimator_)
        labels = texts.map_partitions(
            lambda part, fitted: fitted.predict(list(part)).tolist(), shipped
        )
        print("dask: labels", labels.compute()[:4])


# %% [markdown]
# ## The same on Ray


# %%
def use_ray() -> None:
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    register_ray()
    search = GridSearchCV(PromptClassifier(random_state=0), {"n_shots": [2, 4]}, cv=2)
    with joblib.parallel_config("ray", n_jobs=2):
        search.fit(TEXTS, LABELS)
    print("ray: accuracy of each candidate", search.cv_results_["mean_test_score"])
    ray.shutdown()


# %% [markdown]
# Workers of Dask import this file again. So the code that starts them stands under the usual guard,
# `if __name__ == "__main__":`.

# %%
if __name__ == "__main__":
    share_one_classifier()
    if find_spec("dask") and find_spec("distributed"):
        use_dask()
    if find_spec("ray"):
        use_ray()
