"""timm's train.py as far as its second step: python timms_program.py NETWORK DATA BATCH SIZE WORKERS DEVICE.

That file is not in timm's package; this is its way from its own functions with its own defaults: create_model,
create_dataset, create_loader, create_optimizer_v2, create_scheduler_v2, a step with the loss read on the host.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])  # in place of this folder

import torch  # noqa: E402

from benchmarks.torchvision_import import import_torchvision  # noqa: E402


def main() -> None:
    """Model, optimizer, loaders of both splits, schedule, then two steps."""
    import_torchvision()
    import timm
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    from benchmarks.contenders.imagenet_step import TIMM

    network, data, *numbers, device = sys.argv[1:]
    batch, size, workers = map(int, numbers)
    where = torch.device(device)
    datasets: Any = [create_dataset("", root=f"{data}/{split}", split=split) for split in ("train", "val")]
    model = timm.create_model(TIMM[network], num_classes=len(datasets[0].reader.class_to_idx)).to(where)
    settings = resolve_data_config({"input_size": (3, size, size)}, model=model)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=2e-5)
    common = {key: settings[key] for key in ("input_size", "mean", "std", "interpolation")}
    common.update(batch_size=batch, num_workers=workers, device=where)
    loader: Any = create_loader(datasets[0], is_training=True, color_jitter=0.4, **common)
    create_loader(datasets[1], crop_pct=settings["crop_pct"], **common)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=300, updates_per_epoch=len(loader))
    loss_function = torch.nn.CrossEntropyLoss()
    scheduler.step(0)
    model.train()
    for number, (images, labels) in enumerate(loader):
        loss = loss_function(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        sys.stdout.write(f"step {number + 1}\n")
        sys.stdout.flush()
        if number == 1:
            return


if __name__ == "__main__":
    main()
