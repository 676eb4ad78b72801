"""The device a pipeline runs on: memory, synchronisation, errors."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from services.editor.pipelines.base import OutOfMemoryError, PipelineBrokenError, PipelineError
from services.errors import ApiError

_PREVIEW_SIDE = 32  # latent pixels: 256 pixels with today's VAEs
_DEVICE_ERRORS = ("CUDA error", "HIP error", "device-side assert", "CUBLAS_STATUS", "cuDNN error", "NCCL")
_MEMORY_ERRORS = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # the last: torch's CPU allocator
_UNSUPPORTED = "_STATUS_NOT_SUPPORTED"  # cuBLAS and cuDNN: no kernel for these shapes; the device is intact


class NonFiniteError(ApiError):
    """The model computed NaN or infinity: the picture would be black or noise."""

    def __init__(self) -> None:
        message = "the model computed NaN or infinity for this edit; change prompt or seed, or let it compute in another dtype"
        super().__init__("edit_failed", message, param="prompt")


class Device:
    """A torch device.

    Args:
        name: as torch names it (``cuda``, ``cuda:1``, ``cpu``).
    """

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        self._pending: Any = None

    @property
    def is_cuda(self) -> bool:
        """Whether it is an NVIDIA (or ROCm) device."""
        return self.device.type == "cuda"

    @property
    def capability(self) -> tuple[int, int] | None:
        """The compute capability of an NVIDIA GPU; None for other devices."""
        return torch.cuda.get_device_capability(self.device) if self.is_cuda and torch.version.cuda else None

    @property
    def lags(self) -> bool:
        """Whether it computes later than the host asks: `limit_lag` then waits for the pass before the last one."""
        return self.is_cuda

    @property
    def generator(self) -> str:
        """The device of random generators: the CPU, so that a seed gives the same picture on every machine."""
        return "cpu"

    def adopt(self) -> None:
        """Make it the calling thread's default GPU."""
        if self.is_cuda and self.device.index is not None:
            torch.cuda.set_device(self.device)

    @contextlib.contextmanager
    def own_stream(self) -> Iterator[None]:
        """A new stream for what the calling thread asks of a GPU; nothing on a CPU."""
        self.adopt()
        if not self.is_cuda:
            yield
            return
        with torch.cuda.stream(torch.cuda.Stream(self.device)):  # type: ignore[no-untyped-call]
            yield

    def mark(self) -> Any:
        """Where the calling thread's stream is, for `follow`; None on a CPU."""
        return torch.cuda.current_stream(self.device).record_event() if self.is_cuda else None

    def follow(self, mark: Any) -> None:
        """Let the calling thread's stream wait until another has reached a mark."""
        if mark is not None:
            torch.cuda.current_stream(self.device).wait_event(mark)

    def hand_over(self, result: Any) -> None:
        """Wait until the calling thread's stream has computed a result, and let the default stream, too, use its memory."""
        if not self.is_cuda:
            return
        for tensor in tensors_in(result):
            if tensor.is_cuda:
                tensor.record_stream(torch.cuda.default_stream(self.device))
        torch.cuda.current_stream(self.device).synchronize()

    def limit_lag(self) -> None:
        """Let the device lag at most one pass behind the host, so that a cancelled edit stops within a step."""
        if not self.is_cuda:
            return
        if self._pending is not None:
            self._pending.synchronize()
        self._pending = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._pending.record(torch.cuda.current_stream(self.device))

    def finite(self, outputs: Sequence[Any]) -> torch.Tensor:
        """For each output of a denoiser whether all its values are finite, on the host; `lags` says when they can be read."""
        tensors = [_first_tensor(output) for output in outputs]
        unknown = torch.ones((), dtype=torch.bool, device=self.device)
        flags = torch.stack([unknown if each is None else each.isfinite().all().to(self.device) for each in tensors])
        if not flags.is_cuda:
            return flags
        # Into pinned memory, behind the pass in the device's queue: the host does not wait.
        return torch.empty(flags.shape, dtype=torch.bool, pin_memory=True).copy_(flags, non_blocking=True)

    def memory(self) -> tuple[int, int] | None:
        """(bytes free, peak bytes allocated since the last call above those allocated now); None on a CPU."""
        if not self.is_cuda:
            return None
        torch.cuda.synchronize(self.device)
        free, _ = torch.cuda.mem_get_info(self.device)
        allocated = torch.cuda.memory_allocated(self.device)
        spare = torch.cuda.memory_reserved(self.device) - allocated
        peak = torch.cuda.max_memory_allocated(self.device) - allocated
        torch.cuda.reset_peak_memory_stats(self.device)
        return free + spare, max(0, peak)

    def allocated(self) -> int:
        """Bytes allocated on a GPU; 0 on a CPU."""
        return int(torch.cuda.memory_allocated(self.device)) if self.is_cuda else 0

    def reclaim(self) -> None:
        """Collect reference cycles, then release the allocator's reserve."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def to_image(self, picture: torch.Tensor) -> Image.Image:
        """A picture (3, H, W) in 0 … 1 as an image.

        Raises:
            NonFiniteError: when a value is NaN or infinite.
        """
        if not bool(torch.isfinite(picture).all()):
            raise NonFiniteError
        return _image(picture)

    def preview(self, pipe: Any, latents: torch.Tensor) -> Image.Image:
        """A small picture of latents (1, C, H, W) or (1, C, 1, H, W) as the VAE decodes them."""
        frames = latents.ndim == 5  # noqa: PLR2004 - video VAEs have a time axis
        flat = latents[:, :, 0] if frames else latents
        factor = max(1, -(-max(flat.shape[-2:]) // _PREVIEW_SIDE))
        small = functional.avg_pool2d(flat.float(), factor, ceil_mode=True).to(pipe.vae.dtype)
        decoded = pipe.vae.decode(small.unsqueeze(2) if frames else small, return_dict=False)[0]
        flat_picture = decoded[:, :, 0] if frames else decoded
        return _image((flat_picture[0] / 2 + 0.5).nan_to_num().clamp(0, 1))

    def drop_cache_state(self, model: Any, prefix: str) -> None:
        """Drop the state of a model's step caches for contexts whose names begin with ``prefix``."""
        from diffusers.hooks.hooks import HookRegistry, StateManager  # noqa: PLC0415 - only with a cache

        registry = HookRegistry.check_if_exists_or_initialize(model)
        for child in (registry, *registry._get_child_registries()):  # noqa: SLF001 - diffusers resets all contexts or none
            for hook in child.hooks.values():
                for state in vars(hook).values():
                    if isinstance(state, StateManager):
                        for name in [name for name in state._state_cache if name.startswith(prefix)]:  # noqa: SLF001
                            del state._state_cache[name]  # noqa: SLF001


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in what a method of a pipeline returns: of sequences, mappings, and objects such as distributions."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from tensors_in(vars(value))


def _image(picture: torch.Tensor) -> Image.Image:
    pixels = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def _first_tensor(output: Any) -> torch.Tensor | None:
    while not isinstance(output, torch.Tensor):
        if isinstance(output, str | bytes):
            return None
        try:
            output = output[0]
        # Any object may be asked; a `BaseOutput` has its first field there.
        except (TypeError, IndexError, KeyError):
            return None
    return output


def as_pipeline_error(exc: Exception) -> PipelineError | None:
    """The exception as a device error, if it is one or was raised from one."""
    return next((fault for each in _causes(exc) if (fault := _device_error(each)) is not None), None)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__


def _device_error(exc: BaseException) -> PipelineError | None:
    if isinstance(exc, PipelineError):
        return exc
    if isinstance(exc, torch.OutOfMemoryError | MemoryError):
        return OutOfMemoryError(str(exc))
    text = str(exc)
    if not isinstance(exc, RuntimeError) or _UNSUPPORTED in text:
        return None
    if any(mark in text for mark in _MEMORY_ERRORS):
        return OutOfMemoryError(text)
    lost = isinstance(exc, torch.AcceleratorError) or any(mark in text for mark in _DEVICE_ERRORS)
    return PipelineBrokenError(text) if lost else None


def without_traceback(exc: Exception) -> Exception:
    """The caught exception with its traceback as a note for the log: its frames would keep the edit, and the activations of the
    failed pass, alive.
    """
    formatted = traceback.TracebackException.from_exception(exc)
    formatted.__notes__ = []  # type: ignore[attr-defined,unused-ignore]
    exc.add_note("".join(formatted.format()).rstrip())
    exc.__cause__ = exc.__context__ = None
    return exc.with_traceback(None)
