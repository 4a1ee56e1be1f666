"""Federation: Couplet with Debian's Prosody, with Debian's ejabberd and with itself, over real TLS, in both directions.

Usage: federation.py --binary FILE [--only external|dialback|refusals|lists|couplets|lies]...

Each pair of users does the same: contacts and presence, a thousand messages each way, queries, PEP, a room on each
side, offline messages, errors. Prints one line for each check: `ok NAME` or `not ok NAME: why`. Exit code 0 if none
failed.
"""

import argparse
import asyncio
import hashlib
import logging
import socket
import sys
from pathlib import Path

from slixmpp.exceptions import IqError
from slixmpp.xmlstream import ET

import couplets
import liar
import peers
from talker import WAIT_S, Checks, Client, add_users

CHATS = 1000
MUC_USER = "{http://jabber.org/protocol/muc#user}"


async def messages_in_order(ours, theirs):
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        since = len(receiver.seen)
        for n in range(CHATS):
            sender.send_message(receiver.boundjid.full, f"{sender.bare} {n}", mtype="chat")
        await receiver.message(f"{sender.bare} {CHATS - 1}", since)
        got = [s["body"] for s in receiver.seen[since:]
               if s.name == "message" and s["type"] == "chat" and s["from"].bare == sender.bare]
        assert got == [f"{sender.bare} {n}" for n in range(CHATS)], f"{len(got)} of {CHATS} came, or out of order"


async def contacts(ours, theirs):
    """Each subscribes to the other; presence follows, and a probe tells it again."""
    for one, other in ((ours, theirs), (theirs, ours)):
        at_one, at_other = len(one.seen), len(other.seen)
        one.send_presence_subscription(other.bare)
        await other.presence("subscribe", one.bare, at_other)
        other.send_presence_subscription(one.bare, ptype="subscribed")
        await one.presence("subscribed", other.bare, at_one)
        await one.presence("available", other.bare, at_one)
    for one, other in ((ours, theirs), (theirs, ours)):
        at_other = len(other.seen)
        one.send_presence(pshow="away", pstatus=f"of {one.bare}")
        await other.until(lambda s: s.name == "presence" and s["status"] == f"of {one.bare}", "a status", at_other)


async def probes(server, user, other):
    """Who comes online hears of contacts elsewhere, and who leaves is seen to go."""
    at_other = len(other.seen)
    second = Client(server, user, resource="second")
    await second.arrive()
    await second.presence("available", other.bare)
    await second.leave()
    await other.until(
        lambda s: s.name == "presence" and s["type"] == "unavailable" and s["from"] == second.boundjid.full,
        "unavailable presence", at_other)


async def removal(ours, theirs):
    """Who has unsubscribed hears of changes no more."""
    for one, other in ((ours, theirs), (theirs, ours)):
        at_other = len(other.seen)
        one.send_presence_subscription(other.bare, ptype="unsubscribe")
        await other.presence("unsubscribe", one.bare, at_other)
        since = len(one.seen)
        other.send_presence(pstatus="not for everybody")
        # What is sent on the same way later has come, and the presence has not.
        other.send_message(one.boundjid.full, "after the presence", mtype="chat")
        await one.message("after the presence", since)
        wrong = [s for s in one.seen[since:] if s.name == "presence" and s["status"] == "not for everybody"]
        assert not wrong, f"{one.bare} is told"


async def queries(ours, theirs):
    for one, other in ((ours, theirs), (theirs, ours)):
        info = await one.plugin["xep_0030"].get_info(other.domain_name, timeout=WAIT_S)
        assert ("server", "im") in {identity[:2] for identity in info["disco_info"]["identities"]}
        card = other.plugin["xep_0054"].make_vcard()
        card["FN"] = f"Name of {other.bare}"
        await other.plugin["xep_0054"].publish_vcard(card, timeout=WAIT_S)
        found = await one.plugin["xep_0054"].get_vcard(other.bare, cached=False, timeout=WAIT_S)
        assert found["vcard_temp"]["FN"] == f"Name of {other.bare}"
        await one.plugin["xep_0199"].send_ping(other.boundjid.full, timeout=WAIT_S)


async def iq_errors(ours, theirs):
    for one, other in ((ours, theirs), (theirs, ours)):
        for to, expected in ((other.domain_name, ("service-unavailable", "feature-not-implemented")),
                             (f"nobody@{other.domain_name}/r", ("service-unavailable", "item-not-found"))):
            iq = one.make_iq_get(queryxmlns="urn:example:unknown", ito=to)
            try:
                await iq.send(timeout=WAIT_S)
                raise AssertionError(f"{to} answers")
            except IqError as error:
                assert error.iq["error"]["condition"] in expected, f"{to}: {error.iq['error']['condition']}"


NICK = "http://jabber.org/protocol/nick"


async def publish(one):
    request = one.make_iq_set()
    request.append(ET.fromstring(
        f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{NICK}'><item id='current'>"
        f"<nick xmlns='{NICK}'>nick of {one.boundjid.user}</nick></item></publish></pubsub>"))
    await request.send(timeout=WAIT_S)


async def pep(ours, theirs):
    """What one publishes the other, who is subscribed to its presence, can fetch."""
    for one, other in ((ours, theirs), (theirs, ours)):
        await publish(other)
        fetch = one.make_iq_get(ito=other.bare)
        fetch.append(ET.fromstring(
            f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{NICK}'/></pubsub>"))
        found = await fetch.send(timeout=WAIT_S)
        assert found.xml.find(f".//{{{NICK}}}nick").text == f"nick of {other.boundjid.user}"


async def pep_news(one, other):
    """And is told of, when its capabilities ask for that."""
    one.plugin["xep_0030"].add_feature(f"{NICK}+notify")
    await one.plugin["xep_0115"].update_caps()
    await asyncio.sleep(1)
    since = len(one.seen)
    await publish(other)
    told = await one.until(
        lambda s: s.name == "message" and s["from"].bare == other.bare
        and s.xml.find(f".//{{{NICK}}}nick") is not None, "a PEP notification", since)
    assert told.xml.find(f".//{{{NICK}}}nick").text == f"nick of {other.boundjid.user}"


async def rooms(ours, theirs):
    """A room on each side, with somebody from the other."""
    for host, guest in ((ours, theirs), (theirs, ours)):
        # Each pair has a room of its own: what was said in another's would be its history.
        room = f"with-{theirs.home.domain}@{host.home.rooms}"

        async def join(one, nick):
            since = len(one.seen)
            join = one.make_presence(pto=f"{room}/{nick}")
            join.append(ET.fromstring("<x xmlns='http://jabber.org/protocol/muc'/>"))
            join.send()
            own = await one.until(
                lambda s: s.name == "presence" and s["from"] == f"{room}/{nick}", "own presence in the room", since)
            assert own["type"] != "error", f"{room}: {own['error']['condition']}"
            return own

        own = await join(host, "host")
        if any(status.get("code") == "201" for status in own.xml.iter(f"{MUC_USER}status")):
            unlock = host.make_iq_set(ito=room)
            unlock.append(ET.fromstring(
                "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"))
            await unlock.send(timeout=WAIT_S)
        since = len(host.seen)
        await join(guest, "guest")
        await host.until(lambda s: s.name == "presence" and s["from"] == f"{room}/guest", "the guest", since)
        for speaker, listener in ((host, guest), (guest, host)):
            since = len(listener.seen)
            for n in range(20):
                speaker.send_message(room, f"{speaker.bare} says {n}", mtype="groupchat")
            await listener.message(f"{speaker.bare} says 19", since)
            got = [s["body"] for s in listener.seen[since:]
                   if s["type"] == "groupchat" and s["body"].startswith(speaker.bare)]
            assert got == [f"{speaker.bare} says {n}" for n in range(20)], got
        since = len(host.seen)
        guest.send_presence(pto=f"{room}/guest", ptype="unavailable")
        await host.until(
            lambda s: s.name == "presence" and s["type"] == "unavailable" and s["from"] == f"{room}/guest",
            "the guest's leaving", since)


async def news(host, reader):
    """Who subscribes from elsewhere to a node of Couplet's service is told."""
    service, node = host.home.nodes, f"for-{reader.home.domain}"

    async def ask(one, kind, ns, inner):
        iq = one.make_iq(itype=kind, ito=service)
        iq.append(ET.fromstring(f"<pubsub xmlns='http://jabber.org/protocol/pubsub{ns}'>{inner}</pubsub>"))
        return await iq.send(timeout=WAIT_S)

    await ask(host, "set", "", f"<create node='{node}'/>")
    await ask(reader, "set", "", f"<subscribe node='{node}' jid='{reader.bare}'/>")
    since = len(reader.seen)
    for n in range(20):
        await ask(host, "set", "", f"<publish node='{node}'><item id='{n}'><n xmlns='urn:example:n'/></item></publish>")
    await reader.until(
        lambda s: s.name == "message" and s.xml.find(".//*[@id='19']") is not None, "the last item", since)
    event = "{http://jabber.org/protocol/pubsub#event}"
    told = [i.get("id") for s in reader.seen[since:] if s["from"] == service for i in s.xml.iter(f"{event}item")]
    assert told == [str(n) for n in range(20)], told
    found = await ask(reader, "get", "", f"<items node='{node}' max_items='1'/>")
    assert [i.get("id") for i in found.xml.iter("{http://jabber.org/protocol/pubsub}item")] == ["19"]
    await ask(host, "set", "#owner", f"<delete node='{node}'/>")


async def offline(sender, server, user):
    """What comes for somebody who is away is there later, with its time."""
    body = f"while you were away, from {sender.bare}"
    sender.send_message(f"{user}@{server.domain}", body, mtype="chat")
    await asyncio.sleep(2)
    reader = await Client(server, user).arrive()
    got = await reader.message(body)
    assert got.xml.find("{urn:xmpp:delay}delay") is not None, "without a time"
    await reader.leave()


async def out_of_reach(ours):
    """One that no name server knows, one that refuses connections, one that takes them and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for domain, port, expected in (
                ("nowhere.example", None, "remote-server-not-found"),
                ("down.example", peers.free_ports(1)[0], "remote-server-timeout"),
                ("silent.example", silent.getsockname()[1], "remote-server-timeout")):
            if port:
                ours.home.world.names.add(domain, port)
            since = len(ours.seen)
            ours.send_message(f"somebody@{domain}", "hello?")
            condition = await ours.error_of(f"somebody@{domain}", since)
            assert condition == expected, f"{domain}: {condition}"


async def pair(checks, label, couplet, other, away):
    ours, theirs = await Client(couplet, "romeo").arrive(), await Client(other, "juliet").arrive()
    await checks.do(f"{label}: contacts and presence", contacts(ours, theirs))
    await checks.do(f"{label}: probes, from Couplet", probes(couplet, "romeo", theirs))
    await checks.do(f"{label}: probes, to Couplet", probes(other, "juliet", ours))
    await checks.do(f"{label}: {CHATS} messages in order, both ways", messages_in_order(ours, theirs))
    await checks.do(f"{label}: disco, vCard, ping, both ways", queries(ours, theirs))
    await checks.do(f"{label}: IQ errors, both ways", iq_errors(ours, theirs))
    await checks.do(f"{label}: PEP, both ways", pep(ours, theirs))
    await checks.do(f"{label}: PEP notifications, to Couplet", pep_news(ours, theirs))
    await checks.do(f"{label}: PEP notifications, from Couplet", pep_news(theirs, ours))
    await checks.do(f"{label}: a room on each side", rooms(ours, theirs))
    await checks.do(f"{label}: a node of a service of Couplet's", news(ours, theirs))
    await checks.do(f"{label}: offline, from Couplet", offline(ours, other, away))
    await checks.do(f"{label}: offline, to Couplet", offline(theirs, couplet, away))
    await checks.do(f"{label}: removal of contacts", removal(ours, theirs))
    await ours.leave()
    await theirs.leave()


async def external(checks, binary):
    """Certificates of an authority that all believe: SASL EXTERNAL."""
    world = peers.World()
    try:
        # A server that is down is waited for, but not for as long as people would.
        couplet = peers.Couplet(world, "couplet.example", binary, "[limits]\ns2s_queue_timeout_s = 5").start()
        prosody = peers.Prosody(world, "prosody.example").start()
        ejabberd = peers.Ejabberd(world, "ejabberd.example").start()
        for server in (couplet, prosody, ejabberd):
            await add_users(server, ("romeo", "juliet", "away"))
        for label, other in (("EXTERNAL, Prosody", prosody), ("EXTERNAL, ejabberd", ejabberd)):
            await pair(checks, label, couplet, other, "away")
        ours = await Client(couplet, "romeo").arrive()
        await checks.do("domains out of reach", out_of_reach(ours))
        await ours.leave()
        await checks.do("`couplet s2s check` finds a good server good", command(couplet, "prosody.example", 0))
        await checks.do("`couplet s2s check` explains one that is not there", command(couplet, "nowhere.example", 1))
        checks.finish(world)
    finally:
        world.close()


async def command(couplet, domain, code):
    done = await asyncio.to_thread(couplet.cli, "s2s", "check", domain)
    assert done.returncode == code, f"code {done.returncode}: {done.stdout} {done.stderr}"


async def dialback(checks, binary):
    """Self-signed certificates, and keys that prove the domains."""
    world = peers.World()
    try:
        couplet = peers.Couplet(world, "couplet.example", binary, "secure_auth = false\ndialback = true",
                                issue=peers.self_signed).start()
        prosody = peers.Prosody(world, "prosody.example", "s2s_secure_auth = false", modules=("dialback",),
                                certificates=peers.self_signed).start()
        ejabberd = peers.Ejabberd(world, "ejabberd.example", modules=("mod_s2s_dialback",),
                                  certificates=peers.self_signed).start()
        for server in (couplet, prosody, ejabberd):
            await add_users(server, ("romeo", "juliet", "away"))
        for label, other in (("dialback, Prosody", prosody), ("dialback, ejabberd", ejabberd)):
            await pair(checks, label, couplet, other, "away")
        checks.finish(world)
    finally:
        world.close()


async def refused(ours, theirs):
    """Neither side gets a message to the other; whoever tries is told."""
    at_ours, at_theirs = len(ours.seen), len(theirs.seen)
    ours.send_message(theirs.boundjid.full, "out")
    theirs.send_message(ours.boundjid.full, "in")
    condition = await ours.error_of(theirs.bare, at_ours)
    assert condition in ("remote-server-not-found", "remote-server-timeout"), condition
    await theirs.error_of(ours.bare, at_theirs)
    for one, since, body in ((ours, at_ours, "in"), (theirs, at_theirs, "out")):
        wrong = [s for s in one.seen[since:] if s.name == "message" and s["body"] == body and s["type"] != "error"]
        assert not wrong, f"{one.bare} got a message"


async def refusals(checks, binary):
    """What nobody should believe is not believed, in either direction."""
    world = peers.World()
    try:
        couplet = peers.Couplet(world, "couplet.example", binary).start()
        bad = (
            ("unknown authority", "unknown.example", world.stranger.issue),
            ("self-signed", "self.example", peers.self_signed),
            ("expired", "expired.example", lambda d, to: world.authority.issue(d, to, expired=True)),
            ("of another domain", "wrong.example", lambda d, to: world.authority.issue(d, to, names=("else.example",))),
        )
        prosody = peers.Prosody(world, "prosody.example", "s2s_secure_auth = false", modules=("dialback",),
                                others=[(domain, make) for _, domain, make in bad]).start()
        plain = peers.Prosody(world, "plain.example", "s2s_require_encryption = false\ns2s_secure_auth = false",
                              modules=("dialback",))
        config = plain.folder / "prosody.cfg.lua"
        config.write_text(config.read_text().replace('"saslauth", "tls"', '"saslauth"'))
        plain.start()
        await add_users(couplet, ("romeo",))
        ours = await Client(couplet, "romeo").arrive()
        for label, domain, _ in bad:
            await add_users(prosody, ("juliet",), domain)
            theirs = await Client(prosody, "juliet", domain).arrive()
            await checks.do(f"refused: a certificate that is {label}" if "auth" not in label
                            else f"refused: a certificate of an {label}", refused(ours, theirs))
            await theirs.leave()
            await checks.do(f"`couplet s2s check` explains {domain}", command(couplet, domain, 1))
        ours.send_message("juliet@plain.example", "hello?")
        await checks.do("refused: a server without TLS", told(ours, "juliet@plain.example"))
        await ours.leave()
        checks.finish(world)
    finally:
        world.close()


LIST = "muc_bans_sha256"


async def on_the_list(publisher, who, is_on):
    """An item whose id is the hash of the address is published, or taken back."""
    entry = f"<item id='{hashlib.sha256(who.encode()).hexdigest()}'>"
    request = publisher.make_iq_set(ito=publisher.home.nodes)
    change = (f"<publish node='{LIST}'>{entry}<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'/>"
              "</item></publish>" if is_on else f"<retract node='{LIST}' notify='1'>{entry}</item></retract>")
    request.append(ET.fromstring(f"<pubsub xmlns='http://jabber.org/protocol/pubsub'>{change}</pubsub>"))
    await request.send(timeout=WAIT_S)


async def passes(sender, receiver, is_let_in):
    """What a stranger writes comes, or goes back to him as if nobody were there; the list takes effect soon."""
    for n in range(WAIT_S):
        body, since, at_sender = f"buy {n} from {sender.bare}", len(receiver.seen), len(sender.seen)
        sender.send_message(receiver.bare, body, mtype="chat")
        came = asyncio.ensure_future(receiver.message(body, since))
        back = asyncio.ensure_future(sender.error_of(receiver.bare, at_sender))
        done, waiting = await asyncio.wait((came, back), return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        if (came in done) == is_let_in:
            assert is_let_in or back.result() == "service-unavailable", back.result()
            return
        await asyncio.sleep(1)
    raise AssertionError(f"{sender.bare} is {'still refused' if is_let_in else 'still let in'}")


async def entered(guest, room, is_let_in):
    since = len(guest.seen)
    join = guest.make_presence(pto=f"{room}/{guest.boundjid.user}")
    join.append(ET.fromstring("<x xmlns='http://jabber.org/protocol/muc'/>"))
    join.send()
    own = await guest.until(lambda s: s.name == "presence" and s["from"].bare == room, "an answer of the room", since)
    assert (own["type"] != "error") == is_let_in, own
    assert is_let_in or own["error"]["condition"] == "forbidden", own


async def lists(checks, binary):
    """A block list that Prosody's service publishes."""
    world = peers.World()
    try:
        prosody = peers.Prosody(world, "prosody.example")
        config = prosody.folder / "prosody.cfg.lua"
        config.write_text(f"""{config.read_text()}
Component "{prosody.nodes}" "pubsub"
ssl = {{ certificate = "{prosody.folder}/prosody.example.crt", key = "{prosody.folder}/prosody.example.key" }}
admins = {{ "juliet@prosody.example" }}
""")
        prosody.start()
        await add_users(prosody, ("juliet", "tybalt", "paris"))
        juliet, tybalt, paris = [await Client(prosody, user).arrive() for user in ("juliet", "tybalt", "paris")]
        make = juliet.make_iq_set(ito=prosody.nodes)
        make.append(ET.fromstring(f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><create node='{LIST}'/></pubsub>"))
        await make.send(timeout=WAIT_S)
        await on_the_list(juliet, tybalt.bare, True)
        couplet = peers.Couplet(world, "couplet.example", binary,
                                f'[modules.rtbl]\nlists = ["{prosody.nodes}"]\nstrangers = true').start()
        await add_users(couplet, ("romeo",))
        romeo = await Client(couplet, "romeo").arrive()
        room = f"list@{couplet.rooms}"
        await entered(romeo, room, True)
        await checks.do("lists: who was on it before is refused", passes(tybalt, romeo, False))
        await checks.do("lists: who is not on it is let in", passes(paris, romeo, True))
        await on_the_list(juliet, paris.bare, True)
        await checks.do("lists: who is put on it is refused", passes(paris, romeo, False))
        await checks.do("lists: and kept out of rooms", entered(paris, room, False))
        await on_the_list(juliet, paris.bare, False)
        await checks.do("lists: who is taken from it is let in", passes(paris, romeo, True))
        await checks.do("lists: who stays on it is refused", passes(tybalt, romeo, False))
        checks.finish(world)
    finally:
        world.close()


async def told(ours, address):
    condition = await ours.error_of(address)
    assert condition in ("remote-server-not-found", "remote-server-timeout"), condition


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--only", choices=("external", "dialback", "refusals", "lists", "couplets", "lies"), action="append")
    args = parser.parse_args()
    # slixmpp reports on connections that are expected to fail here.
    logging.basicConfig(level=logging.CRITICAL)
    checks = Checks()
    for name, run in (("external", external), ("dialback", dialback), ("refusals", refusals),
                      ("lists", lists), ("couplets", couplets.couplets), ("lies", liar.lies)):
        if not args.only or name in args.only:
            try:
                await run(checks, args.binary)
            except (RuntimeError, OSError, asyncio.TimeoutError) as error:
                checks.failed += 1
                print(f"not ok {name}: {error}", flush=True)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    asyncio.run(main())
