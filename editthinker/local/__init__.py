"""The embedded stack: the whole product as real processes on this machine, for trying it and for tests.

`Stack` starts it; `Service` and `Plan` say what runs; `parent_death_signal` makes processes die with their parent.
"""

from typing import TYPE_CHECKING

from editthinker.deprecation import renamed
from editthinker.local.child import Restarts
from editthinker.local.errors import (
    DataDirBusyError,
    PortBusyError,
    RedisMissingError,
    ServiceFailedError,
    StackError,
    StackStoppedError,
)
from editthinker.local.home import default_home
from editthinker.local.service import Plan, Service, isolated
from editthinker.local.stack import Stack, embedded_plan
from editthinker.local.supervisor import Timing

__all__ = [
    "DataDirBusyError",
    "Plan",
    "PortBusyError",
    "RedisMissingError",
    "Restarts",
    "Service",
    "ServiceFailedError",
    "Stack",
    "StackError",
    "StackStoppedError",
    "Timing",
    "default_home",
    "embedded_plan",
    "isolated",
]

if not TYPE_CHECKING:
    __getattr__ = renamed(
        __name__,
        {
            "DataDirBusy": DataDirBusyError,
            "PortBusy": PortBusyError,
            "RedisMissing": RedisMissingError,
            "ServiceFailed": ServiceFailedError,
            "StackStopped": StackStoppedError,
        },
    )
