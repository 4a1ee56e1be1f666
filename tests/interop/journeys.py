"""slixmpp through whole journeys: rooms, nodes, cut connections, a restart of the server.

Usage: journeys.py --host H --starttls P --tls P --ca FILE --user A --peer B --odd U --password W

Prints one line for each check, as slix.py does. Prints `ready` when the server shall be stopped and started again, and
goes on when its standard input ends. U is no contact of A.
"""

import asyncio
import base64
import hashlib
import sys

from slixmpp import JID
from slixmpp.exceptions import IqError
from slixmpp.xmlstream import ET

from slix import DOMAIN, WAIT_S, Peer, carbon, options, perform

ROOMS, NEWS = f"conference.{DOMAIN}", f"pubsub.{DOMAIN}"
DEVICES, BUNDLES = "eu.siacs.conversations.axolotl.devicelist", "eu.siacs.conversations.axolotl.bundles:1"
AVATAR = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PLUGINS = ("xep_0045", "xep_0060", "xep_0084", "xep_0115", "xep_0163", "xep_0377", "xep_0402", "xep_0410")


class Traveller(Peer):
    """A peer with what a client of today has, and stream management where it is asked for."""

    def __init__(self, args, user, resource, *, managed=False, interests=(), **how):
        password = args.odd_password if user == args.odd and args.odd_password else args.password
        super().__init__(args, user, password, resource, **how)
        for plugin in (*PLUGINS, *(("xep_0198",) if managed else ())):
            self.register_plugin(plugin)
        self.interests = interests
        self.resumed = asyncio.Event()
        self.add_event_handler("session_resumed", lambda _: self.resumed.set())
        self.add_event_handler("sm_failed", lambda failed: print(f"# {failed}", flush=True))

    async def login(self):
        await super().login()
        for node in self.interests:
            self.plugin["xep_0163"].add_interest(node)
        await self.plugin["xep_0115"].update_caps(broadcast=False)
        return self

    async def cut(self):
        """The connection is gone without a word."""
        gone = asyncio.get_running_loop().create_future()
        self.add_event_handler("disconnected", lambda _: gone.done() or gone.set_result(True), disposable=True)
        self.transport.abort()
        await asyncio.wait_for(gone, WAIT_S)

    async def resume(self):
        self.resumed.clear()
        self.connect(*self.server_address())
        await asyncio.wait_for(self.resumed.wait(), WAIT_S)

    async def pushed(self, node, since=0):
        """The item that is pushed for a node."""
        event = "{http://jabber.org/protocol/pubsub#event}"
        stanza = await self.until(
            lambda s: s.name == "message" and any(i.get("node") == node for i in s.xml.iter(f"{event}items")),
            f"an item of {node}", since)
        return stanza.xml.find(f".//{event}item")

    def bodies(self, since=0):
        return [s["body"] for s in self.seen[since:] if s.name == "message" and s["body"]]


async def rooms(check, args, romeo, juliet):
    muc, room = romeo.plugin["xep_0045"], JID(f"balcony@{ROOMS}")
    other = juliet.plugin["xep_0045"]
    async with check("a room: created, configured, found by service discovery"):
        presence, *_ = await muc.join_muc_wait(room, "romeo", maxstanzas=20, timeout=WAIT_S)
        assert 201 in presence["muc"]["status_codes"], presence
        form = romeo.plugin["xep_0004"].make_form("submit")
        form.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/muc#roomconfig")
        form.add_field("muc#roomconfig_roomname", value="The balcony")
        form.add_field("muc#roomconfig_persistentroom", value="1")
        await muc.set_room_config(room, form, timeout=WAIT_S)
        found = await romeo.plugin["xep_0030"].get_items(jid=ROOMS, local=False, timeout=WAIT_S)
        assert any(JID(item[0]) == room for item in found["disco_items"]["items"]), found
    async with check("a room: history in order, with its time; then the subject"):
        muc.set_subject(room, "By yonder moon")
        for at in range(5):
            romeo.send_message(mto=room, mbody=f"soft {at}", mtype="groupchat")
        await romeo.message("soft 4")
        _, subject, occupants, history = await other.join_muc_wait(room, "juliet", maxstanzas=3, timeout=WAIT_S)
        # What has no delay of the room is not history for slixmpp.
        assert [s["body"] for s in history] == ["soft 2", "soft 3", "soft 4"], history
        assert subject["subject"] == "By yonder moon", subject
        assert "romeo" in [p["muc"]["nick"] for p in occupants], occupants
    async with check("a room: chat both ways in order, and a private message"):
        since = len(romeo.seen), len(juliet.seen)
        for at in range(20):
            juliet.send_message(mto=room, mbody=f"wherefore {at} ♥", mtype="groupchat")
        for one, start in zip((romeo, juliet), since):
            await one.message("wherefore 19 ♥", start)
            assert one.bodies(start) == [f"wherefore {at} ♥" for at in range(20)], one.bodies(start)
        romeo.send_message(mto=JID(f"{room}/juliet"), mbody="psst", mtype="chat")
        heard = await juliet.message("psst")
        assert heard["from"] == JID(f"{room}/romeo"), heard["from"]
    async with check("a room: affiliations and roles"):
        since = len(juliet.seen)
        await muc.set_affiliation(room, "member", jid=juliet.boundjid.bare, timeout=WAIT_S)
        await juliet.until(lambda s: s.name == "presence" and s["from"] == JID(f"{room}/juliet")
                           and s["muc"]["affiliation"] == "member", "membership", since)
        members = await muc.get_affiliation_list(room, "member", timeout=WAIT_S)
        assert [str(member) for member in members] == [juliet.boundjid.bare], members
        try:
            await other.set_affiliation(room, "owner", jid=juliet.boundjid.bare, timeout=WAIT_S)
        except IqError as error:
            assert error.condition == "forbidden", error.condition
        else:
            raise AssertionError("a member has made herself an owner")
        await muc.set_role(room, "juliet", "moderator", timeout=WAIT_S)
        await juliet.until(lambda s: s.name == "presence" and s["muc"]["role"] == "moderator", "the role", since)
    async with check("a room: another nick, a ping to oneself, kicked and banned"):
        since = len(romeo.seen)
        await other.set_self_nick(room, "capulet", timeout=WAIT_S)
        await romeo.until(lambda s: s.name == "presence" and s["from"] == JID(f"{room}/capulet"), "the nick", since)
        await juliet.plugin["xep_0199"].send_ping(JID(f"{room}/capulet"), timeout=WAIT_S)
        await muc.set_affiliation(room, "outcast", jid=juliet.boundjid.bare, timeout=WAIT_S)
        await juliet.until(lambda s: s.name == "presence" and s["type"] == "unavailable"
                           and 301 in s["muc"]["status_codes"], "the ban")
        try:
            await other.join_muc_wait(room, "juliet", timeout=WAIT_S)
        except Exception as error:  # slixmpp has classes of its own for this
            assert "forbidden" in str(getattr(error, "condition", error)) or "forbidden" in repr(error), repr(error)
        else:
            raise AssertionError("an outcast is in")
        await muc.set_affiliation(room, "none", jid=juliet.boundjid.bare, timeout=WAIT_S)
    async with check("a room: an invitation is passed on"):
        muc.invite(room, juliet.boundjid.bare, reason="Come back")
        invited = await juliet.until(lambda s: s.name == "message" and s["from"].bare == room and s.xml.find(
            "{http://jabber.org/protocol/muc#user}x/{http://jabber.org/protocol/muc#user}invite") is not None, "it")
        assert invited, invited
        await other.join_muc_wait(room, "juliet", timeout=WAIT_S)


async def nodes(check, args, romeo, juliet):
    pubsub = romeo.plugin["xep_0060"]
    async with check("avatar: published once, in the contact's notifications, its vCard and presence"):
        digest, since = hashlib.sha1(AVATAR).hexdigest(), len(juliet.seen)
        await romeo.plugin["xep_0084"].publish_avatar(AVATAR, timeout=WAIT_S)
        await romeo.plugin["xep_0084"].publish_avatar_metadata(
            items=[{"id": digest, "type": "image/png", "bytes": str(len(AVATAR))}], timeout=WAIT_S)
        item = await juliet.pushed("urn:xmpp:avatar:metadata", since)
        assert item.get("id") == digest, ET.tostring(item)
        got = await juliet.plugin["xep_0084"].retrieve_avatar(romeo.boundjid.bare, digest, timeout=WAIT_S)
        assert got["pubsub"]["items"]["item"]["avatar_data"]["value"] == AVATAR, got
        card = await juliet.plugin["xep_0054"].get_vcard(romeo.boundjid.bare, cached=False, timeout=WAIT_S)
        assert card["vcard_temp"]["PHOTO"]["BINVAL"] == AVATAR, card
        romeo.send_presence()
        await juliet.until(lambda s: s.name == "presence" and s["from"] == romeo.boundjid
                           and s.xml.findtext("{vcard-temp:x:update}x/{vcard-temp:x:update}photo") == digest,
                           "the hash in presence", since)
    async with check("bookmarks: kept, pushed to another resource, seen as private storage too"):
        tablet = await Traveller(args, args.user, "tablet", direct=True,
                                 interests=["urn:xmpp:bookmarks:1"]).arrive()
        since = len(tablet.seen)
        conference = ET.fromstring("<conference xmlns='urn:xmpp:bookmarks:1' name='Balcony' autojoin='true'>"
                                   "<nick>romeo</nick></conference>")
        await pubsub.publish(romeo.boundjid.bare, "urn:xmpp:bookmarks:1", id=f"balcony@{ROOMS}",
                             payload=conference, timeout=WAIT_S)
        item = await tablet.pushed("urn:xmpp:bookmarks:1", since)
        assert item.get("id") == f"balcony@{ROOMS}", ET.tostring(item)
        ask = ET.fromstring("<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>")
        answer = await tablet.make_iq(itype="get").append(ask).send(timeout=WAIT_S)
        old = answer.xml.find(".//{storage:bookmarks}conference")
        assert old is not None and old.get("jid") == f"balcony@{ROOMS}", answer
        await tablet.leave()
    async with check("keys as of OMEMO: open to strangers, one item, and a contact hears of devices"):
        since = len(juliet.seen)
        for node, text in ((DEVICES, "<list xmlns='eu.siacs.conversations.axolotl'><device id='1'/></list>"),
                           (BUNDLES, "<bundle xmlns='eu.siacs.conversations.axolotl'/>")):
            options = romeo.plugin["xep_0004"].make_form("submit")
            options.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/pubsub#publish-options")
            options.add_field("pubsub#access_model", value="open")
            await pubsub.publish(romeo.boundjid.bare, node, id="current", payload=ET.fromstring(text),
                                 options=options, timeout=WAIT_S)
        await juliet.pushed(DEVICES, since)
        stranger = await Traveller(args, args.odd, "street").arrive()
        found = await stranger.plugin["xep_0060"].get_items(romeo.boundjid.bare, BUNDLES, timeout=WAIT_S)
        assert [i["id"] for i in found["pubsub"]["items"]] == ["current"], found
        try:
            await stranger.plugin["xep_0060"].get_items(romeo.boundjid.bare, "urn:xmpp:avatar:data", timeout=WAIT_S)
        except IqError as error:
            assert error.condition in ("not-authorized", "forbidden"), error.condition
        else:
            raise AssertionError("a stranger has read what contacts may read")
        await stranger.leave()


async def service(check, args, romeo, juliet):
    """Nodes of nobody's account."""
    pubsub, other = romeo.plugin["xep_0060"], juliet.plugin["xep_0060"]
    reader = juliet.boundjid.bare

    def entry(title):
        return ET.fromstring(f"<entry xmlns='http://www.w3.org/2005/Atom'><title>{title}</title></entry>")

    async with check("a publish-subscribe service: found, and a node created there and configured"):
        info = await romeo.plugin["xep_0030"].get_info(NEWS, timeout=WAIT_S)
        assert ("pubsub", "service") in {identity[:2] for identity in info["disco_info"]["identities"]}, info
        form = romeo.plugin["xep_0004"].make_form("submit")
        form.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/pubsub#node_config")
        form.add_field("pubsub#title", value="News of the Capulets")
        await pubsub.create_node(NEWS, "news", config=form, timeout=WAIT_S)
        config = await pubsub.get_node_config(NEWS, "news", timeout=WAIT_S)
        assert config["pubsub_owner"]["configure"]["form"]["values"]["pubsub#title"] == "News of the Capulets", config
        listed = await juliet.plugin["xep_0030"].get_items(NEWS, timeout=WAIT_S)
        nodes_there = {tuple(item) for item in listed["disco_items"]["items"]}
        assert (NEWS, "news", "News of the Capulets") in nodes_there, listed
    async with check("a publish-subscribe service: a subscriber is told what is published and what is taken back"):
        got = await other.subscribe(NEWS, "news", subscribee=reader, timeout=WAIT_S)
        assert got["pubsub"]["subscription"]["subscription"] == "subscribed", got
        since = len(juliet.seen)
        await pubsub.publish(NEWS, "news", id="one", payload=entry("A ball tonight"), timeout=WAIT_S)
        item = await juliet.pushed("news", since)
        assert item.get("id") == "one" and "A ball tonight" in ET.tostring(item, encoding="unicode"), item
        since = len(juliet.seen)
        await pubsub.retract(NEWS, "news", "one", notify=True, timeout=WAIT_S)
        await juliet.until(lambda s: s.name == "message" and any(
            i.get("id") == "one" for i in s.xml.iter("{http://jabber.org/protocol/pubsub#event}retract")),
            "a retraction", since)
    async with check("a publish-subscribe service: items are read, by others too, and others do not publish"):
        for n in range(3):
            await pubsub.publish(NEWS, "news", id=f"n{n}", payload=entry(f"News {n}"), timeout=WAIT_S)
        found = await other.get_items(NEWS, "news", max_items=2, timeout=WAIT_S)
        assert [i["id"] for i in found["pubsub"]["items"]] == ["n1", "n2"], found
        try:
            await other.publish(NEWS, "news", payload=entry("Mine"), timeout=WAIT_S)
        except IqError as error:
            assert error.condition == "forbidden", error.condition
        else:
            raise AssertionError("a reader has published")
        mine = await other.get_subscriptions(NEWS, timeout=WAIT_S)
        assert [s["node"] for s in mine["pubsub"]["subscriptions"]] == ["news"], mine
    async with check("a publish-subscribe service: an owner allows a subscription"):
        form = romeo.plugin["xep_0004"].make_form("submit")
        form.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/pubsub#node_config")
        form.add_field("pubsub#access_model", value="authorize")
        await pubsub.create_node(NEWS, "secrets", config=form, timeout=WAIT_S)
        since, at_juliet = len(romeo.seen), len(juliet.seen)
        got = await other.subscribe(NEWS, "secrets", subscribee=reader, timeout=WAIT_S)
        assert got["pubsub"]["subscription"]["subscription"] == "pending", got
        asked = await romeo.until(lambda s: s.name == "message" and s["from"] == NEWS and s["form"]["values"].get(
            "pubsub#subscriber_jid") == reader, "a request", since)
        answer = romeo.make_message(NEWS)
        answer["id"], answer["form"]["type"] = asked["id"], "submit"
        answer["form"].add_field("FORM_TYPE", "hidden",
                                 value="http://jabber.org/protocol/pubsub#subscribe_authorization")
        for field, value in (("node", "secrets"), ("subscriber_jid", reader), ("allow", "true")):
            answer["form"].add_field(f"pubsub#{field}", value=value)
        answer.send()
        await juliet.until(lambda s: s.name == "message" and any(
            i.get("subscription") == "subscribed" and i.get("node") == "secrets"
            for i in s.xml.iter("{http://jabber.org/protocol/pubsub#event}subscription")), "permission", at_juliet)
    async with check("a publish-subscribe service: unsubscribed, and the node deleted"):
        await other.unsubscribe(NEWS, "news", subscribee=reader, timeout=WAIT_S)
        for node in ("news", "secrets"):
            await pubsub.delete_node(NEWS, node, timeout=WAIT_S)
        listed = await juliet.plugin["xep_0030"].get_items(NEWS, timeout=WAIT_S)
        assert not listed["disco_items"]["items"], listed


async def blocking(check, args, romeo, juliet):
    async with check("a block with a report is a block"):
        await juliet.plugin["xep_0377"].report(
            JID("tybalt@verona.example"), reason="spam", timeout=WAIT_S)
        blocked = await juliet.plugin["xep_0191"].get_blocked_jids()
        assert "tybalt@verona.example" in blocked, blocked


async def cuts(check, args, juliet):
    romeo = await Traveller(args, args.user, "phone", managed=True).arrive()
    room = JID(f"orchard@{ROOMS}")
    await romeo.plugin["xep_0045"].join_muc_wait(room, "romeo", timeout=WAIT_S)
    await romeo.plugin["xep_0280"].enable()
    async with check("a cut connection is resumed: nothing lost, nothing twice, no presence in between"):
        since = len(romeo.seen), len(juliet.seen)
        await romeo.cut()
        for at in range(10):
            juliet.send_message(mto=romeo.boundjid, mbody=f"in the tunnel {at}", mtype="chat")
        await juliet.fence()
        await romeo.resume()
        romeo.send_message(mto=juliet.boundjid, mbody="and out", mtype="chat")
        await juliet.message("and out", since[1])
        await romeo.message("in the tunnel 9", since[0])
        assert romeo.bodies(since[0]) == [f"in the tunnel {at}" for at in range(10)], romeo.bodies(since[0])
        gone = [s for s in juliet.seen[since[1]:] if s.name == "presence" and s["from"] == romeo.boundjid]
        assert not gone, gone
    async with check("carbons still arrive after a resumption, and the room is still there"):
        since = len(romeo.seen)
        desk = await Traveller(args, args.user, "desk").arrive()
        juliet.send_message(mto=desk.boundjid, mbody="for the desk", mtype="chat")
        await romeo.until(lambda s: carbon(s, "received") == "for the desk", "a carbon", since)
        romeo.send_message(mto=room, mbody="still here", mtype="groupchat")
        await romeo.message("still here", since)
        await desk.leave()
    async with check("a session outlives a restart of the server, its room and carbons with it"):
        await juliet.leave()
        since = len(romeo.seen)
        await romeo.cut()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        juliet = await Traveller(args, args.peer, "balcony").arrive()
        juliet.send_message(mto=romeo.boundjid, mbody="after the storm", mtype="chat")
        await juliet.fence()
        await romeo.resume()
        await romeo.message("after the storm", since)
        romeo.send_message(mto=room, mbody="and here again", mtype="groupchat")
        await romeo.message("and here again", since)
        assert romeo.bodies(since).count("after the storm") == 1, romeo.bodies(since)
    async with check("what a session leaves that is never resumed goes to the account's next"):
        await romeo.cut()
        juliet.send_message(mto=romeo.boundjid.bare, mbody="where are you?", mtype="chat")
        await juliet.fence()
        other = await Traveller(args, args.user, "phone", managed=True).arrive()
        await other.message("where are you?")
        await other.leave()
    await juliet.leave()


async def befriend(one, two):
    for a, b in ((one, two), (two, one)):
        a.send_presence_subscription(pto=b.boundjid.bare)
        await b.presence("subscribe", a.boundjid.bare)
        b.send_presence_subscription(pto=a.boundjid.bare, ptype="subscribed")
        await a.presence("subscribed", b.boundjid.bare)
    await one.presence("available", two.boundjid.bare)


async def journeys(check, args):
    romeo = await Traveller(args, args.user, "orchard").arrive()
    interests = ["urn:xmpp:avatar:metadata", DEVICES]
    juliet = await Traveller(args, args.peer, "balcony", direct=True, interests=interests).arrive()
    await befriend(romeo, juliet)
    await rooms(check, args, romeo, juliet)
    await nodes(check, args, romeo, juliet)
    await service(check, args, romeo, juliet)
    await blocking(check, args, romeo, juliet)
    await romeo.leave()
    await cuts(check, args, juliet)


if __name__ == "__main__":
    perform(journeys, options("odd", "odd-password").parse_args())
