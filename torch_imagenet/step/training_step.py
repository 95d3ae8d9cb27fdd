"""One training step: forward, loss, backward, unscale and check, clip, update, average; it waits for no device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Sequence, Tuple, TypeVar

import torch
from torch import nn

from shared.rng import step_seed
from shared.run.divergence import not_a_number
from shared.run.loop import Step, StepResult
from torch_imagenet.devices import out_of_memory
from torch_imagenet.distributed import data_parallel
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.networks import bottleneck
from torch_imagenet.networks.grouped_conv import set_form
from torch_imagenet.step import losses, not_finite, optimizer
from torch_imagenet.step.compiled import Compiled
from torch_imagenet.step.loss_scale import LossScale
from torch_imagenet.step.to_device import mixing

if TYPE_CHECKING:
    from torch_imagenet.run.setup import RunSetup

T = TypeVar("T")


class TrainingStep(Step):
    """A network ready to be trained: on its device, in its precision, with optimizer, loss scale and average."""

    def __init__(self, network: nn.Module, setup: RunSetup) -> None:
        recipe, device, ranks, precision = setup.recipe, setup.device, setup.ranks, setup.precision
        self.device, self.precision, self.asynchronous = device, precision, device.asynchronous
        self._recipe, self._ranks, self._normalise = recipe, ranks, setup.normalisation()
        set_form(network, setup.config.grouped_conv)
        if not setup.config.compile:
            bottleneck.fuse_gates(network, setup.norm_kernels)
        if setup.config.sync_bn:
            network = data_parallel.with_synchronised_statistics(network, device)
        self.network = device.place(network, setup.memory_format)
        self._head = setup.spec.head if recipe.freeze_body else None
        self._auxiliary_weight = 0.0 if recipe.freeze_body else recipe.auxiliary_weight
        if self._head:
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_(name.split(".")[0] == self._head)
        self.weights = optimizer.Weights(self.network, precision.weights, device.supports_foreach)
        self._meets_in_forward = setup.config.sync_bn and ranks.size > 1
        self._magnitude = 0.0  # of the weights when results were last read
        self._epsilon = losses.uniform_epsilon(recipe.label_smoothing, recipe.smoothing, setup.spec.num_classes)
        self._mixing = mixing(recipe, setup.spec.num_classes, ranks.rank)
        self._replicas = data_parallel.Replicas(self.network, ranks, device, averaged_statistics=not recipe.freeze_body)
        self._forward: Callable[[torch.Tensor], Any] = self._replicas.module
        self._evaluated: Callable[[torch.Tensor], Any] = self.network
        self._has_graphs = False  # of CUDA, whose gradients lie where the next ones will
        if setup.config.compile:
            self._forward = Compiled(self._replicas.module, setup.config.compile, device, recipe.batch_size)
            self._evaluated = Compiled(self.network, setup.config.compile, device)
            self._has_graphs = self._forward.has_graphs
        self.optimizer = optimizer.sgd(self.weights, recipe, device)
        self.loss_scale = LossScale(recipe.loss_scale or precision.loss_scale, device, ranks)
        self.average = optimizer.WeightAverage(self.weights, recipe.ema_decay)

    def run(self, batches: Sequence[Batch], rate: float, epoch: int, step_in_epoch: int) -> torch.Tensor:
        """Train on one batch, or on several whose gradients are averaged over their images. `epoch` is zero-based.

        Returns float32 [4] on the device, over all devices: mean loss, images classified correctly, images whose class
        is among the first five, images. Raises RunEnded where memory runs out; the state is spoilt then.
        """
        try:
            return self._run(batches, rate, epoch, step_in_epoch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory.recovered(error, self.device):
                raise
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
        trainable = list(self.weights.trainable().values())
        for master in trainable:
            master.grad = None
        momentum = [] if self.optimizer.state else [torch.empty_like(weight) for weight in trainable]  # as a first step
        smaller = batch._replace(images=batch.images[:size], labels=batch.labels[:size])
        weights = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        # Not DistributedDataParallel, nor its hooks in backward(): an exchange that was cut short refuses the next.
        # Nor a compiled network, which would be compiled for each size.
        for _ in range(min(2, self._recipe.accumulate)):  # the second beside the gradients of the first
            loss, _ = self._loss(self.network, smaller, 0.0, 0, 0)
            gradients = torch.autograd.grad(self.loss_scale.scale(loss), weights, allow_unused=True)
            for weight, gradient in zip(weights, gradients):
                weight.grad = gradient
        self.weights.take_gradients()
        del momentum

    def _run(self, batches: Sequence[Batch], rate: float, epoch: int, step_in_epoch: int) -> torch.Tensor:
        if self._head or not self.network.training:
            self._to_training_mode()
        self.device.seed(step_seed(self._recipe.seed, epoch, step_in_epoch, self._ranks.rank))
        images = sum(len(batch.labels) for batch in batches)
        values: List[torch.Tensor] = []
        for number, batch in enumerate(batches):
            position = step_in_epoch * self._recipe.accumulate + number
            with self._replicas.exchange(now=number == len(batches) - 1):
                values.append(self._backward(batch, len(batch.labels) / images, epoch, position))
            if self._has_graphs and number == 0 and len(batches) > 1:
                self.weights.keep_gradients()
        result = self._agreed(values[0] if len(values) == 1 else torch.stack(values).sum(dim=0))
        self.weights.take_gradients()
        self.loss_scale.unscale_(self.optimizer)
        if self._recipe.clip_norm is not None:
            trainable, foreach = list(self.weights.trainable().values()), self.device.supports_foreach
            torch.nn.utils.clip_grad_norm_(trainable, self._recipe.clip_norm, foreach=None if foreach else False)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.loss_scale.step_and_update(self.optimizer)
        self.weights.copy_to_model()
        self.weights.clear_gradients(self.optimizer if self.device.npu.fused_sgd else None)
        self.average.update()
        return result

    def _to_training_mode(self) -> None:
        """All layers, which takes milliseconds of a large network; a frozen body stays in evaluation mode.

        The dropout before the head is the head's.
        """
        self.network.train()
        if self._head:
            for name, child in self.network.named_children():
                child.train(name in (self._head, "dropout"))

    def _agreed(self, values: torch.Tensor) -> torch.Tensor:
        """The values over all devices. Gradients are averaged before it, running statistics by it."""
        return self._replicas.reduced(values)

    def _backward(self, batch: Batch, share: float, epoch: int, position: int) -> torch.Tensor:
        """Gradients of `share` times the batch's mean loss; float32 [4]: that loss and the counts of `run`."""
        loss, counts = self._loss(self._forward, batch, share, epoch, position)
        self.loss_scale.scale(loss).backward()
        return torch.cat([loss.detach().float()[None], counts, torch.full_like(counts[:1], len(batch.labels))])

    def _loss(
        self, forward: Callable[[torch.Tensor], Any], batch: Batch, share: float, epoch: int, position: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """`share` times the batch's mean loss; the images that are correct, and correct among the first five."""
        images = self._normalise(batch.images)
        targets = batch.labels.to(self.device.torch_device, non_blocking=True)
        if self._mixing is not None:
            images, targets = self._mixing(images, targets, epoch, position)
        with self.device.autocast(self.precision):
            outputs = forward(images)
        loss = losses.mean_loss(outputs, targets, self._epsilon, self._auxiliary_weight) * share
        with torch.no_grad():
            return loss, losses.correct_counts(outputs, targets)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of normalised images, as an evaluation computes them."""
        if self.network.training:
            self.network.eval()
        return self._evaluated(images)

    def evaluate(self, count: Callable[[Callable[[torch.Tensor], torch.Tensor], nn.Module], T]) -> T:
        """What `count(forward, network)` returns, with the averages of the weights where the recipe has them."""
        with self.average.applied():
            return count(self.forward, self.network)

    def read(self, pending: List[torch.Tensor]) -> List[StepResult]:
        """Wait for the device, once; the results of these steps, each what `run` returned."""
        numbers = [weight.detach() for weight in self.weights.masters.values()]
        numbers += [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        foreach = self.device.supports_foreach
        norms = torch._foreach_norm(numbers, 1) if foreach else [value.abs().sum() for value in numbers]
        magnitude = torch.stack([value.float() for value in norms]).sum()
        *rows, (self._magnitude, *_) = torch.stack([*pending, magnitude.expand(4)]).tolist()
        return [StepResult(loss, int(top1), int(top5), int(images)) for loss, top1, top5, images in rows]

    def check_numbers(self, step: int, is_last: bool) -> None:
        """Raise UsageError where a weight that was read is not finite, or the loss scale has failed; see `Step`."""
        if not math.isfinite(self._magnitude):
            raise not_a_number(f"a weight is not a number after step {step}{self.where_not_finite()}")
        self.loss_scale.check(step, is_last)

    def where_not_finite(self) -> str:
        """Which of the network's statistics and weights are not finite, for a message."""
        return not_finite.in_state(self.network, self.weights.masters)

    def state_dict(self) -> Dict[str, Any]:
        """Everything that continuing needs, as tensors and plain values. Waits for the device."""
        average = self.average.entries
        return {
            "network": self.weights.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scale": self.loss_scale.state_dict(),
            **({"average": average} if average else {}),
        }

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on from `state_dict`'s."""
        self.weights.load_state_dict(state["network"])
        optimizer.load_optimizer(self.optimizer, state["optimizer"])
        self.loss_scale.load_state_dict(state["loss_scale"])
        self.average.load_state_dict(state.get("average", {}))

    def broadcast(self) -> None:
        """The first process's state in all of them; done once, before the first step."""
        scale = self._ranks.broadcast_result(self.loss_scale.state_dict)
        if not self._ranks.is_first:
            self.loss_scale.load_state_dict(scale)
        momenta = [self.optimizer.state[one].get("momentum_buffer") for one in self.weights.trainable().values()]
        tensors = [weight.detach() for weight in self.weights.masters.values()]
        tensors += [*self.network.buffers(), *(momentum for momentum in momenta if momentum is not None)]
        data_parallel.broadcast([*tensors, *self.average.entries.values()], self._ranks)
        self.weights.copy_to_model()

    def evaluated_weights(self) -> Dict[str, torch.Tensor]:
        """The float32 state dict that evaluations use: the averages where there are any."""
        return {**self.weights.state_dict(), **self.average.entries}
