"""Pages of sessions, and iteration over all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

from pydantic import PrivateAttr

from editthinker.client.calls import Call
from editthinker.client.models import Session, SessionPage

Ask = Callable[[str | None], Call[SessionPage]]
"""The call for the page after a cursor."""


class Page(SessionPage):
    """One page of sessions. Iterating over it goes through this page and all that follow; they are fetched as needed."""

    _following: Callable[[str], Page] = PrivateAttr()

    @classmethod
    def fetch(cls, perform: Callable[[Call[SessionPage]], SessionPage], ask: Ask, cursor: str | None) -> Page:
        """The page after a cursor."""
        made = perform(ask(cursor))
        page = cls.model_construct(made.model_fields_set, **dict(made))
        page._following = lambda after: cls.fetch(perform, ask, after)  # noqa: SLF001 - its own
        return page

    def next_page(self) -> Page | None:
        """The page after this one, or None."""
        return self._following(self.next_cursor) if self.next_cursor else None

    def __iter__(self) -> Iterator[Session]:  # type: ignore[override] # pydantic's gives fields
        """Every session of this page and of all that follow."""
        page: Page | None = self
        while page is not None:
            yield from page.data
            page = page.next_page()


class AsyncPages:
    """Pages of sessions: ``async for`` goes through every session, ``await`` gives the first page."""

    def __init__(self, perform: Callable[[Call[SessionPage]], Awaitable[SessionPage]], ask: Ask, cursor: str | None) -> None:
        self._perform = perform
        self._ask = ask
        self._cursor = cursor

    def __await__(self) -> Generator[Any, Any, SessionPage]:
        """The first page."""
        return self._perform(self._ask(self._cursor)).__await__()

    async def __aiter__(self) -> AsyncIterator[Session]:
        """Every session; pages are fetched as needed."""
        cursor = self._cursor
        while True:
            page = await self._perform(self._ask(cursor))
            for session in page.data:
                yield session
            if not (cursor := page.next_cursor):
                return
