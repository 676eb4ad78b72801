"""An orchestrator that one instruction kills, as a picture that crashes a library would: ``python -m tests.doubles.replica``."""

from __future__ import annotations

import os
from typing import Final

POISON: Final = "poison"
"""The instruction of a session that kills its driver."""
POISONED: Final = 86
"""The exit code of a process that died of it."""


def main() -> None:
    from orchestrator.__main__ import main as serve  # noqa: PLC0415 - not for the constants
    from orchestrator.execution.driver import Driver  # noqa: PLC0415

    run = Driver.run

    async def killing(self: Driver) -> None:
        if self._session.created.instruction == POISON:
            os._exit(POISONED)
        await run(self)

    Driver.run = killing  # type: ignore[method-assign]
    serve()


if __name__ == "__main__":
    main()
