"""How processes that train together keep one network: each a whole copy (DDP), or each a share of it (FSDP2)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from trainer import checkpointing
from trainer.checkpointing import Rest, nothing
from trainer.distributed import World
from xdecoder.checkpoint import fill
from xdecoder.network import Network, RepeatedLayer

EngineName = Literal["ddp", "fsdp"]


class Engine:
    """The network of a process on its own, or (with `learner` wrapped by `start`) a copy that is kept equal on all."""

    whole_everywhere = True
    """Whether one process alone knows all that there is to save."""

    def __init__(self, learner: nn.Module, world: World, device: torch.device, recompute: bool) -> None:
        self.learner, self.world, self.device = learner, world, device
        if recompute:
            recompute_activations(learner)

    def start(self) -> None:
        """Get ready to train."""
        if self.world.size == 1:
            return
        # Hints at speed that nobody can act on: strides of depth-wise convolutions' gradients, and steps that reach everything.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        devices = [self.device] if self.device.type == "cuda" else None
        # Which parameters a step reaches may change from step to step, as when a stream starts late: one that no process
        # reaches keeps its gradient of None, as in a process on its own.
        self.learner = DistributedDataParallel(self.learner, device_ids=devices, find_unused_parameters=True)

    @contextmanager
    def exchanging_gradients(self, last: bool) -> Iterator[None]:
        """Around a forward and backward: processes exchange gradients once a step, in its last backward."""
        if last or not isinstance(self.learner, DistributedDataParallel):
            yield
            return
        with self.learner.no_sync():
            yield

    @contextmanager
    def whole(self, model: nn.Module) -> Iterator[nn.Module]:
        """The network as a plain module, with which each process may do what it likes within the block."""
        yield model

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The whole network's weights, in the shapes of its `state_dict`, on the main process. All processes must ask."""
        return model.state_dict()

    def save(
        self, plain: dict[str, Any], model: nn.Module, optimizer: Optimizer, folder: Path, step: int, keep_last: int
    ) -> Rest:
        """Write the step's training state: `plain` (the main process's) and what model and optimizer hold.

        Returns:
            What is left of it (`trainer.checkpointing.Rest`).
        """
        return self.write(plain, model, optimizer, folder, step, keep_last) if self.world.is_main else nothing

    def write(
        self, plain: dict[str, Any], model: nn.Module, optimizer: Optimizer, folder: Path, step: int, keep_last: int
    ) -> Rest:
        """`save` by this process on its own, where the network is `whole_everywhere`."""
        assert self.whole_everywhere
        state = {**plain, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        return checkpointing.save(state, folder, step, keep_last)

    def load(self, path: Path, state: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> None:
        """Take up the state that `checkpointing.latest` found; raises ValueError for another network's or engine's."""
        if "model" not in state:
            raise ValueError(f"{path}: a state of trainer.engine fsdp on several processes; go on with as it was begun")
        fill(model, state["model"], path)
        optimizer.load_state_dict(state["optimizer"])


class ShardedEngine(Engine):
    """FSDP2: parameters, gradients and the optimiser's state are split among the processes, layer by layer."""

    whole_everywhere = False

    def __init__(self, learner: nn.Module, world: World, device: torch.device, recompute: bool) -> None:
        self._plain = copy.deepcopy(learner.get_submodule("model")).cpu()  # to be measured with
        super().__init__(learner, world, device, recompute)
        self._scalars = _make_vectors_of_scalars(learner)
        for layer in repeated_layers(learner):
            # What runs several times a forward stays together until the backward. How often the text encoder runs depends on
            # the texts, and processes that fetch its weights each time would have to agree on it.
            fully_shard(layer.module, reshard_after_forward=layer.once)
            for method in layer.methods:
                if method != "forward":
                    register_fsdp_forward_method(layer.module, method)
        fully_shard(learner)

    def start(self) -> None:
        pass

    @contextmanager
    def exchanging_gradients(self, last: bool) -> Iterator[None]:
        assert isinstance(self.learner, FSDPModule)
        self.learner.set_requires_gradient_sync(last)
        yield

    @contextmanager
    def whole(self, model: nn.Module) -> Iterator[nn.Module]:
        self._plain.load_state_dict(self._gathered(model, cpu_offload=False))
        try:
            yield self._plain.to(self.device)
        finally:
            self._plain.cpu()

    def save(
        self, plain: dict[str, Any], model: nn.Module, optimizer: Optimizer, folder: Path, step: int, keep_last: int
    ) -> Rest:
        tensors = _named_tensors(model, get_optimizer_state_dict(model, optimizer))
        return checkpointing.save_shards(tensors, plain, folder, step, keep_last, self.world)

    def load(self, path: Path, state: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> None:
        if "model" in state:
            raise ValueError(f"{path}: not a state of trainer.engine fsdp; go on with trainer.engine=ddp")
        found: dict[str, Any] = get_optimizer_state_dict(model, optimizer)  # with tensors of the right shapes to be filled
        saved = checkpointing.names_in_shards(path)
        found["state"] = {  # nothing is known of parameters that no step has reached
            name: state for name, state in found["state"].items() if not saved.isdisjoint(_names_of_moments(name, state))
        }
        checkpointing.load_shards(_named_tensors(model, found), path)
        set_optimizer_state_dict(model, optimizer, found, options=StateDictOptions(strict=False))

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The whole network's weights, in the shapes of a plain network's, on the main process. All processes must ask."""
        return self._gathered(model, cpu_offload=True)

    def _gathered(self, model: nn.Module, cpu_offload: bool) -> dict[str, Tensor]:
        """The whole network's weights, on all processes or, in memory of the processor, on the main one."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=cpu_offload)
        weights: dict[str, Any] = get_model_state_dict(model, options=options)
        return {name: value.reshape(()) if f"model.{name}" in self._scalars else value for name, value in weights.items()}


def _make_vectors_of_scalars(learner: nn.Module) -> set[str]:
    """Replace each parameter that is a single number by a vector of one, since numbers cannot be sharded; their names."""
    found = {name for name, parameter in learner.named_parameters() if parameter.ndim == 0}
    for name in found:
        prefix, _, leaf = name.rpartition(".")
        module = learner.get_submodule(prefix)
        old = module.get_parameter(leaf)
        setattr(module, leaf, nn.Parameter(old.detach()[None], requires_grad=old.requires_grad))
    return found


def _named_tensors(model: nn.Module, optimizer: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for parameter, state in optimizer["state"].items():
        tensors |= dict(zip(_names_of_moments(parameter, state), state.values(), strict=True))
    return tensors


def _names_of_moments(parameter: str, state: Mapping[str, Any]) -> list[str]:
    return [f"optimizer.{key}.{parameter}" for key in state]


def build_engine(name: EngineName, learner: nn.Module, world: World, device: torch.device, recompute: bool = False) -> Engine:
    """The engine of that name; a process on its own has nothing to share and trains as it is.

    Args:
        learner: with the network as its `model`.
        recompute: keep only the layers' inputs for the backward.
    """
    kind = ShardedEngine if name == "fsdp" and world.size > 1 else Engine
    return kind(learner, world, device, recompute)


def repeated_layers(learner: nn.Module) -> list[RepeatedLayer]:
    """Those of the network that the learner holds as its `model`."""
    model = learner.get_submodule("model")
    return model.repeated_layers() if isinstance(model, Network) else []


def recompute_activations(learner: nn.Module) -> None:
    """Let the repeated layers keep only their inputs and compute the rest again in the backward: less memory, more time."""
    for layer in repeated_layers(learner):
        for method in layer.methods:
            setattr(layer.module, method, _recomputing(layer.module, getattr(layer.module, method)))


def _recomputing(layer: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        return checkpoint(method, *arguments, use_reentrant=False) if torch.is_grad_enabled() else method(*arguments)

    return run


def total_norm(parameters: list[nn.Parameter]) -> Tensor:
    """L2 norm of the whole gradient, of all processes' shares of it: a scalar."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
