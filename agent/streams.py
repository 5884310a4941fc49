"""A byte stream between two ends, whatever carries it."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class Stream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def close(self) -> None:
        """Closes both directions; an end that is gone already is no error."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return
