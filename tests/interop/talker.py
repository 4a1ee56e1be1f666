"""What the checks of federation share: a client that remembers what it received, and lines that say how it went."""

import asyncio
import ssl

from slixmpp.exceptions import IqError, IqTimeout

import peers
from watcher import WAIT_S, Watcher

PASSWORD = "p=encil, cup"


class Client(Watcher):
    """A user of one of the servers."""

    def __init__(self, server, user, domain=None, resource="r"):
        self.domain_name = domain or server.domain
        super().__init__(f"{user}@{self.domain_name}/{resource}", PASSWORD)
        self.home, self.enable_direct_tls = server, False
        # Whom the client believes is no concern of these checks.
        self.ssl_context = ssl.create_default_context()
        self.ssl_context.check_hostname, self.ssl_context.verify_mode = False, ssl.CERT_NONE
        for plugin in ("xep_0030", "xep_0054", "xep_0077", "xep_0115", "xep_0199"):
            self.register_plugin(plugin)
        self.plugin["xep_0077"].create_account = False
        self.add_event_handler("failed_all_auth", lambda _: self.settle(OSError("login refused")))

    def server_address(self):
        return "127.0.0.1", self.home.c2s

    async def register_first(self):
        """Makes the account by in-band registration."""
        self.plugin["xep_0077"].create_account = True
        done = asyncio.get_running_loop().create_future()

        async def register(_form):
            iq = self.make_iq_set()
            iq["register"]["username"], iq["register"]["password"] = self.boundjid.user, PASSWORD
            try:
                await iq.send(timeout=WAIT_S)
                done.set_result(True)
            except (IqError, IqTimeout) as error:
                done.set_exception(OSError(f"registration: {error}"))
            self.disconnect()

        self.add_event_handler("register", register)
        self.connect(*self.server_address())
        await asyncio.wait_for(done, WAIT_S)

    @property
    def bare(self):
        return self.boundjid.bare

    async def presence(self, kind, sender, since=0):
        # slixmpp's type is that of `show`, if there is one.
        wanted = "" if kind == "available" else kind
        return await self.until(
            lambda s: s.name == "presence" and s.xml.get("type", "") == wanted and s["from"].bare == sender,
            f"presence {kind} from {sender}", since)

    async def error_of(self, to, since=0, kind="message"):
        """The error that comes back from an address."""
        found = await self.until(
            lambda s: s.name == kind and s["type"] == "error" and s["from"].bare == to, f"an error from {to}", since)
        return found["error"]["condition"]


class Checks:
    def __init__(self):
        self.failed = 0

    async def do(self, name, check):
        try:
            await asyncio.wait_for(check, 4 * WAIT_S)
            print(f"ok {name}", flush=True)
        except (AssertionError, OSError, IqError, IqTimeout, asyncio.TimeoutError) as error:
            self.failed += 1
            print(f"not ok {name}: {type(error).__name__} {error}", flush=True)

    def finish(self, world):
        """Servers of ours end in good order; what they have logged shows when something has failed."""
        for one in world.servers:
            if self.failed:
                print(f"--- {one.domain} has logged:\n{one.log_tail()}")
            if isinstance(one, peers.Couplet):
                log = one.log_path.read_text(errors="replace")
                code = one.stop()
                if code or "bug at" in log:
                    self.failed += 1
                    print(f"not ok {one.domain} ends in good order: code {code}")


async def add_users(server, users, domain=None):
    for user in users:
        try:
            server.add_user(user, PASSWORD, domain)
        except NotImplementedError:
            await Client(server, user, domain).register_first()
