"""The comparison of an exported file with its network."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UsageError
from shared.export.check import atc_lines, batches, check_finite, compared, precision_of

OWN = [np.array([[4.0, -8.0]]), np.array([[1.0, 2.0], [2.0, -1.0]])]


def test_the_largest_difference_is_relative_to_the_largest_logit_of_its_batch():
    found = {1: OWN[0] + [[0, 4e-5]], 2: OWN[1] + [[0, 0], [6e-6, 0]]}
    line = compared(lambda images: found[len(images)], [np.zeros(1), np.zeros(2)], OWN, "O0")
    assert line.startswith("checked: differs from the network by at most 5.0e-06 of the largest logit at batch size 1")
    assert line.endswith("1 and 2 (allowed: 1e-05)")


@pytest.mark.parametrize(
    ("change", "level", "says"),
    [
        (lambda y: y + 1e-3, "O0", r"differs from the network by 5.0e-04 .* 1 and 2, allowed is 1e-05; nothing is"),
        (lambda y: y * np.nan, "O2", "differs from the network by inf"),
        (lambda y: y[:, :1], "O2", r"gives \[1, 1\] for \[1, 2\]; nothing is written"),
    ],
)
def test_another_result_is_refused(change, level, says):
    own = {len(batch): batch for batch in OWN}
    with pytest.raises(UsageError, match=says):
        compared(lambda images: change(own[len(images)]), [np.zeros(1), np.zeros(2)], OWN, level)


def test_a_network_without_a_result_is_no_reference():
    check_finite(OWN)
    with pytest.raises(UsageError, match="the network's own logits are not finite; check the weights"):
        check_finite([OWN[0], OWN[1] * np.inf])


def test_the_images_are_of_the_whole_range_and_always_the_same():
    assert [images.shape for images in batches(None, 32)] == [(1, 32, 32, 3), (7, 32, 32, 3)]
    (images,) = batches(4, 16)
    assert (images.shape, images.dtype, images.min(), images.max()) == ((4, 16, 16, 3), np.uint8, 0, 255)
    np.testing.assert_array_equal(images, batches(4, 16)[0])


def test_a_file_is_float32_or_float16():
    assert [precision_of(given) for given in (None, "O0", "O2")] == ["O0", "O0", "O2"]
    for other in ("bf16", "O1", "o2"):
        with pytest.raises(UsageError, match=f"export has no form {other}; give --precision O0"):
            precision_of(other)


def test_the_line_for_ascend_is_a_shell_command():
    _, line = atc_lines(Path("my models/m.v2.pb"), 3, (1, 32, 32, 3), "--out_nodes=logits:0 ")
    assert shlex.split(line) == [
        "atc",
        "--framework=3",
        "--model=my models/m.v2.pb",
        "--output=my models/m.v2",
        "--input_shape=images:1,32,32,3",
        "--out_nodes=logits:0",
        "--soc_version=SOC_VERSION",
    ]
