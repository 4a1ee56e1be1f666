"""Two Couplets with each other: both ways to begin TLS, one connection for both directions, and one of the two killed
while a thousand messages are on their way.
"""

import asyncio

import peers
from talker import Client, add_users

CHATS = 1000
#: So many have come when one of the servers is killed.
KILLED_AT = 300


async def couplets(checks, binary):
    for ways in (("starttls",), ("direct",)):
        world = peers.World()
        try:
            left = peers.Couplet(world, "left.example", binary, ways=ways).start()
            right = peers.Couplet(world, "right.example", binary, ways=ways).start()
            for server in (left, right):
                await add_users(server, ("romeo", "juliet"))
            ours, theirs = await Client(left, "romeo").arrive(), await Client(right, "juliet").arrive()
            label = f"Couplets, {ways[0]}"
            await checks.do(f"{label}: {CHATS} messages in order, both ways", both_ways(ours, theirs))
            await checks.do(f"{label}: one connection, with certificates and acknowledgements", one_connection(left))
            await ours.leave()
            await theirs.leave()
            await checks.do(f"{label}: the receiving server is killed", killed(left, right, right))
            await checks.do(f"{label}: the sending server is killed", killed(left, right, left))
            checks.finish(world)
        finally:
            world.close()


async def both_ways(ours, theirs):
    """At the same time, so that each may find the other's connection."""
    async def send(sender, receiver):
        since = len(receiver.seen)
        for n in range(CHATS):
            sender.send_message(receiver.boundjid.full, f"{sender.bare} {n}", mtype="chat")
        await receiver.message(f"{sender.bare} {CHATS - 1}", since)
        got = [s["body"] for s in receiver.seen[since:] if s.name == "message"]
        assert got == [f"{sender.bare} {n}" for n in range(CHATS)], f"{len(got)} of {CHATS} came, or out of order"

    # The first finds the way, and the other takes it.
    ours.send_message(theirs.boundjid.full, "first", mtype="chat")
    await theirs.message("first")
    await asyncio.gather(send(ours, theirs), send(theirs, ours))


async def one_connection(server):
    done = await asyncio.to_thread(server.cli, "s2s", "list")
    lines = done.stdout.splitlines()
    assert len(lines) == 1 and "certificate, both ways, acknowledged" in lines[0], done.stdout + done.stderr


class Acknowledged(Client):
    """Knows which of its messages the server has taken upon itself (XEP-0198)."""

    def __init__(self, *who, **how):
        super().__init__(*who, **how)
        self.taken = set()
        self.register_plugin("xep_0198")
        self.add_event_handler("stanza_acked", self.take)
        # Whoever is to come back does so as another client.
        self.plugin["xep_0198"].allow_resume = False

    def take(self, stanza):
        if stanza.name == "message":
            self.taken.add(stanza["body"])


async def killed(left, right, victim):
    """What the sender's server has acknowledged arrives, in order, whichever of the two dies; while the sender's lives,
    that is all of it. What was on its way may come twice."""
    ours, theirs = await Acknowledged(left, "romeo").arrive(), await Acknowledged(right, "juliet").arrive()
    to, got, taken = theirs.boundjid.full, theirs.seen, ours.taken
    since = len(got)
    sending = asyncio.ensure_future(send_all(ours, to))
    await theirs.message(str(KILLED_AT), since)
    victim.kill()
    before, safe = bodies(got[since:]), len(taken)
    lost = ours if victim is left else theirs
    await asyncio.wait_for(lost.disconnected, 10)
    if victim is left:
        sending.cancel()
    victim.start()
    if victim is left:
        ours = await Acknowledged(left, "romeo").arrive()
    else:
        theirs = await Acknowledged(right, "juliet").arrive()
        await sending
    ours.send_message(to, "the last", mtype="chat")
    await theirs.message("the last", since if victim is left else 0)
    after = bodies(got[since:]) + (bodies(theirs.seen) if victim is right else [])
    numbers = [int(body) for body in after if body != "the last"]
    first = list(dict.fromkeys(numbers))
    assert 0 < safe and len(before) < CHATS, f"{safe} were acknowledged, {len(before)} had come"
    assert first == sorted(first), f"out of order: {first}"
    missing = {int(body) for body in taken if body != "the last"} - set(numbers)
    assert not missing, f"acknowledged and lost: {sorted(missing)}"
    assert victim is left or len(first) == CHATS, f"{len(first)} of {CHATS} came"
    await ours.leave()
    await theirs.leave()


async def send_all(sender, to):
    for n in range(CHATS):
        sender.send_message(to, str(n), mtype="chat")
        if n % 10 == 9:
            await asyncio.sleep(0.005)


def bodies(stanzas):
    return [s["body"] for s in stanzas if s.name == "message" and s["type"] == "chat"]
