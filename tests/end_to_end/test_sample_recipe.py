"""The recipe that needs no data, to its end: the longest test of all, in a file of its own that can run beside others.

Once: an old TensorFlow must agree with this one over the golden twenty steps, of which a training has more of the same.
"""

from __future__ import annotations

import pytest

from tests.end_to_end.test_run import finish, read, start  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.once]


def test_the_sample_recipe_reaches_95_percent(start, tmp_path):  # noqa: F811
    code, _, err = finish(start("run_gpu.sh", "--output-dir", "out"), timeout=900)
    assert (code, err) == (0, "")
    record = read(tmp_path / "out")
    assert record["recipe"] == "sample"
    assert record["evaluation"]["images"] == 299
    assert record["evaluation"]["top1"] >= 95
