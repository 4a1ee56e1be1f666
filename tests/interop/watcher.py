"""What slixmpp's side of all checks is made of: a client that remembers what it received."""

import asyncio

import slixmpp

WAIT_S = 20


class Watcher(slixmpp.ClientXMPP):
    """A client that remembers every stanza it received and decides nothing by itself."""

    def __init__(self, jid, password):
        super().__init__(jid, password)
        self.seen, self.news = [], asyncio.Event()
        self.started = asyncio.get_running_loop().create_future()
        self.auto_authorize, self.auto_subscribe = None, False
        self.enable_plaintext = False
        self.add_filter("in", self.remember)
        self.add_event_handler("session_start", lambda _: self.settle(True))
        self.add_event_handler("disconnected", lambda why: self.settle(OSError(f"disconnected: {why}")))

    def remember(self, stanza):
        self.seen.append(stanza)
        self.news.set()
        return stanza

    def settle(self, outcome):
        if not self.started.done():
            (self.started.set_exception if isinstance(outcome, Exception) else self.started.set_result)(outcome)

    def server_address(self):
        """Host and port of its server."""
        raise NotImplementedError

    async def login(self):
        self.connect(*self.server_address())
        await asyncio.wait_for(self.started, WAIT_S)
        return self

    async def arrive(self):
        """Logs in, loads the roster and sends initial presence."""
        await self.login()
        await self.get_roster()
        self.send_presence()
        await self.until(lambda s: s.name == "presence" and s["from"] == self.boundjid, "own presence")
        return self

    async def leave(self):
        await asyncio.wait_for(self.disconnect(), WAIT_S)

    async def until(self, test, what, since=0):
        """The first stanza since position `since` for which `test` holds."""
        async def look():
            at = since
            while True:
                while at < len(self.seen):
                    if test(self.seen[at]):
                        return self.seen[at]
                    at += 1
                self.news.clear()
                await self.news.wait()
        try:
            return await asyncio.wait_for(look(), WAIT_S)
        except asyncio.TimeoutError:
            raise AssertionError(f"{self.boundjid} waited in vain for {what}") from None

    async def message(self, body, since=0):
        return await self.until(
            lambda s: s.name == "message" and s["body"] == body, f"a message that says {body!r}", since)
