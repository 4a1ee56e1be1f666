#!/usr/bin/env python3
"""What other servers cost: CPU of messages to one on loopback beside that of local ones, memory of idle streams.

    tests/interop/federated.py --binary PATH        prints a Markdown table

A stream here is TLS 1.3 with SASL EXTERNAL: each is of a domain of its own, proved by a certificate, and silent from
then on. Its other end is in this process.
"""

import argparse
import asyncio
import base64
import os
import re
import resource
import ssl
from pathlib import Path

import peers
from lane import Lane

PASSWORD = "pencil"
SETTLE_S = 3
WARM_UP = 2
TICKS = os.sysconf("SC_CLK_TCK")
SASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"


class Stream(Lane):
    """One connection with direct TLS."""

    WAIT_S = 60

    def __init__(self, port, context, name, header):
        super().__init__(name)
        self.port, self.context, self.header = port, context, header

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname=self.name)
        await self.ask(self.header, "</stream:features>")

    async def count(self, text, wanted):
        """Reads until `text` has come as often as `wanted`."""
        found, rest = 0, ""
        while found < wanted:
            got = (await asyncio.wait_for(self.reader.read(1 << 20), self.WAIT_S)).decode(errors="replace")
            if not got:
                raise RuntimeError(f"the connection ends after {found} of {wanted}")
            rest += got
            found += rest.count(text)
            rest = rest[-(len(text) - 1):]


def header(ns, to, more=""):
    return (f"<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xmlns='{ns}' {more} "
            "xmlns:stream='http://etherx.jabber.org/streams'>")


async def client(server, user, ports):
    context = ssl.create_default_context(cafile=server.world.authority.certificate)
    context.set_alpn_protocols(["xmpp-client"])
    stream = Stream(ports[server.domain], context, server.domain, header("jabber:client", server.domain))
    await stream.open()
    secret = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
    await stream.ask(f"<auth {SASL} mechanism='PLAIN'>{secret}</auth>", "<success")
    await stream.ask(stream.header, "</stream:features>")
    bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>"
    await stream.ask(f"<iq type='set' id='b'>{bind}</iq>", "</iq>")
    await stream.ask("<presence/>", "<presence")
    return stream


def cpu_s(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_bytes(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) * 1024


async def messages(sender, receiver, to, servers, rounds):
    """Seconds of CPU that each server takes for a thousand messages."""
    batch = "".join(f"<message to='{to}' type='chat' id='m{n}'><body>message {n}</body></message>" for n in range(1000))
    for turn in range(WARM_UP + rounds):
        if turn == WARM_UP:
            before = [cpu_s(server) for server in servers]
        sender.writer.write(batch.encode())
        await receiver.count("<body>", 1000)
        # What is on its way is bounded, so what has come is to be acknowledged first.
        await asyncio.sleep(0.2)
    return [(cpu_s(server) - was) / rounds for server, was in zip(servers, before)]


async def idle_streams(server, count, folder):
    """Bytes that the server takes for each of so many idle streams."""
    server.world.authority.issue("many.example", folder, names=("*.many.example",))
    context = ssl.create_default_context(cafile=server.world.authority.certificate)
    context.set_alpn_protocols(["xmpp-server"])
    context.load_cert_chain(folder / "many.example.crt", folder / "many.example.key")
    streams = []

    async def one(number):
        start = header("jabber:server", server.domain, f"from='n{number}.many.example'")
        stream = Stream(server.direct, context, server.domain, start)
        await stream.open()
        await stream.ask(f"<auth {SASL} mechanism='EXTERNAL'>=</auth>", "<success")
        await stream.ask(start, "</stream:features>")
        streams.append(stream)

    # The first pay for what all share.
    for number in range(50):
        await one(number)
    await asyncio.sleep(SETTLE_S)
    before = rss_bytes(server)
    for number in range(count):
        await one(50 + number)
    await asyncio.sleep(SETTLE_S)
    each = (rss_bytes(server) - before) / count
    for stream in streams:
        stream.writer.transport.abort()
    return each


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=50, help="of a thousand messages each")
    parser.add_argument("--streams", type=int, default=1000)
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    world = peers.World()
    try:
        ports = dict(zip(("left.example", "right.example"), peers.free_ports(2)))
        left, right = (peers.Couplet(world, domain, args.binary, direct_c2s=port).start()
                       for domain, port in ports.items())
        for server, user in ((left, "romeo"), (left, "benvolio"), (right, "juliet")):
            server.add_user(user, PASSWORD)
        romeo, benvolio, juliet = [await client(*who, ports) for who in
                                   ((left, "romeo"), (left, "benvolio"), (right, "juliet"))]
        local, = await messages(romeo, benvolio, "benvolio@left.example/r", [left], args.rounds)
        sends, takes = await messages(romeo, juliet, "juliet@right.example/r", [left, right], args.rounds)
        each = await idle_streams(left, args.streams, world.folder)
        print("| what | measured |\n|---|---|")
        print(f"| CPU, 1000 local messages | {local * 1000:.1f} ms |")
        print(f"| CPU, 1000 messages to another server: the one that sends | {sends * 1000:.1f} ms, "
              f"{sends / local:.2f} times |")
        print(f"| the one that takes them | {takes * 1000:.1f} ms, {takes / local:.2f} times |")
        print(f"| memory for each idle stream of {args.streams} | {each / 1000:.1f} kB |")
    finally:
        world.close()


if __name__ == "__main__":
    asyncio.run(main())
