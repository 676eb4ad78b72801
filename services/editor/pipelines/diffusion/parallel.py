"""Splits each pass of the denoiser over the processes that ``torchrun`` started on one machine, one a GPU.

Rank 0 runs the pipeline as always. At each call of its denoiser it broadcasts the arguments; every rank then runs the model on
its part of the tokens (Ulysses attention, diffusers' context parallelism), and gets the whole output. The other ranks have the
denoiser alone, and only follow.

A pass cannot go on without all ranks, so a failure in one of them ends every process, to be replaced together. The ranks notice
each other's end by a connection between rank 0 and each of the others; a collective of NCCL would wait for a lost rank.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, NoReturn

import torch
from diffusers import ContextParallelConfig
from diffusers.models._modeling_parallel import ParallelConfig
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from services.editor.pipelines.base import PipelineBrokenError
from services.editor.pipelines.diffusion.device import Device

log = logging.getLogger(__name__)

_IDLE = timedelta(days=30)
"""How long a rank waits for the next pass. gloo counts deadlines in nanoseconds of 64 bits, so it cannot be much longer."""
_GRACE_S = 5.0
"""Time for rank 0 to answer its callers after another rank was lost."""
_END = b"end"
_PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor in a message: its content follows by a broadcast of its own."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str


class Peers:
    """The connections that tell the ranks of each other's end.

    Args:
        connections: to each other rank, on rank 0; to rank 0, on the others.
    """

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections
        self._ending = False
        for connection in connections:
            threading.Thread(target=self._watch, args=(connection,), name="peer", daemon=True).start()

    def _watch(self, connection: Connection) -> None:
        try:
            connection.recv_bytes()
        except (EOFError, OSError):
            if not self._ending:
                self._lost()
        else:
            os._exit(0)  # the main thread waits in a collective

    def _lost(self) -> None:
        if distributed.get_rank() == 0:
            log.critical("another process of this editor ended; this one ends too")
            # Where the executor waits in a collective that fails, it ends the worker sooner, and answers the callers.
            threading.Timer(_GRACE_S, os._exit, args=(1,)).start()
        else:
            log.critical("rank 0 of this editor ended; this process ends too")
            os._exit(1)

    def end(self) -> None:
        """End the other ranks, with status 0."""
        self._ending = True
        for connection in self._connections:
            connection.send_bytes(_END)


def device_of(name: str) -> str:
    """The device of this rank: of GPUs, the one of its number on this machine.

    Raises:
        ValueError: when torchrun did not start this process, or started others elsewhere; for a certain GPU.
    """
    size, here = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("LOCAL_WORLD_SIZE")
    if size < 2 or "RANK" not in os.environ:  # noqa: PLR2004 - several
        raise ValueError("parallel needs several processes: start the worker with torchrun --standalone --nproc-per-node N")
    if here is not None and int(here) != size:
        raise ValueError("parallel works on one machine; start the worker with torchrun --standalone --nproc-per-node N")
    if name.startswith("cuda:"):
        raise ValueError("with parallel each process has the GPU of its number; leave device out")
    return f"cuda:{os.environ.get('LOCAL_RANK', os.environ['RANK'])}" if name == "cuda" else name


def join(device: Device) -> Peers:
    """Join the other ranks, and watch over them."""
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.is_cuda else "gloo", timeout=_IDLE)
    if distributed.get_rank() == 0:
        key = secrets.token_bytes(32)
        with Listener(("127.0.0.1", 0), backlog=distributed.get_world_size(), authkey=key) as listener:
            _broadcast((listener.address, key))
            return Peers([listener.accept() for _ in range(distributed.get_world_size() - 1)])
    address, key = _broadcast(None)
    connection = Client(address, authkey=key)
    for number in (signal.SIGTERM, signal.SIGINT):
        # torchrun sends them to all ranks: rank 0 first finishes its edits, for which it needs the others.
        signal.signal(number, signal.SIG_IGN)
    return Peers([connection])


def split(model: Any, device: Device) -> None:
    """Have every rank compute its part of the model's passes; on rank 0, calls of the model then lead the others.

    Raises:
        ValueError: when diffusers has no plan of how to split this model.
    """
    if getattr(model, "_cp_plan", None) is None:
        raise ValueError(f"diffusers 0.42 cannot split a {type(model).__name__} over processes; leave parallel out")
    size = distributed.get_world_size()
    # Any number of tokens and heads: texts and pictures have no common divisor.
    ulysses = ContextParallelConfig(ulysses_degree=size, ulysses_anything=True)
    config = ParallelConfig(context_parallel_config=ulysses)
    mesh = init_device_mesh(device.device.type, ulysses.mesh_shape, mesh_dim_names=ulysses.mesh_dim_names)
    config.setup(distributed.get_rank(), size, device.device, mesh=mesh)
    # diffusers would take the device from the number of accelerators, and divides by it: 0 on a CPU.
    model._resolve_parallel_config = lambda _: config  # noqa: SLF001
    model.enable_parallelism(config=config)
    if distributed.get_rank() == 0:
        model.forward = _leading(model.forward)


def _leading(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def lead(**arguments: Any) -> Any:
        tensors: list[torch.Tensor] = []
        # An argument that cannot be sent fails here, before the others have begun.
        message = {name: _described(name, value, tensors) for name, value in arguments.items()}
        try:
            _broadcast(message)
            for tensor in tensors:
                distributed.broadcast(tensor.contiguous(), src=0)
            return forward(**arguments)
        # The others may be waiting in the middle of the pass, and nothing brings them back.
        except Exception as exc:
            raise PipelineBrokenError(f"a pass over {distributed.get_world_size()} processes failed: {exc}") from exc

    return lead


def follow(model: Any, device: Device) -> NoReturn:
    """Take part in the passes that rank 0 leads, until it ends this process.

    Raises:
        RuntimeError: when a pass fails.
    """
    with torch.no_grad():
        while True:
            model(**{name: _received(value, device) for name, value in _broadcast(None).items()})


def _broadcast(message: Any) -> Any:
    """Rank 0's message, on every rank."""
    held = [message]
    distributed.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return held[0]


def _described(name: str, value: Any, tensors: list[torch.Tensor]) -> Any:
    """An argument as a message has it; its tensors are added to the list.

    Raises:
        ValueError: for objects with a state, which other ranks cannot share.
    """
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return _Tensor(tuple(value.shape), value.dtype, value.device.type)
    if isinstance(value, list | tuple):
        return type(value)(_described(name, each, tensors) for each in value)
    if isinstance(value, Mapping):
        return {key: _described(name, each, tensors) for key, each in value.items()}
    if not isinstance(value, _PLAIN):
        raise ValueError(f"{name} is a {type(value).__name__}, which stays in one process; leave parallel out")  # noqa: TRY004
    return value


def _received(value: Any, device: Device) -> Any:
    if isinstance(value, _Tensor):
        tensor = torch.empty(value.shape, dtype=value.dtype, device="cpu" if value.device == "cpu" else device.device)
        distributed.broadcast(tensor, src=0)
        return tensor
    if isinstance(value, list | tuple):
        return type(value)(_received(each, device) for each in value)
    if isinstance(value, dict):
        return {key: _received(each, device) for key, each in value.items()}
    return value
