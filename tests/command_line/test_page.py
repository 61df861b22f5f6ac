"""The commands on the page about the command line run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


@pytest.mark.slow
def test_every_command_on_the_page_runs(tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    program = f'instructclf() {{ "{sys.executable}" -m instructclf "$@"; }}\n'
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program + "\n".join(blocks)],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr
    assert "code 1" in ended.stdout
    assert (tmp_path / "predicted.csv").read_text().count("\n") == 3
    assert (tmp_path / "predicted.jsonl").read_text().count("\n") == 2
    assert (tmp_path / "figures.csv").read_text().count("\n") == 3
