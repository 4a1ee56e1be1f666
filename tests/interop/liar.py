"""A server that lies, over real sockets: what it says of itself and of others by Server Dialback (XEP-0220) is believed
exactly as far as the domains' own servers say so.
"""

import asyncio
import re
import socket
import ssl
import threading

import peers
from talker import WAIT_S, Client, add_users

LIAR, VICTIM, COUPLET = "liar.example", "victim.example", "couplet.example"
NAMESPACES = ("xmlns='jabber:server' xmlns:db='jabber:server:dialback' "
              "xmlns:stream='http://etherx.jabber.org/streams'")
STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
DIALBACK = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"


class Stream:
    """One connection; `who` begins it."""

    def __init__(self, sock):
        self.sock, self.text = sock, ""
        sock.settimeout(WAIT_S)

    def send(self, text):
        self.sock.sendall(text.encode())

    def expect(self, pattern):
        """What matches, of all that comes; nothing before it is looked at again."""
        while True:
            found = re.search(pattern, self.text, re.S)
            if found:
                self.text = self.text[found.end():]
                return found
            try:
                got = self.sock.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError):
                got = b""
            if not got:
                raise AssertionError(f"no {pattern} before the end, but {self.text[-400:]!r}")
            self.text += got.decode()

    def expect_error(self, condition):
        self.expect(f"<stream:error>\\s*<{condition}[ /]")
        self.expect("</stream:stream>")

    def secure(self, context, **how):
        self.sock, self.text = context.wrap_socket(self.sock, **how), ""

    def close(self):
        self.sock.close()


def header(to, sender, more=""):
    return f"<?xml version='1.0'?><stream:stream {NAMESPACES} to='{to}' from='{sender}' version='1.0'{more}>"


class Liar:
    """Connects as whoever it likes, and answers at the address of its own domain as `play` says."""

    def __init__(self, world, couplet):
        self.couplet, self.play = couplet, None
        folder = world.folder / LIAR
        folder.mkdir()
        peers.self_signed(LIAR, folder)
        self.inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.inside.load_cert_chain(folder / f"{LIAR}.crt", folder / f"{LIAR}.key")
        self.outside = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.outside.check_hostname, self.outside.verify_mode = False, ssl.CERT_NONE
        self.outside.load_cert_chain(folder / f"{LIAR}.crt", folder / f"{LIAR}.key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        world.names.add(LIAR, self.listener.getsockname()[1])
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            threading.Thread(target=self.answer, args=(self.listener.accept()[0],), daemon=True).start()

    def answer(self, sock):
        """Lets the other come as far as keys, then does what the check at hand wants."""
        stream = Stream(sock)
        try:
            stream.expect("<stream:stream[^>]*>")
            stream.send(header(COUPLET, LIAR, " id='one'") + f"<stream:features>{STARTTLS}</stream:features>")
            stream.expect("<starttls[^>]*>")
            stream.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            stream.secure(self.inside, server_side=True)
            stream.expect("<stream:stream[^>]*>")
            stream.send(header(COUPLET, LIAR, " id='two'") + f"<stream:features>{DIALBACK}</stream:features>")
            self.play(stream)
        except (AssertionError, OSError):
            pass
        finally:
            stream.close()

    def connect(self, sender):
        """A stream to Couplet that has TLS and says to be of `sender`; its id."""
        stream = Stream(socket.create_connection(("127.0.0.1", self.couplet.s2s)))
        stream.send(header(COUPLET, sender))
        stream.expect("</stream:features>")
        stream.send(STARTTLS)
        stream.expect("<proceed[^>]*>")
        stream.secure(self.outside)
        stream.send(header(COUPLET, sender))
        stream.expect("</stream:features>")
        return stream


def message(sender, body):
    return f"<message from='mallory@{sender}' to='romeo@{COUPLET}' type='chat'><body>{body}</body></message>"


def key(sender, text="invented"):
    return f"<db:result from='{sender}' to='{COUPLET}'>{text}</db:result>"


def honest(stream):
    """Vouches for every key of its own domain, as it may."""
    while True:
        found = stream.expect("<db:verify([^>]*)>[^<]*</db:verify>")
        stream_id = re.search("id=['\"]([^'\"]*)", found[1])[1]
        stream.send(f"<db:verify from='{LIAR}' to='{COUPLET}' id='{stream_id}' type='valid'/>")


def says_nothing_asked(liar):
    """Verdicts that nobody has asked for, on a stream that proves nothing."""
    for text in (f"<db:result from='{LIAR}' to='{COUPLET}' type='valid'/>",
                 f"<db:verify from='{LIAR}' to='{COUPLET}' id='x' type='valid'/>"):
        stream = liar.connect(LIAR)
        stream.send(text + message(LIAR, "a lie"))
        stream.expect_error("policy-violation")
        stream.close()


def says_it_before_the_proof(liar):
    stream = liar.connect(LIAR)
    stream.send(message(LIAR, "a lie"))
    stream.expect("<stream:error>")
    stream.close()


def is_somebody_else(liar):
    """A key that the victim has not made; its server says so."""
    stream = liar.connect(VICTIM)
    stream.send(key(VICTIM) + message(VICTIM, "a lie"))
    stream.expect("<(stream:error>|db:result [^>]*type=['\"]invalid)")
    stream.close()
    stream = liar.connect(VICTIM)
    stream.send(key(VICTIM))
    stream.expect("<db:result [^>]*type=['\"]invalid")
    stream.expect("</stream:stream>")
    stream.close()


def speaks_for_another(liar):
    """A domain that was proved, and a stanza of one that was not."""
    liar.play = honest
    stream = liar.connect(LIAR)
    stream.send(key(LIAR))
    stream.expect("<db:result [^>]*type=['\"]valid")
    stream.send(message(LIAR, "the truth") + message(VICTIM, "a lie"))
    stream.expect_error("invalid-from")
    stream.close()


def adds_another(liar):
    """A second domain on a stream that has proved its own: it is verified with its own server, and refused alone."""
    liar.play = honest
    stream = liar.connect(LIAR)
    stream.send(key(LIAR))
    stream.expect("<db:result [^>]*type=['\"]valid")
    stream.send(key(VICTIM))
    stream.expect(f"<db:result [^>]*from=['\"]{COUPLET}['\"] [^>]*to=['\"]{VICTIM}['\"] [^>]*type=['\"]invalid")
    stream.send(message(LIAR, "the second truth") + message(VICTIM, "a lie"))
    stream.expect_error("invalid-from")
    stream.close()


def vouches_for(liar, wrong):
    """As authoritative server of its own domain it answers about something else: that counts for nothing."""
    ended = threading.Event()

    def play(stream):
        found = stream.expect("<db:verify([^>]*)>[^<]*</db:verify>")
        stream_id = re.search("id=['\"]([^'\"]*)", found[1])[1]
        stream.send(wrong.format(id=stream_id))
        stream.expect_error("policy-violation")
        ended.set()

    liar.play = play
    stream = liar.connect(LIAR)
    stream.send(key(LIAR))
    stream.expect("<db:result [^>]*type=['\"]error")
    stream.close()
    assert ended.wait(WAIT_S), "the stream with the wrong verdict goes on"


async def wrong_answer(liar, ours, answer, expected):
    """What Couplet wants to say waits for its key's verdict; another verdict does not let it go."""
    ended, leaked = threading.Event(), []

    def play(stream):
        stream.expect("<db:result[^>]*>[^<]*</db:result>")
        stream.send(answer)
        found = stream.expect("<message|</stream:stream>")
        leaked.extend(found[0] for _ in range(found[0] == "<message"))
        ended.set()

    liar.play = play
    since = len(ours.seen)
    ours.send_message(f"mallory@{LIAR}", "for the proved alone", mtype="chat")
    condition = await ours.error_of(f"mallory@{LIAR}", since)
    assert condition == expected, condition
    assert await asyncio.to_thread(ended.wait, WAIT_S), "the stream goes on"
    assert not leaked, "the stanza has left"


async def lies(checks, binary):
    world = peers.World()
    try:
        settings = "secure_auth = false\ndialback = true\n[limits]\ns2s_queue_timeout_s = 5\ns2s_retry_min_s = 1\n" \
                   "s2s_retry_max_s = 1"
        couplet = peers.Couplet(world, COUPLET, binary, settings, issue=peers.self_signed).start()
        peers.Couplet(world, VICTIM, binary, settings, issue=peers.self_signed).start()
        await add_users(couplet, ("romeo",))
        ours = await Client(couplet, "romeo").arrive()
        liar = Liar(world, couplet)

        async def say(name, check, *more):
            await checks.do(f"lies: {name}", asyncio.to_thread(check, liar, *more))

        await say("verdicts that nobody asked for", says_nothing_asked)
        await say("stanzas before anything is proved", says_it_before_the_proof)
        await say("a key of another domain", is_somebody_else)
        await say("a stanza of a domain that was not proved", speaks_for_another)
        await say("another domain on a stream that has proved one", adds_another)
        for name, wrong in (
                ("a verdict about another stream", f"<db:verify from='{LIAR}' to='{COUPLET}' id='x' type='valid'/>"),
                ("a verdict about another domain",
                 f"<db:verify from='{VICTIM}' to='{COUPLET}' id='{{id}}' type='valid'/>"),
                ("a verdict for a domain not of ours",
                 f"<db:verify from='{LIAR}' to='{VICTIM}' id='{{id}}' type='valid'/>")):
            await say(name, vouches_for, wrong)
            # The next attempt to reach it is not made at once.
            await asyncio.sleep(1.5)
        for name, sender, verdict, expected in (
                ("our key, judged for another domain", VICTIM, "valid", "remote-server-not-found"),
                ("our key, found invalid", LIAR, "invalid", "internal-server-error")):
            answer = f"<db:result from='{sender}' to='{COUPLET}' type='{verdict}'/>"
            await checks.do(f"lies: {name}", wrong_answer(liar, ours, answer, expected))
            await asyncio.sleep(1.5)
        await checks.do("lies: the truth has come, and nothing else", only_the_truth(ours))
        await ours.leave()
        checks.finish(world)
    finally:
        world.close()


async def only_the_truth(ours):
    got = [s["body"] for s in ours.seen if s.name == "message" and s["type"] == "chat"]
    assert got == ["the truth", "the second truth"], got
