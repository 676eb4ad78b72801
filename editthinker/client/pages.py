"""Pages of a list, and iteration over all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, Generic, Self, TypeVar

from pydantic import PrivateAttr

from editthinker.client.calls import Call
from editthinker.client.models import Item, ListPage

One = TypeVar("One", bound=ListPage[Any])
Ask = Callable[[str | None], Call[One]]
"""The call for the page after a cursor."""


class Page(ListPage[Item]):
    """One page of a list. Iterating over it goes through this page and all that follow; they are fetched as needed."""

    _following: Callable[[str], Page[Item]] = PrivateAttr()

    @classmethod
    def fetch(cls, perform: Callable[[Call[One]], One], ask: Ask[One], cursor: str | None) -> Self:
        """The page after a cursor."""
        made = perform(ask(cursor))
        page = cls.model_construct(made.model_fields_set, **dict(made))
        page._following = lambda after: cls.fetch(perform, ask, after)  # noqa: SLF001 - its own
        return page

    def next_page(self) -> Page[Item] | None:
        """The page after this one, or None."""
        return self._following(self.next_cursor) if self.next_cursor else None

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override] # pydantic's gives fields
        """Everything in this page and in all that follow."""
        page: Page[Item] | None = self
        while page is not None:
            yield from page.data
            page = page.next_page()


class AsyncPages(Generic[One, Item]):
    """Pages of a list: ``async for`` goes through everything, ``await`` gives the first page."""

    def __init__(self, perform: Callable[[Call[One]], Awaitable[One]], ask: Ask[One], cursor: str | None) -> None:
        self._perform = perform
        self._ask = ask
        self._cursor = cursor

    def __await__(self) -> Generator[Any, Any, One]:
        """The first page."""
        return self._perform(self._ask(self._cursor)).__await__()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Everything; pages are fetched as needed."""
        cursor = self._cursor
        while True:
            page = await self._perform(self._ask(cursor))
            for each in page.data:
                yield each
            if not (cursor := page.next_cursor):
                return
