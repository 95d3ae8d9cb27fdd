"""One training step: forward, loss, backward, unscale and check, clip, update, average; it waits for no device."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, TypeVar

import torch
from torch import nn

from shared.recipes.imagenet import ImageNetRecipe
from shared.rng import step_seed
from shared.run.divergence import not_a_number
from shared.run.loop import Step, StepResult
from torch_imagenet.devices import out_of_memory
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import Precision, to_half
from torch_imagenet.distributed import data_parallel
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.step import losses, not_finite, optimizer
from torch_imagenet.step.loss_scale import LossScale
from torch_imagenet.step.mixing import Mixing
from torch_imagenet.step.normalisation import Normalisation
from torch_imagenet.step.weight_average import WeightAverage

T = TypeVar("T")


class TrainingStep(Step):
    """A network ready to be trained: on its device, in its precision, with optimizer, loss scale and average."""

    def __init__(
        self,
        network: nn.Module,
        recipe: ImageNetRecipe,
        num_classes: int,
        device: Device,
        precision: Precision,
        normalise: Normalisation,
        memory_format: str,
        head: str,
        compiled: bool = False,
        ranks: Ranks = ALONE,
        sync_batch_norm: bool = False,
    ) -> None:
        if sync_batch_norm:
            network = data_parallel.with_synchronised_statistics(network, device)
        self.network = device.place(network, memory_format)
        self._head = head if recipe.freeze_body else None
        if self._head:
            _freeze_all_but(self.network, self._head)
        if precision.weights != torch.float32:
            to_half(self.network, precision.weights)
        self._recipe = recipe
        self._meets_in_forward = sync_batch_norm and ranks.size > 1
        self.device = device
        self.asynchronous = device.asynchronous
        self._magnitude = 0.0  # of the weights when results were last read
        self.precision = precision
        self._normalise = normalise
        self._loss = losses.Loss(
            losses.uniform_epsilon(recipe.label_smoothing, recipe.smoothing, num_classes), recipe.auxiliary_weight
        )
        self._mixing = Mixing.from_recipe(recipe, num_classes, ranks.rank)
        self._ranks = ranks
        self._replicas = data_parallel.Replicas(self.network, ranks, device, averaged_statistics=not recipe.freeze_body)
        self._forward = torch.compile(self._replicas.module) if compiled else self._replicas.module
        self.weights = optimizer.Weights(self.network, device.supports_foreach)
        self.optimizer, self.fused = optimizer.sgd(self.weights, recipe, device)
        self.loss_scale = LossScale(recipe.loss_scale or precision.loss_scale, device.torch_device.type)
        self.average = WeightAverage(self.weights, recipe.ema_decay) if recipe.ema_decay else None

    def run(self, batches: Sequence[Batch], rate: float, epoch: int, step_in_epoch: int) -> torch.Tensor:
        """Train on one batch, or on several whose gradients are averaged over their images. `epoch` is zero-based.

        Returns float32 [4] on the device, over all devices: mean loss, images classified correctly, images whose class
        is among the first five, images. Raises RunEnded where memory runs out; the state is spoilt then.
        """
        try:
            return self._run(batches, rate, epoch, step_in_epoch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory.is_out(error):
                raise
            out_of_memory.forget(error, self.device)
        largest = max(batches, key=lambda batch: len(batch.labels))
        size = len(largest.labels)
        if self._meets_in_forward:  # the others are not there for a trial
            raise out_of_memory.training(self.device, size, (size + 1) // 2, self._recipe.accumulate, tried=False)
        fits = out_of_memory.fitting(size, lambda smaller: self._try(largest, smaller), self.device)
        raise out_of_memory.training(self.device, size, fits, self._recipe.accumulate)

    def left_out(self) -> torch.Tensor:
        """What `run` would give for a step of no images, which changes nothing."""
        return torch.zeros(4, device=self.device.torch_device)

    def _try(self, batch: Batch, size: int) -> None:
        """Take the memory of a step with the first `size` images of this batch, without the other processes."""
        self.weights.clear_gradients()
        for master in self.weights.trainable().values():
            master.grad = None
        momentum = out_of_memory.of_first_step(list(self.weights.trainable().values()), self.optimizer)
        smaller = batch._replace(images=batch.images[:size], labels=batch.labels[:size])
        with self._replicas.exchange(now=False):
            for _ in range(min(2, self._recipe.accumulate)):  # the second beside the gradients of the first
                self._backward(smaller, 0.0, 0, 0)
        self.weights.take_gradients()
        del momentum

    def _run(self, batches: Sequence[Batch], rate: float, epoch: int, step_in_epoch: int) -> torch.Tensor:
        self._training_mode()
        self.device.seed(step_seed(self._recipe.seed, epoch, step_in_epoch, self._ranks.rank))
        images = sum(len(batch.labels) for batch in batches)
        values: List[torch.Tensor] = []
        for number, batch in enumerate(batches):
            position = step_in_epoch * self._recipe.accumulate + number
            with self._replicas.exchange(now=number == len(batches) - 1):
                values.append(self._backward(batch, len(batch.labels) / images, epoch, position))
        result = self._replicas.reduced(values[0] if len(values) == 1 else torch.stack(values).sum(dim=0))
        self.weights.take_gradients()
        self.loss_scale.unscale(self.optimizer)
        if self._recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(
                list(self.weights.trainable().values()),
                self._recipe.clip_norm,
                foreach=None if self.device.supports_foreach else False,
            )
        optimizer.set_rate(self.optimizer, rate)
        self.loss_scale.step(self.optimizer)
        self.weights.copy_to_model()
        self.weights.clear_gradients(self.optimizer if self.device.npu.fused_sgd else None)
        if self.average is not None:
            self.average.update()
        return result

    def _backward(self, batch: Batch, share: float, epoch: int, position: int) -> torch.Tensor:
        """Gradients of `share` times the batch's mean loss; float32 [4]: that loss and the counts of `run`."""
        images = self._normalise(batch.images.to(self.device.torch_device, non_blocking=True))
        targets = batch.labels.to(self.device.torch_device, non_blocking=True)
        if self._mixing is not None:
            images, targets = self._mixing(images, targets, epoch, position)
        with self.device.autocast(self.precision):
            outputs = self._forward(images)
        loss = self._loss(outputs, targets) * share
        self.loss_scale.scale(loss).backward()
        with torch.no_grad():
            counts = losses.correct_counts(losses.main_logits(outputs), losses.hard_labels(targets))
            return torch.cat([loss.detach().float()[None], counts, torch.full_like(counts[:1], len(batch.labels))])

    def _training_mode(self) -> None:
        self.network.train()
        if self._head:
            for name, child in self.network.named_children():
                child.train(name == self._head)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of normalised images, as an evaluation computes them."""
        self.network.eval()
        return self._forward(images)

    def evaluate(self, count: Callable[[Callable[[torch.Tensor], torch.Tensor], nn.Module], T]) -> T:
        """What `count(forward, network)` returns, with the averages of the weights where the recipe has them."""
        with self.average.applied() if self.average is not None else contextlib.nullcontext():
            return count(self.forward, self.network)

    def magnitude(self) -> torch.Tensor:
        """The sum of all weights' and statistics' magnitudes, not finite where one is not: float32 [] on the device."""
        numbers = [weight.detach() for weight in self.weights.masters.values()]
        numbers += [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        sums = (
            torch._foreach_norm(numbers, 1)
            if self.device.supports_foreach
            else [value.abs().sum() for value in numbers]
        )
        return torch.stack([value.float() for value in sums]).sum()

    def read(self, pending: List[torch.Tensor]) -> List[StepResult]:
        """Wait for the device, once; the results of these steps, each what `run` returned."""
        *rows, (self._magnitude, *_) = torch.stack([*pending, self.magnitude().expand(4)]).tolist()
        return [StepResult(loss, int(top1), int(top5), int(images)) for loss, top1, top5, images in rows]

    def check_numbers(self, step: int, is_last: bool) -> None:
        """Raise UsageError where a weight that was read is not finite, or the loss scale has failed; see `LossScale`.

        `step` is the one that was read last; `is_last`: it ended an epoch.
        """
        if not math.isfinite(self._magnitude):
            raise not_a_number(f"a weight is not a number after step {step}{self.where_not_finite()}")
        self.loss_scale.check(step, is_last)

    def where_not_finite(self) -> str:
        """Which of the network's statistics and weights are not finite, for a message."""
        return not_finite.in_state(self.network, self.weights.masters)

    # -- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        """Everything that continuing needs, as tensors and plain values. Waits for the device."""
        state: Dict[str, Any] = {
            "network": self.weights.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scale": self.loss_scale.state_dict(),
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on from `state_dict`'s."""
        self.weights.load_state_dict(state["network"])
        optimizer.load_optimizer(self.optimizer, state["optimizer"])
        self.loss_scale.load_state_dict(state["loss_scale"], self.device.torch_device)
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def broadcast(self) -> None:
        """The first process's state in all of them; done once, before the first step."""
        scale = self._ranks.from_first(self.loss_scale.state_dict)
        if not self._ranks.is_first:
            self.loss_scale.load_state_dict(scale, self.device.torch_device)
        data_parallel.broadcast(self._state_tensors(), self._ranks)
        self.weights.copy_to_model()

    def _state_tensors(self) -> Iterator[torch.Tensor]:
        yield from (weight.detach() for weight in self.weights.masters.values())
        yield from self.network.buffers()
        for parameter in self.weights.trainable().values():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                yield momentum
        if self.average is not None:
            yield from self.average.state_dict().values()

    def evaluated_weights(self) -> Dict[str, torch.Tensor]:
        """The float32 state dict that evaluations use: the averages where there are any."""
        weights = self.weights.state_dict()
        return weights if self.average is None else {**weights, **self.average.state_dict()}


def _freeze_all_but(network: nn.Module, head: str) -> None:
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.split(".")[0] == head)


def needs_host(step: TrainingStep) -> Optional[str]:
    """Why a step of this kind waits for the host after all; None where it does not."""
    if step.loss_scale.enabled and not step.fused:
        return "this optimizer leaves the loss scale to the host, which waits for the device after every step"
    return None
