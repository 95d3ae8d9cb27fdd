"""The documented rows against the tables of the four documents, retyped here column by column."""

from __future__ import annotations

import pytest

from shared import recipes
from shared.results.documented import ROWS, Documented

COMPARED = ("network", "hardware", "epochs", "precision", "top1", "top5", "images_per_second")
TABLES = [
    ("senet154", "8 x GPU", 120, "O2", 79.130, 94.058, 955.433),
    ("senet154", "8 x GPU", 120, "O2", 78.341, 93.945, 954.725),
    ("senet154", "8 x GPU", 120, "O2", 78.100, 94.010, 949.309),
    ("senet154", "8 x GPU", 120, "O2", 80.161, 94.879, 951.374),
    ("senet154", "8 x NPU", 120, "O2", 78.599, 93.849, 1524.537),
    ("senet154", "8 x NPU", 120, "O2", 80.048, 94.799, 1522.120),
    ("se_resnet50", "1 x competitor V", 1, None, None, None, None),
    ("se_resnet50", "8 x competitor V", 100, None, None, None, None),
    ("se_resnet50", "1 x NPU", 1, "O2", None, None, 747.41),
    ("se_resnet50", "8 x NPU", 100, "O2", 77.521, None, 5306.66),
    ("pnasnet5large", "1 x NPU", 1, "O2", None, None, 45),
    ("pnasnet5large", "8 x NPU", 90, "O2", 78.842, None, 353),
    ("pnasnet5large", "1 x NPU", 1, "O2", None, None, 69),
    ("pnasnet5large", "8 x NPU", 90, "O2", 79.625, None, 353),
]


def test_the_imagenet_rows_are_those_of_the_documents():
    rows = [[getattr(row, name) for name in COMPARED] for row in ROWS if row.dataset == "imagenet"]
    for row in rows:
        row[1] = row[1].split(",")[0]  # without the framework
    assert [tuple(row) for row in rows] == TABLES


def test_the_cifar_rows_are_those_of_the_document():
    rows = {row.hardware: row for row in ROWS if row.dataset == "cifar-10"}
    assert [(name, row.top1, row.step_ms) for name, row in rows.items()] == [
        ("paper", 94.79, None),
        ("1 x V100", 94.79, 141.0),
        ("1 x Ascend 910", 94.55, 91.0),
    ]
    assert [row.hours for row in rows.values()] == [None, None, 8.0]


DIGITS = [  # top-1, top-5, images per second, ms per step and hours, as the documents print them; without empty rows
    ("94.79", None, None, None, None),
    ("94.79", None, None, "141", None),
    ("94.55", None, None, "91", "8"),
    ("79.130", "94.058", "955.433", None, None),
    ("78.341", "93.945", "954.725", None, None),
    ("78.100", "94.010", "949.309", None, None),
    ("80.161", "94.879", "951.374", None, None),
    ("78.599", "93.849", "1524.537", None, None),
    ("80.048", "94.799", "1522.120", None, None),
    (None, None, "747.41", None, None),
    ("77.521", None, "5306.66", None, None),
    (None, None, "45", None, None),
    ("78.842", None, "353", None, None),
    (None, None, "69", None, None),
    ("79.625", None, "353", None, None),
]


def test_every_documented_number_has_the_digits_of_its_document():
    numbers = [(row.top1, row.top5, row.images_per_second, row.step_ms, row.hours) for row in ROWS]
    texts = [tuple(None if number is None else str(number) for number in row) for row in numbers]
    assert [row for row in texts if any(row)] == DIGITS
    assert [str(row.error) for row in ROWS if row.error is not None] == ["5.21", "5.21", "5.45"]
    assert all(number is None or isinstance(number, Documented) for row in numbers for number in row)


def test_footnotes_tell_the_document_from_the_program():
    """A number of images behind an accuracy is in no document, nor is what the programs got wrong."""
    for row in ROWS:
        if row.images_evaluated:
            assert any("not from its document: " in note for note in row.footnotes)
        for note in row.footnotes:
            assert note.startswith(("Read from ", "In the document: ", "The document ", "A later ed", "An older ed"))


def _devices(row):
    return int(row.hardware.split(" x ")[0]) if " x " in row.hardware else None


def test_batch_sizes_are_global():
    sizes = {(row.network, _devices(row)): row.batch_size for row in ROWS}
    assert sizes == {
        ("se_resnet110", None): None,
        ("se_resnet110", 1): 128,
        ("senet154", 8): 1024,
        ("se_resnet50", 1): 128,
        ("se_resnet50", 8): 1024,
        ("pnasnet5large", 1): 32,
        ("pnasnet5large", 8): 256,
    }


@pytest.mark.parametrize("row", [row for row in ROWS if row.recipe], ids=lambda row: f"{row.recipe}-{row.hardware}")
def test_a_named_recipe_exists_and_repeats_its_row(row):
    recipe = recipes.get(row.recipe)
    assert (recipe.network, recipe.epochs) == (row.network, row.epochs)
    assert recipe.batch_size * _devices(row) == row.batch_size
    assert getattr(recipe, "devices", 1) == _devices(row)
    if row.dataset == "imagenet":
        assert recipe.precision == (row.precision or recipe.precision)


def test_every_accuracy_says_how_many_images_it_is_of_and_every_row_has_a_note():
    for row in ROWS:
        assert row.footnotes
        assert "/" not in row.source
        if row.top1 is not None and row.hardware != "paper":
            assert row.images_evaluated in (6250, 49664, 49920, 10000)
        else:
            assert row.images_evaluated is None
