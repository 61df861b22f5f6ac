"""Two processes of a job take a GPU each, and give the results of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.classifiers import two_processes as steps
from tests.simulated_device import two_processes


def test_two_processes_take_a_gpu_each_and_give_the_results_of_one(model_folder, tmp_path):
    alone = steps.make_tuning(model_folder).fit(steps.TEXTS, steps.LABELS)
    alone.save(tmp_path / "saved")
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    arguments = [two_processes.__file__, model_folder, str(tmp_path / "saved"), str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", *launcher, *arguments],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-5000:]
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    assert [one["devices"].tolist() for one in found] == [["cuda:0"], ["cuda:1"]]
    for one in found:
        np.testing.assert_allclose(one["predicted"], alone.predict_proba(steps.NEW), atol=1e-6)
        for name, value in steps.describe(alone).items():
            if not isinstance(value, str):
                np.testing.assert_allclose(one[name], value, rtol=0, atol=1e-6, err_msg=name)
