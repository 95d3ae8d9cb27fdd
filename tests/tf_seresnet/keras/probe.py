"""Writes the model's results on one Keras backend to FOLDER/BACKEND.npz; test_keras.py runs it for each backend.

    KERAS_BACKEND=jax python probe.py FOLDER

FOLDER holds images.npy, labels.npy, trainings.json and, for each network, its weights VARIANT.npz and checkpoint
VARIANT.ckpt.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np

from tf_seresnet.keras import graph_variables, load_checkpoint, save_checkpoint, se_resnet
from tf_seresnet.keras.layers import keras
from tf_seresnet.main import main as command

NETWORKS = {"port": 11, "paper": 8}  # variant and depth
UPDATES = 3  # batches of the moving-average test
ops = keras.ops
backend = keras.backend.backend()


def numbers(folder, variant, depth, images, labels):
    """Yields (name, array): fresh weights, logits and gradients in both modes, averages after updates."""
    model = se_resnet(depth, variant, seed=7)
    for name, value in weights_of(model).items():
        yield f"fresh/{name}", value
    set_weights(model, folder, variant)
    batches = list(zip(np.split(images, UPDATES), np.split(labels, UPDATES)))
    for mode in ("inference", "training"):
        step = make_step(model, mode == "training")
        logits, gradients = step(*batches[0])
        yield f"logits/{mode}", logits
        for name, value in gradients.items():
            yield f"gradient/{mode}/{name}", value
    for batch in batches[1:]:
        step(*batch)
    for name, value in weights_of(model).items():
        yield f"updated/{name}", value


def weights_of(model):
    return {name: ops.convert_to_numpy(variable) for name, variable in graph_variables(model).items()}


def set_weights(model, folder, variant):
    with np.load(folder / f"{variant}.npz") as values:
        for name, variable in graph_variables(model).items():
            variable.assign(values[name])


def make_step(model, training):
    """step(images, labels) -> (logits, gradients of the mean cross-entropy by name).

    In training mode it also updates the model's moving averages.
    """
    names = {id(variable): name for name, variable in graph_variables(model).items()}
    variables, fixed = model.trainable_variables, model.non_trainable_variables

    def loss(logits, labels):
        return ops.mean(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    def tensorflow(images, labels):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits = model(images, training=training)
            value = loss(logits, labels)
        return logits, tape.gradient(value, [v.value for v in variables])

    def torch(images, labels):
        model.zero_grad()
        logits = model(images, training=training)
        loss(logits, labels).backward()
        return logits, [v.value.grad for v in variables]

    def jax(images, labels):
        free, values = [v.value for v in variables], [v.value for v in fixed]
        found, (logits, values) = jitted(free, values, images, labels)
        for variable, value in zip(fixed, values):
            variable.assign(value)
        return logits, found

    if backend == "jax":
        from jax import grad, jit

        def stateless(free, values, images, labels):
            logits, values = model.stateless_call(free, values, images, training=training)
            return loss(logits, labels), (logits, values)

        jitted = jit(grad(stateless, has_aux=True))

    run = {"tensorflow": tensorflow, "jax": jax, "torch": torch}[backend]

    def step(images, labels):
        logits, found = run(images, labels)
        gradients = {names[id(v)]: ops.convert_to_numpy(g) for v, g in zip(variables, found)}
        return ops.convert_to_numpy(logits), gradients

    return step


def trained(folder):
    """What the command line says of each of the trainings in trainings.json; of `plain` two steps in one call."""
    trainings = json.loads((folder / "trainings.json").read_text())
    for name, words in trainings.items():
        if name == "plain":
            words = [*words, "--steps-per-call", "2"]
        run = folder / f"{backend}-{name}"
        with contextlib.redirect_stdout(io.StringIO()):
            assert command([*words, "--layers", "keras", "--output-dir", str(run)]) == 0
        yield f"trained/{name}", losses(run)


def losses(run):
    """The losses of the steps and of the evaluations, as the events of a run have them."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [value for event in events for name, value in event.items() if name in ("loss", "step_loss")]


def fit(images, labels):
    """Losses of a short model.fit."""
    model = se_resnet(NETWORKS["paper"], "paper", weight_decay=1e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, 0.9, nesterov=True), loss, jit_compile=backend != "torch")
    yield "fit", model.fit(images, labels, batch_size=4, epochs=3, verbose=0, shuffle=False).history["loss"]


def saved(folder, images):
    """The logits of a model and of its file."""
    model = se_resnet(NETWORKS["paper"], "paper", weight_decay=1e-4)
    path = folder / f"{backend}.keras"
    model.save(path)
    yield "saved", model.predict(images, verbose=0)
    loaded = keras.saving.load_model(path)
    yield "loaded", loaded.predict(images, verbose=0)
    yield "loaded/decayed", [variable.path for variable in loaded.trainable_variables if variable.regularizer]


def mixed(folder, images, labels):
    """Logits and gradients of a training step under a mixed-precision policy, and the dtypes that matter."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = se_resnet(NETWORKS["paper"], "paper")
    set_weights(model, folder, "paper")
    keras.mixed_precision.set_global_policy("float32")
    logits, gradients = make_step(model, training=True)(images, labels)
    yield "mixed/logits", logits
    yield "mixed/finite", all(np.isfinite(value).all() for value in gradients.values())
    layer = model.get_layer("BatchNorm_1")
    yield "mixed/dtypes", np.array([layer.compute_dtype, layer.output.dtype, layer.moving_mean.dtype])


def checkpoints(folder, variant, depth):
    """The weights of the graph's checkpoint as the model holds them; then the model's own checkpoint."""
    model = se_resnet(depth, variant)
    load_checkpoint(model, folder / f"{variant}.ckpt")
    save_checkpoint(model, folder / f"{backend}-{variant}.ckpt")
    for name, value in weights_of(model).items():
        yield f"restored/{name}", value


def main(folder):
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    found = {}
    for variant, depth in NETWORKS.items():
        values = numbers(folder, variant, depth, images, labels)
        found.update((f"{variant}/{name}", value) for name, value in values)
    found.update(trained(folder))
    found["tensorflow_loaded"] = "tensorflow" in sys.modules
    if backend == "tensorflow":
        found.update(fit(images, labels))
    found.update(saved(folder, images))
    found.update(mixed(folder, np.split(images, UPDATES)[0], np.split(labels, UPDATES)[0]))
    for variant, depth in NETWORKS.items():
        found.update((f"{variant}/{name}", value) for name, value in checkpoints(folder, variant, depth))
    np.savez(folder / f"{backend}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
