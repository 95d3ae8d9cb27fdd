"""The wheel and the checkout read each other's checkpoints and Keras models."""

from __future__ import annotations

import json

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tests.support import wheel  # noqa: E402

pytestmark = pytest.mark.once
USE = """
import json, sys
from PIL import Image
from se_pnas_kit.tf_seresnet import classifier
from se_pnas_kit.tf_seresnet.main import main
from se_pnas_kit.tf_seresnet.keras import load_checkpoint
from se_pnas_kit.tf_seresnet.keras.layers import keras

run, epochs, model, written = sys.argv[1:]
status = main(["train", "--resume", run, "--epochs", epochs, "--device", "cpu"])
loaded = keras.models.load_model(model)
load_checkpoint(loaded, run + "/checkpoints/last/model.ckpt")
loaded.save(written)
foreign = [name for name in sys.modules if name.split(".")[0] in ("shared", "tf_seresnet", "torch_imagenet")]
answers = classifier(run, device="cpu")(Image.new("RGB", (32, 32)))
print(json.dumps([status, foreign, answers]))
"""


@pytest.mark.slow
def test_runs_and_models_go_on_from_the_checkout_to_the_wheel_and_back(finished, tmp_path):
    """Two epochs in the checkout, a third in the wheel; each reads them into a model that the other saved."""
    from PIL import Image

    from tf_seresnet import classifier
    from tf_seresnet.keras import load_checkpoint, se_resnet
    from tf_seresnet.keras.layers import keras

    run, black = finished(), Image.new("RGB", (32, 32))
    model = se_resnet(8, "paper")
    model.save(str(tmp_path / "checkout.keras"))
    site = wheel.installed(tmp_path / "wheel")
    words = (str(run.folder), "3", str(tmp_path / "checkout.keras"), str(tmp_path / "wheel.keras"))
    status, output, error = wheel.beside_a_foreign_shared(site, tmp_path / "project", "-c", USE, *words)
    assert status == 0, error
    status, foreign, answers = json.loads(output.splitlines()[-1])
    assert (status, foreign) == (0, [])
    assert [tuple(answer) for answer in answers] == classifier(str(run.folder), device="cpu")(black)

    assert run.record["epochs_completed"] == 3
    load_checkpoint(model, str(run.folder / "checkpoints" / "last" / "model.ckpt"))
    back = keras.models.load_model(str(tmp_path / "wheel.keras"))
    images = np.random.RandomState(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(back(images), model(images))
