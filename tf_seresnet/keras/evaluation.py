"""The mode `evaluate` of `--layers keras`: one checkpoint, of whatever layer set, on the test images."""

from __future__ import annotations

from shared.results import record as records
from shared.run.example_predictions import MostConfident
from shared.run.history import History
from shared.run.log import RunLog
from shared.system.signals import Interrupts
from tf_seresnet.keras.layers import keras
from tf_seresnet.keras.training_step import KerasInference, build, values_of
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints, counting, description, dry_run
from tf_seresnet.run.setup import RunSetup


def evaluate(config: RunConfig, interrupts: Interrupts) -> None:
    """Writes result.json to the output folder. Raises UsageError, and Stopped after a signal."""
    history = History()
    setup = RunSetup.from_config(config)
    assert setup.checkpoint is not None
    folder = None if config.dry_run else counting.open_folder(config)
    with RunLog(folder) as log:
        head = [setup.data_remark, *config.command_notes, *setup.checkpoint.notes]
        lines = [*description.device_lines(setup.device), *(f"note: {note}" for note in setup.classes.notes)]
        log.lines([*head, f"checkpoint: {setup.checkpoint.prefix}", *lines])
        if folder:
            description.write_config(setup, folder)
        network, backend = build(setup)
        inference = KerasInference(network, setup, backend, counting.batch_size(setup))
        checkpoint = setup.checkpoint.moved_with(config.output_dir)
        shapes = {name: list(one.shape) for name, one in values_of(network).items()}
        read = checkpoints.read(checkpoint, shapes)
        values = {name: keras.ops.convert_to_tensor(one) for name, one in read.items()}
        if config.dry_run:
            log.lines(dry_run.of_evaluation(setup, inference.batch_size))
            return
        examples = MostConfident()
        metrics = counting.count_images(values, setup, inference, interrupts, examples)
        interrupts.raise_if_requested()
        if folder is None:
            return
        log.evaluation((checkpoint.state or {}).get("progress", {}).get("step", 0), metrics)
        counting.write_pictures(log, folder, examples, setup)
        sizes = {"batch_size": inference.batch_size, "global_batch_size": inference.batch_size}
        record = description.build_record(setup, metrics, checkpoint.prefix, **sizes, **history.record())
        records.finish(log, folder, record, metrics)
