"""Moving house: Debian's Prosody is filled by slixmpp, stopped, its data imported, and slixmpp sees the same.

The same with what ejabberd exports.

Usage: moving.py --binary FILE [--source prosody|ejabberd] [--storage internal|sql]

Prints one line for each check, as slix.py does.
"""

import argparse
import asyncio
import base64
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from slixmpp.exceptions import IqError
from slixmpp.xmlstream import ET

import peers
import server
from slix import Checks, Peer, Refused
from talker import PASSWORD as peer_password, Client, add_users
from watcher import WAIT_S

PASSWORD = "p=encil, ünï ♥"
USERS = ("romeo", "juliet", "nurse", "mer,cu=tio")
BANNED = "tybalt"
ROOM = "orchard@conference.localhost"
SERVICE, NEWS = "pubsub.localhost", "news of é/one"
MUC = "http://jabber.org/protocol/muc"
PUBSUB = "http://jabber.org/protocol/pubsub"
DEVICES, BUNDLES = "eu.siacs.conversations.axolotl.devicelist", "eu.siacs.conversations.axolotl.bundles:1"
IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
ROOM_FIELDS = ("roomname", "roomdesc", "persistentroom", "publicroom", "membersonly", "moderatedroom", "roomsecret",
               "whois", "changesubject", "historylength")


class Prosody(server.Prosody):
    """One that keeps what a server of a family keeps, passwords as keys."""

    CONFIG = server.Prosody.CONFIG.replace("-- Plain passwords let it offer SCRAM with every hash.\n", "") \
        .replace('"internal_plain"', '"internal_hashed"') \
        .replace('storage = "internal"', 'storage = "STORAGE"\nsql = {{ driver = "SQLite3"; database = "prosody.sqlite" }}') \
        .replace('"offline" }}', '"offline", "bookmarks", "mam", "smacks" }}') + """
Component "conference.localhost" "muc"
modules_enabled = {{ "muc_mam" }}
Component "pubsub.localhost" "pubsub"
admins = {{ "romeo@localhost" }}
"""

    def __init__(self, storage):
        self.CONFIG = self.CONFIG.replace("STORAGE", storage)
        super().__init__()


class Resident(Peer):
    """A user of either server."""

    def __init__(self, host, user, password=PASSWORD):
        args = SimpleNamespace(host="127.0.0.1", starttls=host.starttls_port, tls=host.tls_port, ca=host.certificate)
        super().__init__(args, user, password, "r")

    async def ask(self, kind, child, to=None):
        """The child of the answer to a request; None when it is empty."""
        iq = self.make_iq_set() if kind == "set" else self.make_iq_get()
        if to:
            iq["to"] = to
        iq.xml.append(ET.fromstring(child))
        answer = await iq.send(timeout=WAIT_S)
        return next(iter(answer.xml), None)

    async def publish(self, node, ident, payload, options=""):
        if options:
            options = f"<publish-options>{form(f'{PUBSUB}#publish-options', 'pubsub#', options)}</publish-options>"
        await self.ask("set", f"<pubsub xmlns='{PUBSUB}'><publish node='{node}'><item id='{ident}'>{payload}</item>"
                              f"</publish>{options}</pubsub>")


PREFERRED = "always", ["juliet@localhost"], ["paris@localhost", "spam.example"]


async def prefer(user):
    """Says what is to be archived."""
    await user.ask("set", "<prefs xmlns='urn:xmpp:mam:2' default='always'><always><jid>juliet@localhost</jid></always>"
                          "<never><jid>spam.example</jid><jid>paris@localhost</jid></never></prefs>")


async def preferences(user):
    prefs = await user.ask("get", "<prefs xmlns='urn:xmpp:mam:2'/>")
    mam = "{urn:xmpp:mam:2}"
    return prefs.get("default"), *(sorted(j.text for j in prefs.iterfind(f"{mam}{rule}/{mam}jid"))
                                   for rule in ("always", "never"))


def form(kind, prefix, values):
    """A form that is submitted."""
    fields = "".join(f"<field var='{prefix}{name}'><value>{value}</value></field>" for name, value in values.items())
    return (f"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>{kind}</value></field>"
            f"{fields}</x>")


def values_of(found, prefix):
    """What a form says, by the names of its fields without the prefix."""
    return {field.get("var", "").removeprefix(prefix): field.findtext("{jabber:x:data}value")
            for field in found.iter("{jabber:x:data}field")}


def canonical(xml):
    """An element as text that does not depend on how it was written."""
    return None if xml is None else ET.canonicalize(ET.tostring(xml, encoding="unicode"), strip_text=True,
                                                    rewrite_prefixes=True)


async def fill(host):
    romeo, juliet = Resident(host, "romeo"), Resident(host, "juliet")
    await romeo.arrive()
    await juliet.arrive()
    for user, other in ((romeo, juliet), (juliet, romeo)):
        await user.ask("set", f"<query xmlns='jabber:iq:roster'><item jid='{other.boundjid.bare}' name='My &lt;love&gt;'>"
                              "<group>Friends</group><group>Vérona</group></item></query>")
    mark = len(juliet.seen)
    romeo.send_presence(pto="juliet@localhost", ptype="subscribe")
    await juliet.presence("subscribe", "romeo@localhost", mark)
    juliet.send_presence(pto="romeo@localhost", ptype="subscribed")
    juliet.send_presence(pto="romeo@localhost", ptype="subscribe")
    await romeo.presence("subscribe", "juliet@localhost")
    romeo.send_presence(pto="juliet@localhost", ptype="subscribed")
    romeo.send_presence(pto="nurse@localhost", ptype="subscribe")
    await romeo.fence()
    image = base64.b64encode(IMAGE).decode()
    await romeo.ask("set", "<vCard xmlns='vcard-temp'><FN>Romeo M.</FN><NICKNAME>R</NICKNAME><EMAIL><INTERNET/>"
                           "<USERID>romeo@example.org</USERID></EMAIL><ORG><ORGNAME>Montague</ORGNAME></ORG>"
                           f"<PHOTO><TYPE>image/png</TYPE><BINVAL>{image}</BINVAL></PHOTO></vCard>")
    await romeo.ask("set", "<query xmlns='jabber:iq:private'><notes xmlns='urn:test:notes'><n id='1'>a &amp; b</n>"
                           "</notes></query>")
    await romeo.ask("set", "<block xmlns='urn:xmpp:blocking'><item jid='spam.example'/>"
                           "<item jid='tybalt@localhost'/></block>")
    own = {"persist_items": "true", "max_items": "max", "send_last_published_item": "never",
           "access_model": "whitelist"}
    for room, auto in ((ROOM, "true"), ("balcony@conference.localhost", "false")):
        await romeo.publish("urn:xmpp:bookmarks:1", room, f"<conference xmlns='urn:xmpp:bookmarks:1' autojoin='{auto}' "
                            "name='A room'><nick>R</nick></conference>", own)
    await romeo.publish(DEVICES, "current", "<list xmlns='eu.siacs.conversations.axolotl'><device id='31415'/></list>",
                        {"access_model": "open"})
    await romeo.publish(BUNDLES, "31415", "<bundle xmlns='eu.siacs.conversations.axolotl'>"
                        "<identityKey>BSB1</identityKey></bundle>", {"access_model": "open", "max_items": "10"})
    for body in ("first", "second"):
        romeo.send_message("nurse@localhost", body, mtype="chat")
    for who, other, body in ((romeo, "juliet@localhost", "What & light?"), (juliet, "romeo@localhost", "Ay me! ♥")):
        who.send_message(other, body, mtype="chat")
    await romeo.message("Ay me! ♥")
    await fill_room(romeo, juliet)
    await fill_service(romeo, juliet)
    await prefer(romeo)
    await romeo.fence()
    await romeo.leave()
    await juliet.leave()


async def fill_service(romeo, juliet):
    config = form(f"{PUBSUB}#node_config", "pubsub#", {
        "title": "News", "access_model": "whitelist", "max_items": "4", "publish_model": "publishers"})
    await romeo.ask("set", f"<pubsub xmlns='{PUBSUB}'><create node='{NEWS}'/><configure>{config}</configure></pubsub>",
                    SERVICE)
    await romeo.ask("set", f"<pubsub xmlns='{PUBSUB}#owner'><affiliations node='{NEWS}'>"
                           "<affiliation jid='juliet@localhost' affiliation='publisher'/>"
                           "<affiliation jid='nurse@localhost' affiliation='member'/></affiliations></pubsub>", SERVICE)
    await juliet.ask("set", f"<pubsub xmlns='{PUBSUB}'><subscribe node='{NEWS}' jid='juliet@localhost'/></pubsub>", SERVICE)
    for n, user in enumerate((romeo, juliet, romeo, juliet)):
        await user.ask("set", f"<pubsub xmlns='{PUBSUB}'><publish node='{NEWS}'><item id='{n}'><n xmlns='urn:test:news'>"
                              f"{n}</n></item></publish></pubsub>", SERVICE)


async def look_at_service(romeo, juliet):
    """Configuration, items, who is what, and what a subscriber is told of his subscriptions."""
    config = await romeo.ask("get", f"<pubsub xmlns='{PUBSUB}#owner'><configure node='{NEWS}'/></pubsub>", SERVICE)
    values = values_of(config, "pubsub#")
    seen = {name: values[name] for name in ("title", "access_model", "max_items", "publish_model",
                                            "send_last_published_item")}
    found = await juliet.ask("get", f"<pubsub xmlns='{PUBSUB}'><items node='{NEWS}'/></pubsub>", SERVICE)
    seen["items"] = {item.get("id"): canonical(next(iter(item), None)) for item in found.iter(f"{{{PUBSUB}}}item")}
    for what in ("affiliation", "subscription"):
        listed = await romeo.ask("get", f"<pubsub xmlns='{PUBSUB}#owner'><{what}s node='{NEWS}'/></pubsub>", SERVICE)
        seen[what] = sorted((one.get("jid"), one.get(what)) for one in listed.iter(f"{{{PUBSUB}#owner}}{what}"))
    mine = await juliet.ask("get", f"<pubsub xmlns='{PUBSUB}'><subscriptions/></pubsub>", SERVICE)
    seen["hers"] = [(one.get("node"), one.get("subscription")) for one in mine.iter(f"{{{PUBSUB}}}subscription")]
    assert all(seen[what] for what in ("items", "affiliation", "subscription", "hers")), seen
    return seen


async def join(user):
    """Enters the room, and gives what is said of the past until the subject ends it."""
    mark = len(user.seen)
    presence = user.make_presence(pto=f"{ROOM}/{user.boundjid.user}")
    presence.xml.append(ET.fromstring(f"<x xmlns='{MUC}'><password>sesame</password></x>"))
    presence.send()
    subject = await user.until(lambda s: s.name == "message" and s["type"] == "groupchat"
                               and s.xml.find("{jabber:client}subject") is not None, "the subject", mark)
    said = [(s["from"].resource, s["body"]) for s in user.seen[mark:] if s.name == "message" and s["body"]]
    return said, subject["subject"], subject["from"].resource


async def fill_room(romeo, juliet):
    await join(romeo)
    values = {"roomname": "The orchard", "roomdesc": "Below a window", "persistentroom": "1", "publicroom": "0",
              "membersonly": "1", "moderatedroom": "1", "passwordprotectedroom": "1", "roomsecret": "sesame",
              "whois": "anyone", "changesubject": "1", "historylength": "30"}
    config = form(f"{MUC}#roomconfig", "muc#roomconfig_", values)
    await romeo.ask("set", f"<query xmlns='{MUC}#owner'>{config}</query>", ROOM)
    await romeo.ask("set", f"<query xmlns='{MUC}#admin'><item jid='juliet@localhost' affiliation='admin'/>"
                           "<item jid='nurse@localhost' affiliation='member'><reason>She helps</reason></item>"
                           "<item jid='tybalt@localhost' affiliation='outcast'><reason>A duel</reason></item>"
                           "</query>", ROOM)
    await join(juliet)
    romeo.send_message(ROOM, mtype="groupchat", msubject="But soft")
    for who, body in ((romeo, "What light?"), (juliet, "Ay me!"), (romeo, "She speaks.")):
        mark = len(romeo.seen)
        who.send_message(ROOM, body, mtype="groupchat")
        await romeo.message(body, mark)


async def archive(user, to=None, after=None):
    """Ids, times to the second and bodies of an archive, or of what is behind one id."""
    behind = f"<after>{after}</after>" if after else ""
    mark = len(user.seen)
    await user.ask("set", f"<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>50</max>"
                          f"{behind}</set></query>", to)
    found = []
    for stanza in user.seen[mark:]:
        result = stanza.xml.find("{urn:xmpp:mam:2}result")
        if result is not None:
            forwarded = result.find("{urn:xmpp:forward:0}forwarded")
            message = forwarded.find("{jabber:client}message")
            stamp = forwarded.find("{urn:xmpp:delay}delay").get("stamp")
            found.append((result.get("id"), stamp[:19], message.get("from"), message.findtext("{jabber:client}body")))
    return found


async def look(host):
    """What romeo and juliet see."""
    seen = {}
    romeo, juliet = Resident(host, "romeo"), Resident(host, "juliet")
    await romeo.arrive()
    await juliet.arrive()
    for user in (romeo, juliet):
        contacts = await user.contacts()
        seen[f"roster of {user.boundjid.user}"] = {k: (a, n, sorted(g)) for k, (a, n, g) in contacts.items()}
        query = await user.ask("get", "<query xmlns='jabber:iq:roster' ver=''/>")
        seen[f"version {user.boundjid.user}"] = query.get("ver")
    vcard = await romeo.ask("get", "<vCard xmlns='vcard-temp'/>")
    texts = {e.tag.split("}")[1]: e.text for e in vcard.iter() if e.text and e.text.strip()}
    seen["vCard"] = texts
    private = await romeo.ask("get", "<query xmlns='jabber:iq:private'><notes xmlns='urn:test:notes'/></query>")
    seen["private storage"] = canonical(private)
    blocked = await romeo.ask("get", "<blocklist xmlns='urn:xmpp:blocking'/>")
    seen["blocklist"] = sorted(item.get("jid") for item in blocked)
    nodes = await romeo.ask("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", "romeo@localhost")
    # What stands in it is compared as bookmarks; here it is no node of its own.
    names = sorted(item.get("node") for item in nodes if item.get("node") not in (None, "storage:bookmarks"))
    seen["nodes"] = names
    seen["preferences of the archive"] = await preferences(romeo)
    seen["nodes of the service"] = await look_at_service(romeo, juliet)
    for name in names:
        found = await romeo.ask("get", f"<pubsub xmlns='{PUBSUB}'><items node='{name}'/></pubsub>")
        items = {item.get("id"): canonical(next(iter(item), None)) for item in found.iter(f"{{{PUBSUB}}}item")}
        seen[f"items of {name}"] = items
        config = await romeo.ask("get", f"<pubsub xmlns='{PUBSUB}#owner'><configure node='{name}'/></pubsub>")
        seen[f"access to {name}"] = values_of(config, "pubsub#").get("access_model")
    old = await romeo.ask("get", "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>")
    seen["bookmarks"] = sorted((c.get("jid"), c.get("name"), c.get("autojoin") in ("1", "true"))
                               for c in old.iter("{storage:bookmarks}conference"))
    values = values_of(await romeo.ask("get", f"<query xmlns='{MUC}#owner'/>", ROOM), "muc#roomconfig_")
    truth = {"true": "1", "false": "0"}
    seen["configuration of the room"] = {name: truth.get(values.get(name), values.get(name)) for name in ROOM_FIELDS}
    for affiliation in ("owner", "admin", "member", "outcast"):
        listed = await romeo.ask("get", f"<query xmlns='{MUC}#admin'><item affiliation='{affiliation}'/></query>", ROOM)
        seen[f"{affiliation}s of the room"] = sorted(
            (item.get("jid"), item.findtext(f"{{{MUC}#admin}}reason")) for item in listed)
    for user in (romeo, juliet):
        seen[f"archive of {user.boundjid.user}"] = await archive(user)
    said, subject, _ = await join(romeo)
    # What a query of the room says of who is who is for those who may know it.
    seen["archive of the room"] = whole = await archive(romeo, ROOM)
    seen["archive of the room behind the first message"] = await archive(romeo, ROOM, whole[0][0])
    mine = seen["archive of romeo"]
    seen["archive of romeo behind the first message"] = await archive(romeo, None, mine[0][0])
    seen["history of the room"], seen["subject of the room"] = said, subject
    await romeo.leave()
    await juliet.leave()
    return seen


async def offline(host):
    """What waits for the nurse: bodies, and who asks for a subscription."""
    nurse = Resident(host, "nurse")
    await nurse.arrive()
    await nurse.message("second")
    asked = await nurse.presence("subscribe", "romeo@localhost")
    waiting = [s for s in nurse.seen if s.name == "message" and s["body"]]
    stamped = all(s.xml.find("{urn:xmpp:delay}delay") is not None for s in waiting)
    await nurse.leave()
    return [s["body"] for s in waiting], stamped, asked["from"].bare


async def unchanged(host, user, version):
    """Whether the roster is still the one of that version."""
    peer = Resident(host, user)
    await peer.login()
    answer = await peer.ask("get", f"<query xmlns='jabber:iq:roster' ver='{version}'/>")
    await peer.leave()
    return answer is None


async def start(new):
    """Starts a server of ours; its certificate is there a moment after its ports."""
    new.start()
    for _ in range(100):
        try:
            return new.certificate
        except RuntimeError:
            await asyncio.sleep(0.05)
    return new.certificate


class Citizen(Client):
    """A user of ejabberd."""

    ask = Resident.ask


SCHEMAS = Path("/usr/share/ejabberd/sql")
KEPT = ("mod_private", "mod_privacy", "mod_blocking", "mod_last", "mod_mam")


def in_sqlite(old, schema):
    """ejabberd keeps all that it can in one file of SQLite."""
    file, config = old.folder / "ejabberd.sqlite", old.folder / "ejabberd.yml"
    with sqlite3.connect(file) as made:
        made.executescript((SCHEMAS / schema).read_text())
    made.close()
    archived = "mod_mam:\n    default: always"
    new = str(schema == "lite.new.sql").lower()
    config.write_text(config.read_text().replace("mod_mam: {}", archived) + "\ndefault_db: sql\nauth_method: sql\n"
                      f"sql_type: sqlite\nsql_database: \"{file}\"\nnew_sql_schema: {new}\n")
    return file


async def ejabberd_archives(new, stanzas):
    """What clients know of both archives, before and behind the move."""
    romeo = Resident(new, "romeo", peer_password)
    await romeo.arrive()
    mine = await archive(romeo)
    assert [(ident, body) for ident, _, _, body in mine] == stanzas["romeo"], (mine, stanzas)
    assert await archive(romeo, None, mine[0][0]) == mine[1:]
    said = await archive(romeo, ROOM)
    assert [(ident, sender, body) for ident, _, sender, body in said] == stanzas["room"], (said, stanzas)
    await romeo.leave()


async def from_ejabberd_sql(check, args, schema):
    """ejabberd's own tables."""
    world = peers.World()
    try:
        old = peers.Ejabberd(world, "localhost", modules=KEPT)
        file = in_sqlite(old, schema)
        old.start()
        await add_users(old, ("romeo", "juliet"))
        romeo, juliet = Citizen(old, "romeo"), Citizen(old, "juliet")
        await romeo.arrive()
        await juliet.arrive()
        await fill_data(romeo)
        await romeo.ask("set", f"<pubsub xmlns='{PUBSUB}'><publish node='urn:xmpp:bookmarks:1'><item id='{ROOM}'>"
                               "<conference xmlns='urn:xmpp:bookmarks:1' name='A room'/></item></publish></pubsub>")
        for who, other, body in ((romeo, "juliet@localhost", "What & light?"), (juliet, "romeo@localhost", "Ay me! ♥")):
            who.send_message(other, body, mtype="chat")
        await romeo.message("Ay me! ♥")
        await fill_service(romeo, juliet)
        nodes = await look_at_service(romeo, juliet)
        await join(romeo)
        config = form(f"{MUC}#roomconfig", "", {
            "muc#roomconfig_roomname": "The orchard", "muc#roomconfig_persistentroom": "1", "mam": "1"})
        await romeo.ask("set", f"<query xmlns='{MUC}#owner'>{config}</query>", ROOM)
        for body in ("She speaks.", "Anon!"):
            mark = len(romeo.seen)
            romeo.send_message(ROOM, body, mtype="groupchat")
            await romeo.message(body, mark)
        stanzas = {"romeo": [(i, b) for i, _, _, b in await archive(romeo)],
                   "room": [(i, s, b) for i, _, s, b in await archive(romeo, ROOM)]}
        assert stanzas["romeo"] and stanzas["room"], stanzas
        await juliet.leave()
        await leave_waiting(romeo)
        stanzas["romeo"] = [(i, b) for i, _, _, b in await archive(romeo)]
        await prefer(romeo)
        await romeo.leave()
        old.stop()
        with sqlite3.connect(file) as whole:
            whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        whole.close()
        with server.Couplet(args.binary) as new:
            async with check(f"what ejabberd keeps in SQLite is taken ({schema})"):
                everything_taken(new, "ejabberd", file)
            async with check("and the second time nothing"):
                nothing_taken(new, "ejabberd", file)
            await start(new)
            async with check("the same password of ejabberd logs in, and the same data is there"):
                romeo = Resident(new, "romeo", peer_password)
                await romeo.arrive()
                await same_data(romeo)
                bookmarks = await romeo.ask("get", f"<pubsub xmlns='{PUBSUB}'><items node='urn:xmpp:bookmarks:1'/></pubsub>")
                assert [item.get("id") for item in bookmarks.iter(f"{{{PUBSUB}}}item")] == [ROOM], canonical(bookmarks)
                assert await preferences(romeo) == PREFERRED, await preferences(romeo)
                await romeo.leave()
            async with check("the same nodes of the service"):
                romeo, juliet = Resident(new, "romeo", peer_password), Resident(new, "juliet", peer_password)
                await romeo.arrive()
                await juliet.login()
                found = await look_at_service(romeo, juliet)
                assert found == nodes, [(found[what], nodes[what]) for what in nodes if found[what] != nodes[what]]
                await romeo.leave()
                await juliet.leave()
            async with check("the same archives with the same ids"):
                await ejabberd_archives(new, stanzas)
            async with check("the same message and request wait"):
                await same_wait(new)
    finally:
        world.close()


async def fill_data(romeo):
    await romeo.ask("set", "<query xmlns='jabber:iq:roster'><item jid='juliet@localhost' name='J'>"
                           "<group>Friends</group></item></query>")
    await romeo.ask("set", "<vCard xmlns='vcard-temp'><FN>Romeo M.</FN></vCard>")
    await romeo.ask("set", "<query xmlns='jabber:iq:private'><notes xmlns='urn:test:notes'>a &amp; b</notes></query>")
    await romeo.ask("set", "<block xmlns='urn:xmpp:blocking'><item jid='spam.example'/></block>")


async def same_data(romeo):
    assert await romeo.contacts() == {"juliet@localhost": ("none", "J", ["Friends"])}, await romeo.contacts()
    vcard = await romeo.ask("get", "<vCard xmlns='vcard-temp'/>")
    assert vcard.findtext("{vcard-temp}FN") == "Romeo M.", canonical(vcard)
    notes = await romeo.ask("get", "<query xmlns='jabber:iq:private'><notes xmlns='urn:test:notes'/></query>")
    assert notes.findtext("{urn:test:notes}notes") == "a & b", canonical(notes)
    blocked = await romeo.ask("get", "<blocklist xmlns='urn:xmpp:blocking'/>")
    assert [item.get("jid") for item in blocked] == ["spam.example"], canonical(blocked)


async def leave_waiting(romeo):
    """A message and a request for juliet, who is away."""
    romeo.send_presence(pto="juliet@localhost", ptype="subscribe")
    romeo.send_message("juliet@localhost", "first", mtype="chat")
    await romeo.ask("get", "<query xmlns='jabber:iq:roster'/>")


async def same_wait(new):
    juliet = Resident(new, "juliet", peer_password)
    await juliet.arrive()
    await juliet.message("first")
    await juliet.presence("subscribe", "romeo@localhost")
    await juliet.leave()


async def from_ejabberd(check, args):
    """ejabberd writes what it has as documents of XEP-0227, one for each host."""
    world = peers.World()
    try:
        old = peers.Ejabberd(world, "localhost", modules=("mod_private", "mod_privacy", "mod_blocking"))
        old.start()
        await add_users(old, ("romeo", "juliet"))
        romeo = Citizen(old, "romeo")
        await romeo.arrive()
        await fill_data(romeo)
        await leave_waiting(romeo)
        await romeo.leave()
        old.stop()
        out = old.folder / "out"
        out.mkdir()
        command = [*old.command(), "-eval", f"ejabberd_piefxis:export_server(<<\"{out}\">>), init:stop()."]
        subprocess.run(list(map(str, command)), env=old.environment(), cwd=old.folder, check=True, timeout=60,
                       stdin=subprocess.DEVNULL, capture_output=True)
        with server.Couplet(args.binary) as new:
            async with check("what ejabberd exports is taken"):
                everything_taken(new, "xep0227", out)
            async with check("and comes out again as it went in"):
                for name in ("a.xml", "b.xml"):
                    made = couplet(new, "export", new.folder / name)
                    assert made.returncode == 0, made.stderr
                    again = couplet(new, "import", "xep0227", new.folder / name, "--replace")
                    assert again.returncode == 0, again.stderr
                assert (new.folder / "a.xml").read_text() == (new.folder / "b.xml").read_text()
            await start(new)
            async with check("the same password of ejabberd logs in"):
                romeo = Resident(new, "romeo", peer_password)
                await romeo.arrive()
            async with check("the same contacts, vCard, private storage and blocked addresses"):
                await same_data(romeo)
                await romeo.leave()
            async with check("the same message and request wait"):
                await same_wait(new)
    finally:
        world.close()


def couplet(new, *words):
    return subprocess.run([new.binary, *map(str, words)], env=new.environment(), cwd=new.folder, timeout=60,
                          capture_output=True, text=True)


def everything_taken(new, *words):
    moved = couplet(new, "import", *words)
    assert moved.returncode == 0, f"{moved.stdout}{moved.stderr}"
    print("\n".join(f"# {line}" for line in moved.stdout.splitlines()))


def nothing_taken(new, *words):
    again = couplet(new, "import", *words)
    counts = [line.split()[-5:] for line in again.stdout.splitlines()[1:] if not line.startswith("skipped")]
    assert again.returncode == 0 and counts, f"{again.stdout}{again.stderr}"
    assert all(row[0] == row[3] == row[4] == "0" for row in counts), again.stdout


def disable(old, user):
    """As newer versions of Prosody do it; that of Debian 12 does not know it yet."""
    file = old.folder / f"data/localhost/accounts/{user}.dat"
    if file.exists():
        file.write_text(file.read_text().replace("return {", "return { disabled = true;", 1))
        return
    with sqlite3.connect(old.folder / "data/prosody.sqlite") as made:
        made.execute("INSERT INTO prosody (host, user, store, key, type, value) VALUES (?, ?, ?, ?, ?, ?)",
                     ("localhost", user, "accounts", "disabled", "boolean", "true"))
    made.close()


async def turned_away(user):
    """That it cannot log in."""
    try:
        await user.login()
    except Refused as why:
        assert str(why) == "not-authorized", why
        return
    raise AssertionError("it logs in")


async def run(check, args):
    with Prosody(args.storage) as old, server.Couplet(args.binary) as new:
        old.start()
        for user in USERS:
            old.add_user(user, PASSWORD)
        await fill(old)
        before = await look(old)
        # Debian's Prosody keeps in SQL what is false, and does not find it there.
        before["preferences of the archive"] = PREFERRED
        old.add_user(BANNED, PASSWORD)
        old.stop()
        disable(old, BANNED)
        # In SQL, the folder has nothing but the file.
        source = old.folder / "data"
        async with check("a dry run takes nothing"):
            tried = couplet(new, "import", "prosody", source, "--dry-run")
            assert tried.returncode == 0 and "would be taken" in tried.stdout, tried
            assert not list(new.folder.rglob("couplet.redb")), "it has made a store"
        async with check("the import takes everything"):
            everything_taken(new, "prosody", "--config", old.config)
        async with check("and the second time nothing"):
            nothing_taken(new, "prosody", source)
        async with check("its configuration becomes one of ours"):
            converted = couplet(new, "config", "convert", old.config)
            assert converted.returncode == 0 and 'hosts = ["localhost"]' in converted.stdout, converted
            (new.folder / "converted.toml").write_text(converted.stdout)
            shown = couplet(new, "config", "show", "--config", new.folder / "converted.toml")
            assert shown.returncode == 0, shown.stderr
        await start(new)
        async with check("an import into a running server is refused"):
            refused = couplet(new, "import", "prosody", source)
            assert refused.returncode == 1 and "stop it" in refused.stderr, refused
        for user in USERS:
            async with check(f"the same password logs {user} in, by SCRAM-SHA-1"):
                args_of = SimpleNamespace(host="127.0.0.1", starttls=new.starttls_port, tls=new.tls_port,
                                          ca=new.certificate)
                peer = Peer(args_of, user, PASSWORD, "x", mechanism="SCRAM-SHA-1")
                await peer.login()
                await peer.leave()
        async with check("who is disabled there does not log in"):
            await turned_away(Resident(new, BANNED))
        for user in ("romeo", "juliet"):
            async with check(f"a client of {user} need not load the roster again"):
                assert await unchanged(new, user, before[f"version {user}"])
        after = await look(new)
        for what, value in before.items():
            if not what.startswith("version"):
                async with check(f"the same {what}"):
                    assert value or "archive" not in what, "there is nothing in it"
                    assert after.get(what) == value, f"{value!r} has become {after.get(what)!r}"
        async with check("what has waited for the nurse waits here"):
            bodies, stamped, asked = await offline(new)
            assert (bodies, stamped, asked) == (["first", "second"], True, "romeo@localhost"), (bodies, stamped, asked)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--source", choices=("prosody", "ejabberd"), default="prosody")
    parser.add_argument("--storage", choices=("internal", "sql"), default="internal")
    args = parser.parse_args()
    checks = Checks()
    if args.source == "ejabberd" and args.storage == "sql":
        for schema in ("lite.sql", "lite.new.sql"):
            await from_ejabberd_sql(checks, args, schema)
    elif args.source == "ejabberd":
        await from_ejabberd(checks, args)
    else:
        await run(checks, args)
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    asyncio.run(main())
