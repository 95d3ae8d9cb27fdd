"""Classes are what their names say: in evaluation, fine-tuning and resumption, from whatever the training wrote."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import pytest

torch = pytest.importorskip("torch")

from shared.class_names import imagenet  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.weights.load import head_classes, load_weights, with_names  # noqa: E402

NAMES = ["class0", "class1", "class2"]


@pytest.fixture(scope="module")
def trained(run_in, tmp_path_factory):
    run = run_in(tmp_path_factory.mktemp("trained") / "run", "--original-names")
    assert run.record["evaluation"]["top1"] > 50  # or another order would not show
    return run


@pytest.fixture
def evaluate(run_in, tmp_path, capsys):
    """evaluate(data, *options) -> the run, and what it said."""

    def start(data, *options, name="evaluation"):
        arguments = ["--data-path", str(data), "--device", "cpu", "--workers", "1", *map(str, options)]
        capsys.readouterr()
        run = run_in(tmp_path / name, *arguments, plain=True, mode="evaluate")
        output = capsys.readouterr()
        return run, output.out + output.err

    return start


def renamed(tiny, folder, names, splits=("val",)):
    """The data set with its class folders under these names; None leaves one out."""
    for split in splits:
        for before, after in zip(NAMES, names):
            if after is not None:
                shutil.copytree(tiny.folder / split / before, folder / split / after)
    return folder


def shards(tiny, folder, order, names=None):
    """The validation images in a tar whose .cls are places in `order`, and these names beside it."""
    folder.mkdir()
    with tarfile.open(folder / "val-000000.tar", "w") as tar:
        for path in sorted((tiny.folder / "val").glob("*/*.png")):
            label = str(order.index(path.parent.name)).encode()
            for name, content in ((path.name, path.read_bytes()), (path.stem + ".cls", label)):
                entry = tarfile.TarInfo(f"{path.parent.name}-{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    if names:
        (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return folder


def without_names(run, folder):
    """A copy of the run as this project wrote it before names were stored."""
    shutil.copytree(run.folder, folder, symlinks=True)
    path = folder / "checkpoints" / "last" / "state.json"
    state = json.loads(path.read_text())
    del state["data"]["classes"], state["checksum"]
    path.write_text(json.dumps(dict(state, format=1)))
    return folder


def rows(state):
    return state["fc.weight"], state["fc.bias"]


# -- what is written -------------------------------------------------------------------------------------------


def test_checkpoint_config_and_record_have_the_names(trained):
    assert trained.record["dataset"]["classes"] == NAMES
    assert json.loads((trained.folder / "config.json").read_text())["data"]["classes"] == NAMES
    state = json.loads((trained.folder / "checkpoints" / "last" / "state.json").read_text())
    assert state["data"]["classes"] == NAMES


def test_the_weights_have_the_names_and_are_a_plain_state_dict(trained):
    content = torch.load(trained.folder / "model.pth", weights_only=True)
    network = SmallNetwork(3, 0.0, 0.0)
    assert list(content) == list(network.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in content.values())
    network.load_state_dict(content, strict=True)
    for name in ("model.pth", "checkpoint.pth.tar", "model_best.pth.tar"):
        assert list(head_classes(trained.folder / name).names) == NAMES
    assert load_weights(SmallNetwork(3, 0.0, 0.0), trained.folder / "model.pth").matched == len(content)


@pytest.mark.parametrize("names", [None, 7, ["a"], ["a", "b", 3], {"a": 1}, [["a"], "b", "c"]])
def test_names_of_a_stranger_that_are_none(names):
    weights = SmallNetwork(3, 0.0, 0.0).state_dict()
    weights._metadata = {"": {"classes": names}}
    assert not head_classes(weights).named
    weights._metadata = names
    assert not head_classes(weights).named
    assert head_classes({"state_dict": with_names(weights, NAMES)}).named


# -- evaluation ------------------------------------------------------------------------------------------------


def test_other_names_are_refused_and_named(trained, evaluate, tiny, tmp_path):
    data = renamed(tiny, tmp_path / "data", ["tench", "dog", "saw"])
    for checkpoint in ("", "checkpoints/last", "model.pth", "checkpoint.pth.tar"):
        run, said = evaluate(
            data, "--checkpoint", trained.folder / checkpoint, "--network", "se_resnet50", "--image-size", "32"
        )
        assert run.status == 2
        assert "error: the data set has 3 classes that the network does not know (dog, saw, tench), and lacks" in said
        assert "(class0, class1, class2)" in said
        assert not (run.folder / "result.json").exists()


def test_a_class_that_is_missing_with_a_stray_folder_beside_is_refused(trained, evaluate, tiny, tmp_path):
    data = renamed(tiny, tmp_path / "data", ["class0", "backup", "class2"])
    run, said = evaluate(data, "--checkpoint", trained.folder)
    assert run.status == 2
    assert "1 class that the network does not know (backup), and lacks 1 class that it knows (class1)" in said


def test_ten_beside_two_is_another_order(run_in, evaluate, tiny, tmp_path):
    """Folders 01, 02, 10 and 1, 2, 10 sort differently, and 10 alone is the same name."""
    data = renamed(tiny, tmp_path / "padded", ["01", "02", "10"], ("train", "val"))
    run = run_in(tmp_path / "run", "--data-path", str(data))
    again, said = evaluate(renamed(tiny, tmp_path / "plain", ["1", "2", "10"]), "--checkpoint", run.folder)
    assert again.status == 2
    assert "2 classes that the network does not know (1, 2)" in said


@pytest.mark.parametrize("order", [["class2", "class0", "class1"], ["class1", "class2", "class0"]])
@pytest.mark.parametrize("checkpoint", ["", "model.pth"])
def test_another_order_gives_the_result_of_the_training(checkpoint, order, trained, evaluate, tiny, tmp_path):
    data = shards(tiny, tmp_path / "shards", order, order)
    run, said = evaluate(
        data, "--checkpoint", trained.folder / checkpoint, "--network", "se_resnet50", "--image-size", "32"
    )
    assert run.status == 0
    assert "note: the data set's classes have another order than the network's: matched by name" in said
    before, after = trained.record["evaluation"], run.record["evaluation"]
    for key in ("images", "top1", "top5", "confusion", "per_class_accuracy"):
        assert after[key] == before[key]
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-6)
    assert run.record["dataset"]["classes"] == order
    assert after["classes"] == NAMES  # those of the confusion matrix


def test_the_same_classes_say_nothing(trained, evaluate, tiny):
    run, said = evaluate(tiny.folder, "--checkpoint", trained.folder, "--restrict-classes")
    assert "class names" not in said
    assert "by name" not in said
    assert run.record["evaluation"]["confusion"] == trained.record["evaluation"]["confusion"]
    assert not {"classes", "restricted"} & set(run.record["evaluation"])


def test_shards_without_names_are_evaluated_with_a_note(trained, evaluate, tiny, tmp_path):
    run, said = evaluate(shards(tiny, tmp_path / "shards", NAMES), "--checkpoint", trained.folder)
    assert run.status == 0
    assert "note: the data set has no class names" in said
    assert run.record["evaluation"]["confusion"] == trained.record["evaluation"]["confusion"]
    assert "classes" not in run.record["dataset"]
    assert run.record["evaluation"]["classes"] == NAMES


def test_a_part_of_the_classes_counts_as_it_did(trained, evaluate, tiny, tmp_path):
    data = renamed(tiny, tmp_path / "data", ["class0", None, "class2"])
    run, said = evaluate(data, "--checkpoint", trained.folder)
    before, after = trained.record["evaluation"], run.record["evaluation"]
    assert "note: the data set has 2 classes of the network's 3: matched by name" in said
    assert after["per_class_accuracy"] == [before["per_class_accuracy"][0], None, before["per_class_accuracy"][2]]
    assert after["confusion"] == [before["confusion"][0], [0, 0, 0], before["confusion"][2]]
    assert after["classes"] == NAMES
    assert run.record["dataset"]["classes"] == ["class0", "class2"]


def test_answers_restricted_to_a_part_of_the_classes(evaluate, tiny, tmp_path):
    """A network that always answers class1 is right again where class1 is no answer."""
    network = SmallNetwork(3, 0.0, 0.0).eval()
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.copy_(torch.tensor([1.0, 9.0, 2.0]))
    torch.save(with_names(network.state_dict(), NAMES), tmp_path / "own.pth")
    data = renamed(tiny, tmp_path / "data", ["class0", None, "class2"])
    given = ["--checkpoint", tmp_path / "own.pth", "--network", "se_resnet50", "--image-size", "32"]
    free, _ = evaluate(data, *given, name="free")
    assert free.record["evaluation"]["top1"] == 0
    restricted, said = evaluate(data, *given, "--restrict-classes", name="restricted")
    result = restricted.record["evaluation"]
    assert result["confusion"] == [[0, 4], [0, 3]]
    assert result["top1"] == pytest.approx(100 * 3 / 7)
    assert "classes" not in result  # the data set's
    assert result["restricted"] is True
    assert restricted.record["parameters"] == free.record["parameters"]
    assert "note: answers are restricted to the data set's 2 of 3 classes" in said


def test_a_checkpoint_of_before_names_says_so_and_goes_on(trained, evaluate, run_in, tiny, tmp_path):
    old = without_names(trained, tmp_path / "old")
    run, said = evaluate(tiny.folder, "--checkpoint", old)
    assert run.status == 0
    assert "note: the weights have no class names" in said
    assert run.record["evaluation"]["confusion"] == trained.record["evaluation"]["confusion"]
    fewer, said = evaluate(renamed(tiny, tmp_path / "data", ["class0", None, "class2"]), "--checkpoint", old)
    assert fewer.status == 2
    assert "the checkpoint has 3 classes and the data set 2, and the weights have no names to tell which" in said
    longer = run_in(
        old,
        "--resume",
        str(old),
        "--epochs",
        "3",
        "--data-path",
        str(tiny.folder),
        "--device",
        "cpu",
        "--workers",
        "1",
        plain=True,
    )
    assert longer.status == 0
    assert longer.record["epochs_completed"] == 3
    assert longer.record["dataset"]["classes"] == NAMES


@pytest.mark.parametrize("names", [["a"], [1, 2, 3], "abc", {"a": 1}])
def test_a_checkpoint_whose_names_are_none_is_refused(names, trained, evaluate, tiny, tmp_path):
    old = without_names(trained, tmp_path / "old")
    path = old / "checkpoints" / "last" / "state.json"
    state = json.loads(path.read_text())
    state["data"]["classes"] = names
    path.write_text(json.dumps(state))
    run, said = evaluate(tiny.folder, "--checkpoint", old)
    assert run.status == 2
    assert "data.classes" in said


# -- weights of ImageNet -----------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path):
    """Weights alone with 1,000 outputs that answer the wnid number 500 to everything, and number 20 next."""
    network = SmallNetwork(1000, 0.0, 0.0)
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.zero_()
        network.fc.bias[500], network.fc.bias[20] = 9.0, 8.0
    torch.save(network.state_dict(), tmp_path / "published.pth")
    return ["--checkpoint", tmp_path / "published.pth", "--network", "se_resnet50", "--image-size", "32"]


@pytest.mark.parametrize("more", [[], ["--num-classes", "1000"]])
def test_some_folders_of_imagenet_are_matched_by_wordnet_id(more, published, evaluate, tiny, tmp_path):
    wnids = imagenet()
    data = renamed(tiny, tmp_path / "data", [wnids[20], wnids[21], wnids[500]])
    run, said = evaluate(data, *published, *more)
    assert run.status == 0
    assert "note: the weights have no class names; their outputs are taken for ImageNet's classes in its order" in said
    assert "note: the data set has 3 classes of the network's 1,000: matched by name" in said
    result = run.record["evaluation"]
    assert result["top1"] == 30  # 3 of 10
    assert [result["per_class_accuracy"][place] for place in (20, 21, 500)] == [0, 0, 100]
    assert len(result["classes"]) == 1000
    data = renamed(tiny, tmp_path / "other", [wnids[20], wnids[21], wnids[22]])
    assert evaluate(data, *published, *more, name="none")[0].record["evaluation"]["top1"] == 0
    run, _ = evaluate(data, *published, *more, "--restrict-classes", name="restricted")
    assert run.record["evaluation"]["per_class_accuracy"] == [100, 0, 0]


def test_folders_that_are_not_imagenets_are_refused(published, evaluate, tiny, tmp_path):
    run, said = evaluate(tiny.folder, *published)
    assert run.status == 2
    assert "error: the checkpoint has 1,000 classes and the data set 3, and the weights have no names" in said
    wnids = imagenet()
    data = renamed(tiny, tmp_path / "data", [wnids[20], wnids[21], "stray"])
    run, said = evaluate(data, *published)
    assert run.status == 2
    assert "1 class that the network does not know (stray)" in said
    run, said = evaluate(renamed(tiny, tmp_path / "d", wnids[:3]), *published, "--num-classes", "3")
    assert run.status == 2
    assert "--num-classes 3, but the network has 1000 classes" in said


# -- fine-tuning and resumption ----------------------------------------------------------------------------------


@pytest.fixture
def tune(run_in, tmp_path, capsys):
    def start(checkpoint, data, *options, mode="finetune", name="tuned"):
        arguments = [
            "--checkpoint",
            str(checkpoint),
            "--data-path",
            str(data),
            "--network",
            "se_resnet50",
            "--image-size",
            "32",
            "--batch-size",
            "4",
            "--max-steps",
            "1",
            "--workers",
            "1",
            "--device",
            "cpu",
            "--learning-rate",
            "1e-9",
            *options,
        ]
        capsys.readouterr()
        run = run_in(tmp_path / name, *arguments, plain=True, mode=mode)
        output = capsys.readouterr()
        return run, output.out + output.err

    return start


@pytest.mark.parametrize("checkpoint", ["", "model.pth"])
@pytest.mark.parametrize("mode", ["train", "finetune"])
def test_a_part_of_the_classes_keeps_its_rows_of_the_head(mode, checkpoint, trained, tune, evaluate, tiny, tmp_path):
    data = renamed(tiny, tmp_path / "data", ["class0", None, "class2"], ("train", "val"))
    run, said = tune(trained.folder / checkpoint, data, mode=mode)
    assert run.status == 0
    assert "note: the data set has 2 classes of the network's 3: matched by name" in said
    before, after = rows(torch.load(trained.folder / "model.pth")), rows(run.training()["network"])
    for old, new in zip(before, after):
        torch.testing.assert_close(new, old[[0, 2]], rtol=0, atol=1e-6)
    assert list(head_classes(run.folder / "model.pth").names) == ["class0", "class2"]


def test_other_classes_need_another_head(trained, tune, tiny, tmp_path):
    data = renamed(tiny, tmp_path / "data", ["tench", "dog", "saw"], ("train", "val"))
    for mode in ("finetune", "train"):
        run, said = tune(trained.folder, data, mode=mode)
        assert run.status == 2
        assert "the network does not know (dog, saw, tench)" in said
        assert ("--num-classes 3" in said) == (mode == "finetune")
        assert not run.folder.exists()
    run, said = tune(trained.folder, data, "--num-classes", "3")
    assert run.status == 0
    assert "newly initialised: fc.weight, fc.bias" in said
    assert run.record["dataset"]["classes"] == ["dog", "saw", "tench"]


def test_other_classes_of_another_number_get_a_new_head(trained, tune, tiny, tmp_path):
    data = renamed(tiny, tmp_path / "data", ["tench", "dog", None], ("train", "val"))
    run, said = tune(trained.folder, data)
    assert run.status == 0
    assert "newly initialised: fc.weight, fc.bias" in said
    assert "note: the weights' 3 classes are not the data set's 2: a new head" in said


def test_a_head_without_names_is_kept_with_a_note(tune, tiny, tmp_path):
    torch.save(SmallNetwork(3, 0.0, 0.0).state_dict(), tmp_path / "own.pth")
    for mode in ("finetune", "train"):
        run, said = tune(tmp_path / "own.pth", tiny.folder, mode=mode, name=mode)
        assert run.status == 0
        assert "note: the weights have no class names" in said
    torch.save(SmallNetwork(4, 0.0, 0.0).state_dict(), tmp_path / "own.pth")
    run, said = tune(tmp_path / "own.pth", tiny.folder, mode="train")
    assert run.status == 2
    assert "the checkpoint has 4 classes and the data set 3" in said


def test_rows_of_a_head_with_a_background_class():
    """PNASNet's published form: of 1,001 classes the first is none, and rows are counted after it."""
    from torch_imagenet.weights.load import _drop_background

    weight, bias = torch.arange(1001.0)[:, None].expand(1001, 4), torch.arange(1001.0)
    state = {"cell_stem_0.conv_1x1.conv.weight": torch.ones(1), "last_linear.weight": weight, "last_linear.bias": bias}
    own = dict(state, **{"last_linear.weight": torch.ones(3, 4), "last_linear.bias": torch.ones(3)})
    assert len(head_classes(state).names) == 1000
    assert _drop_background(state, own, 1000)
    assert state["last_linear.bias"][0] == 1
    assert state["last_linear.weight"].shape == (1000, 4)


def test_rows_that_an_auxiliary_head_does_not_have_are_no_defect():
    class Two(torch.nn.Module):
        def __init__(self, classes, others):
            super().__init__()
            self.last_linear = torch.nn.Linear(2, classes)
            self.aux = torch.nn.ModuleDict({"classifier": torch.nn.Linear(2, others)})

    from shared.errors import UsageError

    with pytest.raises(UsageError, match="of another shape"):
        load_weights(Two(2, 2), Two(9, 3).state_dict(), rows=[8, 0])
    both = Two(9, 9).state_dict()
    network = Two(2, 2)
    load_weights(network, both, rows=[8, 0])
    assert torch.equal(network.last_linear.weight, both["last_linear.weight"][[8, 0]])
    assert torch.equal(network.aux["classifier"].bias, both["aux.classifier.bias"][[8, 0]])
