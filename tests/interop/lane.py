"""A light XMPP connection: text goes out, and what comes is searched for what was waited for."""

import asyncio
import re


class Lane:
    """Whoever opens one sets `reader` and `writer`."""

    #: How long an answer may take.
    WAIT_S = 30

    def __init__(self, name):
        self.name, self.seen = name, ""

    async def ask(self, text, pattern):
        """Sends `text`, then reads until what came since matches `pattern`."""
        self.writer.write(text.encode())
        self.seen = ""
        while not re.search(pattern, self.seen):
            got = await asyncio.wait_for(self.reader.read(65536), self.WAIT_S)
            self.seen += got.decode(errors="replace")
            if not got or "<failure" in self.seen or "<stream:error" in self.seen:
                raise RuntimeError(f"{self.name}: no {pattern} after {text[:80]}: {self.seen[-300:]}")
