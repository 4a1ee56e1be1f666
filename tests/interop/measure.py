#!/usr/bin/env python3
"""Figures for the README: size of the binary, start-up, memory idle, with many TLS clients, and with many rooms.

    tests/interop/measure.py --binary PATH          prints a Markdown table
    tests/interop/measure.py --kind prosody         the same of Debian's Prosody, for comparison

A client here is a user of its own that has logged in over TLS 1.3 (SASL PLAIN), bound a resource, asked for its roster
and sent presence; then it is silent. Its other end is in this process, so the server's memory is the server's alone.
"""

import argparse
import asyncio
import base64
import os
import re
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path

import server
import tools
from lane import Lane

HERE = Path(__file__).resolve().parent
PASSWORD = "pencil"
HEADER = (f"<?xml version='1.0'?><stream:stream to='{server.HOST}' version='1.0' xmlns='jabber:client' "
          "xmlns:stream='http://etherx.jabber.org/streams'>")
#: Contacts of a client that has some.
CONTACTS = 20
#: Rooms that nobody is in; each owner may have made so many (limits.muc_rooms_per_account_max).
ROOMS = 10_000
ROOMS_OF_OWNER = 100
#: A file, and what of it is written at once.
UPLOAD_BYTES, UPLOAD_PIECE = 10_000_000, 100_000
#: Logins under way at once.
LOGINS = 16
SETTLE_S = 3
IDLE_S = 10
WAIT_S = 30


class Client(Lane):
    """A light XMPP client: enough for a login, and no memory to speak of afterwards."""

    def __init__(self, host, user, direct):
        super().__init__(user)
        self.host, self.user, self.direct = host, user, direct

    async def login(self, context):
        port = self.host.tls_port if self.direct else self.host.starttls_port
        tls = {"ssl": context, "server_hostname": server.HOST}
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, **(tls if self.direct else {}))
        await self.stream()
        if not self.direct:
            await self.ask("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed")
            await self.writer.start_tls(context, server_hostname=server.HOST)
            await self.stream()
        secret = base64.b64encode(f"\0{self.user}\0{PASSWORD}".encode()).decode()
        auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
        await self.ask(f"{auth}{secret}</auth>", "<success")
        await self.stream()
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>idle</resource></bind>"
        await self.ask(f"<iq type='set' id='b'>{bind}</iq>", "</iq>")
        await self.ask("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>", "id=['\"]r['\"]")
        await self.ask("<presence/>", "<presence")
        self.seen = ""

    async def stream(self):
        await self.ask(HEADER, "</stream:features>")

    async def manage(self):
        """Stream management (XEP-0198): the session shall outlive its connection."""
        await self.ask("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<enabled")

    async def settle_in(self):
        """What a client of today does behind its login: contacts, carbons, stream management."""
        for number in range(CONTACTS):
            item = f"<item jid='contact{number}@{server.HOST}' name='Contact {number}'/>"
            await self.ask(f"<iq type='set' id='c{number}'><query xmlns='jabber:iq:roster'>{item}</query></iq>",
                           f"<iq [^>]*id=['\"]c{number}['\"]")
        await self.ask("<iq type='set' id='k'><enable xmlns='urn:xmpp:carbons:2'/></iq>", "id=['\"]k['\"]")
        await self.manage()

    async def make_room(self, name):
        """A room that stays, and that this client leaves again."""
        room = f"{name}@conference.{server.HOST}"
        x = "<x xmlns='http://jabber.org/protocol/muc'/>"
        await self.ask(f"<presence to='{room}/{self.user}'>{x}</presence>", "code=['\"]201['\"]")
        form = "<x xmlns='jabber:x:data' type='submit'/>"
        await self.ask(f"<iq type='set' id='{name}' to='{room}'>"
                       f"<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query></iq>",
                       f"id=['\"]{name}['\"]")
        await self.ask(f"<presence type='unavailable' to='{room}/{self.user}'/>", "unavailable")

    def close(self):
        self.writer.transport.abort()

    def leave(self):
        """Ends the stream, and with it the session."""
        self.writer.write(b"</stream:stream>")
        self.writer.close()


def status(pid, field):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/{pid}/status has no {field}")


def rss_bytes(pid):
    return status(pid, "VmRSS") * 1024


def threads(pid):
    return sorted((task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir())


def wake_ups(pid):
    """How often the process's threads have gone to sleep so far."""
    return sum(status(f"{pid}/task/{task.name}", "voluntary_ctxt_switches")
               for task in Path(f"/proc/{pid}/task").iterdir())


def answers(port):
    """Whether a stream header gets stream features: the server does not only listen, it serves."""
    with socket.socket() as client:
        client.settimeout(WAIT_S)
        if client.connect_ex(("127.0.0.1", port)):
            return False
        client.sendall(HEADER.encode())
        seen = b""
        while b"</stream:features>" not in seen:
            got = client.recv(4096)
            if not got:
                return False
            seen += got
        return True


def start_up_ms(host, times):
    """Time from exec until a client gets stream features, each time on the same data folder: the median."""
    taken = []
    for _ in range(times):
        with open(host.log_path, "ab") as log:
            begin = time.perf_counter()
            host.process = subprocess.Popen(host.command(), env=host.environment(), cwd=host.folder,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not answers(host.starttls_port):
            if time.perf_counter() - begin > WAIT_S or host.process.poll() is not None:
                raise RuntimeError(f"the server did not start:\n{host.log_tail()}")
            time.sleep(0.0005)
        taken.append((time.perf_counter() - begin) * 1000)
        host.stop()
    return statistics.median(taken)


def context_of(host, direct):
    context = ssl.create_default_context(cafile=host.certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if direct:
        context.set_alpn_protocols(["xmpp-client"])
    return context


async def crowd(host, counts, direct, settled=False):
    """Memory with as many idle clients as `counts` says, in order, and after all have left: bytes."""
    context = context_of(host, direct)
    gate, clients, figures = asyncio.Semaphore(LOGINS), [], []

    async def one(number):
        async with gate:
            client = Client(host, f"user{number}", direct)
            await client.login(context)
            if settled:
                await client.settle_in()
            clients.append(client)

    for count in counts:
        await asyncio.gather(*(one(number) for number in range(len(clients), count)))
        await asyncio.sleep(SETTLE_S)
        figures.append(rss_bytes(host.pid))
    for client in clients:
        client.leave()
    await asyncio.sleep(SETTLE_S)
    return figures, rss_bytes(host.pid)


async def parked(host, count, direct):
    """Memory before and after `count` sessions with stream management have come and lost their connections: bytes.

    As many have come and gone for good before, so that what a crowd leaves behind is not counted."""
    context = context_of(host, direct)
    gate, clients = asyncio.Semaphore(LOGINS), []

    async def one(number, stays):
        async with gate:
            client = Client(host, f"user{number}", direct)
            await client.login(context)
            if stays:
                await client.manage()
            clients.append(client)

    figures = []
    for stays in (False, True):
        await asyncio.gather(*(one(number, stays) for number in range(count)))
        for client in clients:
            client.close()
        clients.clear()
        await asyncio.sleep(SETTLE_S)
        figures.append(rss_bytes(host.pid))
    return figures


async def rooms(host, direct):
    """Memory before and after `ROOMS` rooms were made and left by clients that have gone again: bytes.

    The same has been done with a few rooms of each before, so that what a crowd leaves behind is not counted."""
    context = context_of(host, direct)
    owners = ROOMS // ROOMS_OF_OWNER
    gate, figures = asyncio.Semaphore(LOGINS), []

    async def one(number, names):
        async with gate:
            client = Client(host, f"user{number}", direct)
            await client.login(context)
            for name in names:
                await client.make_room(f"room{number}-{name}")
            client.leave()

    for names in range(1), range(1, ROOMS_OF_OWNER):
        await asyncio.gather(*(one(number, names) for number in range(owners)))
        await asyncio.sleep(SETTLE_S)
        figures.append(rss_bytes(host.pid))
    return figures


async def upload(host, direct):
    """What the process had in memory at most while a file came by HTTPS, beyond what it had before: bytes.

    Another file has come before, so that the thread for files is there and the allocator has its pages."""
    client = Client(host, "user0", direct)
    await client.login(context_of(host, direct))
    context = ssl.create_default_context(cafile=host.certificate)
    for _ in range(2):
        await client.ask(f"<iq type='get' id='u' to='{server.HOST}'><request xmlns='urn:xmpp:http:upload:0' "
                         f"filename='a.bin' size='{UPLOAD_BYTES}'/></iq>", "</iq>")
        path = re.search("<put url='https://[^/]*([^']*)'", client.seen).group(1)
        proof = re.search("Bearer ([^<]*)<", client.seen).group(1)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", host.https_port, ssl=context, server_hostname=server.HOST)
        # The handshake is not the file's.
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"ok\n")
        await asyncio.sleep(SETTLE_S)
        Path(f"/proc/{host.pid}/clear_refs").write_text("5")  # the peak is what it is now
        before = rss_bytes(host.pid)
        writer.write(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {proof}\r\n"
                     f"Content-Length: {UPLOAD_BYTES}\r\n\r\n".encode())
        for _ in range(UPLOAD_BYTES // UPLOAD_PIECE):
            writer.write(os.urandom(UPLOAD_PIECE))
            await writer.drain()
        answer = await reader.readuntil(b"\r\n")
        if b" 201 " not in answer:
            raise RuntimeError(f"the file is not taken: {answer}")
        most = status(host.pid, "VmHWM") * 1024
        writer.close()
    client.leave()
    return most - before


def add_users(host, count):
    if host.kind == "prosody":  # prosodyctl takes 0.2 s for each
        accounts = host.folder / "data/localhost/accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (accounts / f"user{number}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
        return
    for number in range(count):
        host.add_user(f"user{number}", PASSWORD)


def measure(host, args):
    """Rows of the table: (what, figure)."""
    rows = []
    if host.kind == "couplet":
        rows.append(("size of the binary", f"{os.path.getsize(host.binary) / 1e6:.2f} MB"))
    begin = time.perf_counter()
    host.start()
    rows.append(("first start to listening, on an empty folder", f"{(time.perf_counter() - begin) * 1000:.0f} ms"))
    host.stop()
    rows.append((f"start to stream features, median of {args.starts}", f"{start_up_ms(host, args.starts):.1f} ms"))
    host.start()
    time.sleep(SETTLE_S)
    own = status(host.pid, "RssAnon") * 1024
    rows.append(("memory (RSS) idle; of that not pages of the binary",
                 f"{rss_bytes(host.pid) / 1e6:.1f} MB; {own / 1e6:.1f} MB"))
    add_users(host, max(args.clients))
    time.sleep(SETTLE_S)
    before = rss_bytes(host.pid)
    rows.append((f"memory after {max(args.clients)} users were added", f"{before / 1e6:.1f} MB"))
    awake = wake_ups(host.pid)
    time.sleep(IDLE_S)
    rows.append((f"wake-ups in {IDLE_S} idle seconds", str(wake_ups(host.pid) - awake)))
    figures, after = asyncio.run(crowd(host, args.clients, args.direct))
    for count, held in zip(args.clients, figures):
        each_kb = (held - before) / count / 1000
        rows.append((f"memory with {count} idle TLS clients", f"{held / 1e6:.1f} MB: {each_kb:.1f} kB each"))
    rows.append(("memory after they have left", f"{after / 1e6:.1f} MB"))
    if host.kind == "couplet":
        count = max(args.clients)
        (held,), _ = asyncio.run(crowd(host, [count], args.direct, settled=True))
        rows.append((f"memory with {count} TLS clients with {CONTACTS} contacts, carbons and stream management",
                     f"{held / 1e6:.1f} MB: {(held - before) / count / 1000:.1f} kB each"))
        before, held = asyncio.run(parked(host, count, args.direct))
        rows.append((f"memory with {count} sessions that wait to be resumed, their connections lost",
                     f"{held / 1e6:.1f} MB: {(held - before) / count / 1000:.2f} kB each"))
        before, held = asyncio.run(rooms(host, args.direct))
        rows.append((f"memory with {ROOMS} rooms that nobody is in",
                     f"{held / 1e6:.1f} MB: {(held - before) / 1e6:.2f} MB more"))
    if host.kind == "couplet" and tools.answers(host.https_port):
        more = asyncio.run(upload(host, args.direct))
        rows.append((f"memory while a file of {UPLOAD_BYTES // 10**6} MB comes by HTTPS, at most",
                     f"{more / 1000:.0f} kB more"))
    rows.append(("threads", ", ".join(threads(host.pid))))
    code = host.stop()
    if code != 0:
        raise RuntimeError(f"the server ended with code {code}:\n{host.log_tail()}")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("couplet", "prosody"), default="couplet")
    parser.add_argument("--binary", default="target/debug/couplet")
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--starttls", dest="direct", action="store_false", help="clients use STARTTLS, not direct TLS")
    args = parser.parse_args()
    args.clients.sort()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if args.kind == "prosody":
        tools.prosody()
    with server.make(args.kind, args.binary) as host:
        rows = measure(host, args)
    print(f"| {'Couplet' if args.kind == 'couplet' else 'Prosody'}, x86_64 | |\n|---|---|")
    for what, figure in rows:
        print(f"| {what} | {figure} |")
    sys.exit(0)


if __name__ == "__main__":
    main()
