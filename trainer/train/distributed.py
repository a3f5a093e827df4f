"""Distributed training: the share of each process in a batch, and the exchange of features and gradients.

The same command trains in one process and, under `torchrun` or `accelerate launch`, in as many as they start.
Every process plans the same batches and takes its slice of each. Features are gathered, so that the loss
covers all images and texts of the batch; each process backpropagates through its own rows only, and the
gradients of all are summed. That is exactly the gradient of one process with the whole batch.
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

_TIMEOUT = timedelta(hours=6)  # the first process decodes a corpus while the others wait

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among others: `rank` of `world`, and `local_rank` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def stretch(self, count: int) -> slice:
        """The slice of this process of `count` items of a batch."""
        edges = self._edges(count)
        return slice(edges[self.rank], edges[self.rank + 1])

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all processes, (count, …), in the batch's order.

        Args:
            rows: this process's slice, (its length, …); its own rows keep their gradient.
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
            shared: parameters with a partial gradient, of the process's own rows.
            known_by_all: parameters with the whole gradient in each process, such as the logit scale.
        """
        if self.world == 1:
            return
        whole = list(known_by_all)
        for parameter in whole:
            if parameter.grad is not None:
                parameter.grad.div_(self.world)
        for parameter in (*shared, *whole):
            if parameter.grad is None:  # a process without rows in this batch takes part as well
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            dist.barrier()

    def from_first(self, make: Callable[[], T]) -> T:
        """The result of the first process, sent to all; an error of the first is raised in all."""
        if self.world == 1:
            return make()
        outcome: list[tuple[T | None, Exception | None]] = [(None, None)]
        if self.first:
            try:
                outcome = [(make(), None)]
            except Exception as error:
                outcome = [(None, error)]
        dist.broadcast_object_list(outcome, src=0)
        value, failure = outcome[0]
        if failure is not None:
            raise failure
        return value  # type: ignore[return-value]  # None where `make` returns None

    def take_weights(self, module: nn.Module) -> None:
        """Copy the first process's weights and buffers to all."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def all_of(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # every entry is filled by then

    def device(self, device: torch.device) -> torch.device:
        """This process's GPU of several, unless a number was requested."""
        if self.world > 1 and device.type == "cuda" and not has_number(device):
            return torch.device("cuda", self.local_rank % torch.cuda.device_count())
        return device

    def _edges(self, count: int) -> Sequence[int]:
        return [count * rank // self.world for rank in range(self.world + 1)]


ALONE = Processes()


def has_number(device: torch.device) -> bool:
    """Whether a device name has a number, such as `cuda:1`."""
    return ":" in str(device)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes of a launcher; a single process without one.

    Args:
        device: of the network; it decides the backend (nccl on cuda, else gloo).
    """
    if dist.is_initialized():  # the caller's own group
        yield _this()
        return
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield _this()
    finally:
        dist.destroy_process_group()


def _this() -> Processes:
    return Processes(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank(fallback_rank=0))
