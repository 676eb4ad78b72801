"""One thread for text encoders and the VAE: the work of one edit there overlaps the denoising of another."""

# Theory of operation
# ===================
#
# Modules that are not safe to enter twice (tokenizers' padding, the Qwen VAE's feature cache) are used on this thread alone, and
# the denoiser on the executor's alone. Random generators are used on neither but in the edit's own code: what runs here returns
# the same for equal arguments.
#
# On a GPU the thread has a stream of its own. Work begins when the executor's stream has computed its arguments, and is done only
# when the device has computed its result: a reader needs no further synchronisation. The allocator is told that the
# executor's stream uses the result, so that its memory is not given to this stream's next work too early.

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import torch

from services.editor.pipelines.diffusion.device import Device

_Item = tuple["SideWork", Callable[[], Any], Any]


class SideWork(Future[Any]):
    """The result of one call on the side thread.

    Attributes:
        seconds: what the call took; set before its result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0


class SideThread:
    """Runs calls one at a time, in order. Its thread is a daemon, and ends when this object is collected.

    Args:
        device: the device that the calls use.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._items: SimpleQueue[_Item | None] = SimpleQueue()
        self._ends = weakref.finalize(self, self._items.put, None)
        threading.Thread(target=_run, args=(self._items, device), name="encoders", daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> SideWork:
        """Queue a call, whose arguments the calling thread's stream may still be computing."""
        work = SideWork()
        self._items.put((work, call, self._device.mark()))
        return work


class VaeProxy:
    """Has the attributes of the VAE, but encodes and decodes on the side thread.

    Args:
        vae: the real model.
        aside: makes a method one that runs there.
    """

    def __init__(self, vae: Any, aside: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._vae = vae
        self._aside = aside

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._vae, name)
        return self._aside(value) if name in {"encode", "decode"} else value


def _run(items: SimpleQueue[_Item | None], device: Device) -> None:
    with torch.no_grad(), device.own_stream():
        while (item := items.get()) is not None:
            _complete(device, *item)
            del item  # else its arguments, and its result, would live until the next one


def _complete(device: Device, work: SideWork, call: Callable[[], Any], mark: Any) -> None:
    if not work.set_running_or_notify_cancel():
        return
    began = time.perf_counter()
    try:
        device.follow(mark)
        result = call()
        device.hand_over(result)
    # The edge of the thread: the edit that waits gets what happened, and the next call goes on.
    except BaseException as exc:  # noqa: BLE001 - raised where the result is read
        work.seconds = time.perf_counter() - began
        work.set_exception(exc)
    else:
        work.seconds = time.perf_counter() - began
        work.set_result(result)
    finally:
        del work, call  # the exception's traceback has this frame
