"""A visit by slixmpp: visit.py PORT USER PASSWORD leave|find. `leave` stores a contact and sends a message to somebody
who is offline; `find` sees the contact again. Run by the interpreter that has slixmpp."""

import asyncio
import ssl
import sys

import slixmpp

WAIT_S = 60


class Visitor(slixmpp.ClientXMPP):
    def __init__(self, user, password, step, done):
        super().__init__(f"{user}@localhost", password)
        self.step, self.done = step, done
        # A server that has just made its certificate: who it is, is not what is asked here.
        self.ssl_context = ssl.create_default_context()
        self.ssl_context.check_hostname, self.ssl_context.verify_mode = False, ssl.CERT_NONE
        self.enable_plaintext, self.enable_direct_tls = False, False
        self.add_event_handler("session_start", self.start)
        for failure in ("failed_all_auth", "connection_failed"):
            self.add_event_handler(failure, lambda why: done.done() or done.set_exception(OSError(str(why))))

    async def start(self, _):
        try:
            await self.get_roster()
            if self.step == "leave":
                iq = self.make_iq_set()
                iq["roster"].set_items({"nurse@localhost": {"name": "Nurse", "subscription": "none"}})
                await iq.send()
                self.send_message("juliet@localhost", "wherefore", mtype="chat")
                # An answer comes behind the message.
                await self.get_roster()
            found = "nurse@localhost" in self.client_roster
            self.done.set_result(None) if found else self.done.set_exception(OSError("the contact is lost"))
        except slixmpp.exceptions.XMPPError as error:
            self.done.set_exception(error)


async def main(port, user, password, step):
    done = asyncio.get_running_loop().create_future()
    visitor = Visitor(user, password, step, done)
    visitor.connect("127.0.0.1", port)
    await asyncio.wait_for(done, WAIT_S)
    await visitor.disconnect()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:5]))
