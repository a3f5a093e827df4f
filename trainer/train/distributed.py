"""One process or several: what each takes of a batch, and how features and gradients come together.

The same command trains in one process and, under `torchrun` or `accelerate launch`, in as many as they start.
Every process plans the same batches and takes its stretch of each. Features are gathered, so that the loss
sees all pictures and texts of the batch; each process puts its gradients through its own rows only, and the
gradients of all are summed. That is the gradient of one process with the whole batch, exactly.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = timedelta(hours=6)  # the first process decodes a corpus while the others wait

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Who this process is: `rank` of `world`, and `local_rank` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def stretch(self, count: int) -> slice:
        """Which of `count` items of a batch are this process's."""
        edges = self._edges(count)
        return slice(edges[self.rank], edges[self.rank + 1])

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all processes, (count, …), in the batch's order.

        Args:
            rows: this process's stretch, (its length, …); its own rows keep their gradient.
            count: rows of all processes.
        """
        if self.world == 1:
            return rows
        edges = self._edges(count)
        sizes = [end - start for start, end in itertools.pairwise(edges)]
        longest = max(sizes)
        padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
        padded[: len(rows)] = rows.detach()
        everyone = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(everyone, padded)
        parts = [part[:size] for part, size in zip(everyone, sizes, strict=True)]
        parts[self.rank] = rows
        return torch.cat(parts)

    def sum_gradients(self, shared: Iterable[nn.Parameter], known_by_all: Iterable[nn.Parameter]) -> None:
        """Sum every parameter's gradient over the processes.

        Args:
            shared: parameters that each process has the gradient of its own rows of.
            known_by_all: parameters whose whole gradient each process has already, as of the logit scale.
        """
        if self.world == 1:
            return
        whole = list(known_by_all)
        for parameter in whole:
            if parameter.grad is not None:
                parameter.grad.div_(self.world)
        for parameter in (*shared, *whole):
            if parameter.grad is None:  # a process without rows in this batch takes part all the same
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.world > 1:
            dist.barrier()

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, given to all; an error of the first is raised in all."""
        if self.world == 1:
            return make()
        told: list[tuple[T | None, Exception | None]] = [(None, None)]
        if self.first:
            try:
                told = [(make(), None)]
            except Exception as error:
                told = [(None, error)]
        dist.broadcast_object_list(told, src=0)
        value, failure = told[0]
        if failure is not None:
            raise failure
        return value  # type: ignore[return-value]  # None where `make` gave None

    def take_weights(self, module: nn.Module) -> None:
        """Give all processes the first one's weights and buffers."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def all_of(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # every place is filled by then

    def device(self, device: torch.device) -> torch.device:
        """This process's own of several GPUs, where no number was asked for."""
        if self.world > 1 and device.type == "cuda" and not has_number(device):
            return torch.device("cuda", self.local_rank % torch.cuda.device_count())
        return device

    def _edges(self, count: int) -> Sequence[int]:
        return [count * rank // self.world for rank in range(self.world + 1)]


ALONE = Processes()


def has_number(device: torch.device) -> bool:
    """Whether a device was named with its number, as `cuda:1`."""
    return ":" in str(device)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that a launcher started; alone where there is none.

    Args:
        device: where the network runs; it decides how processes talk (nccl on cuda, else gloo).
    """
    if dist.is_initialized():  # the caller's own group
        yield _this()
        return
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield _this()
    finally:
        dist.destroy_process_group()


def _this() -> Processes:
    return Processes(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank(fallback_rank=0))
