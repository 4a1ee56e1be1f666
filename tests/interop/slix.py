"""slixmpp against a running server: logins, contacts, chat, presence, offline messages, and the IQs of the house.

Usage: slix.py checks --host H --starttls P --tls P --ca FILE --user A --peer B --odd U --password W [--binding V=T]...
       slix.py partner ...   answers for PEER until it is told `farewell`: the other side of another library's check
       slix.py offline ...   logs in as PEER and expects the message that the other library left

Prints one line for each check: `ok NAME`, `not ok NAME: why`, `skip NAME: why`. Exit code 0 if none failed.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import logging
import ssl
import sys
import urllib.error
import urllib.request

import slixmpp
from slixmpp.exceptions import IqError
from slixmpp.util.sasl.mechanisms import SCRAM
from slixmpp.xmlstream import ET
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from watcher import WAIT_S, Watcher

DOMAIN = "localhost"
CHATS = 50


class Refused(Exception):
    """The login was refused; the argument is the SASL condition."""


class Peer(Watcher):
    """A user of the server, who logs in as the check wants it."""

    def __init__(self, args, user, password, resource, *, direct=False, mechanism=None, tls=None, binding=None):
        super().__init__(f"{user}@{DOMAIN}/{resource}", password)
        self.args, self.direct, self.binding = args, direct, binding
        self.last_refusal = None
        self.enable_direct_tls, self.enable_starttls = direct, not direct
        self.ssl_context = ssl.create_default_context(cafile=args.ca)
        if direct:
            self.ssl_context.set_alpn_protocols(["xmpp-client"])
        if tls:
            self.ssl_context.minimum_version = self.ssl_context.maximum_version = tls
        for plugin in ("xep_0030", "xep_0049", "xep_0054", "xep_0092", "xep_0191", "xep_0199", "xep_0202", "xep_0280"):
            self.register_plugin(plugin)
        if mechanism:
            self.plugin["feature_mechanisms"].use_mech = mechanism
        if binding:
            self.plugin["feature_mechanisms"].sasl_callback = self.credentials_with_binding
        self.add_event_handler("failed_auth", self.refused)
        self.add_event_handler("failed_all_auth", lambda _: self.settle(Refused(self.last_refusal)))
        self.add_event_handler("connection_failed", lambda why: self.settle(OSError(f"connection failed: {why}")))

    def refused(self, failure):
        self.last_refusal = failure["condition"]

    def credentials_with_binding(self, required, optional):
        """Python's ssl module cannot export keying material, but tls-server-end-point needs only the certificate."""
        found = self.plugin["feature_mechanisms"]._default_credentials(required, optional)
        if self.binding == "tls-server-end-point":
            found["channel_binding"] = hashlib.sha256(self.socket.getpeercert(True)).digest()
        return found

    def server_address(self):
        return self.args.host, self.args.tls if self.direct else self.args.starttls

    async def fence(self):
        """Returns when the server has handled all that this client sent before."""
        await self.plugin["xep_0199"].send_ping(DOMAIN, timeout=WAIT_S)

    async def contacts(self):
        """The whole roster, asked for without a version: JID -> (subscription, name, groups)."""
        answer = await self.make_iq_get(queryxmlns="jabber:iq:roster").send(timeout=WAIT_S)
        return {item.get("jid"): (item.get("subscription"), item.get("name"), [group.text for group in item])
                for item in answer.xml.iter("{jabber:iq:roster}item")}

    async def presence(self, kind, sender, since=0):
        return await self.until(
            lambda s: s.name == "presence" and s["type"] == kind and s["from"].bare == sender,
            f"presence {kind} from {sender}", since)


class BoundScram:
    """Makes slixmpp's SCRAM name the test's binding type; by itself it knows tls-unique and tls-exporter."""

    def __init__(self, binding):
        self.binding, self.original = binding, SCRAM.process_1

    def __enter__(self):
        if self.binding == "tls-server-end-point":
            def process_1(mech, challenge):
                message = self.original(mech, challenge)
                if not mech.use_channel_binding:
                    return message
                mech.gs2_header = b"p=tls-server-end-point,,"
                return mech.gs2_header + mech.client_first_message_bare
            SCRAM.process_1 = process_1

    def __exit__(self, *_):
        SCRAM.process_1 = self.original


async def logins(check, args):
    mechanisms = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
    for direct in (False, True):
        over = "direct TLS" if direct else "STARTTLS"
        for mechanism in mechanisms:
            async with check(f"login {mechanism} over {over}"):
                await login_once(args, args.user, args.password, mechanism, direct=direct)
        for version, binding in args.bindings:
            for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
                async with check(f"login {mechanism} ({binding}, {version}) over {over}"):
                    await login_once(args, args.user, args.password, mechanism, direct=direct,
                                     tls=ssl.TLSVersion[version.replace(".", "_")], binding=binding)
    async with check("login without a wish for a mechanism"):
        await login_once(args, args.user, args.password, None)
    async with check("login of a user whose name SCRAM has to escape"):
        await login_once(args, args.odd, args.password, "SCRAM-SHA-256")
    for mechanism in mechanisms:
        async with check(f"wrong password refused with {mechanism}"):
            await expect_refusal(args, args.user, args.password + "x", mechanism)
        async with check(f"unknown user refused with {mechanism}"):
            await expect_refusal(args, "nobody", args.password, mechanism)
    for version, binding in args.bindings:
        async with check(f"wrong channel binding refused ({binding}, {version})"):
            await expect_refusal(args, args.user, args.password, "SCRAM-SHA-256-PLUS", spoil_binding=True,
                                 tls=ssl.TLSVersion[version.replace(".", "_")], binding=binding)
    async with check("a certificate that the client does not trust ends the login"):
        stranger = Peer(args, args.user, args.password, "stranger")
        stranger.ssl_context = ssl.create_default_context()
        try:
            await stranger.login()
        except OSError:
            stranger.cancel_connection_attempt()
        else:
            raise AssertionError("the handshake succeeded")


async def login_once(args, user, password, mechanism, **how):
    with BoundScram(how.get("binding")):
        peer = Peer(args, user, password, "login", mechanism=mechanism, **how)
        await peer.login()
        used = peer.plugin["feature_mechanisms"].mech.name
        version = peer.socket.version()
        assert mechanism in (None, used), f"{used} was used"
        assert peer.boundjid.bare == f"{user}@{DOMAIN}", f"bound as {peer.boundjid}"
        assert "tls" not in how or how["tls"] is None or version == how["tls"].name.replace("_", "."), version
        await peer.leave()


async def expect_refusal(args, user, password, mechanism, spoil_binding=False, **how):
    with BoundScram(how.get("binding")):
        peer = Peer(args, user, password, "refused", mechanism=mechanism, **how)
        if spoil_binding:
            honest = peer.credentials_with_binding
            def spoiled(required, optional):
                found = honest(required, optional)
                if found.get("channel_binding"):
                    found["channel_binding"] = bytes(len(found["channel_binding"]))
                return found
            peer.plugin["feature_mechanisms"].sasl_callback = spoiled
        try:
            await peer.login()
        except Refused as refusal:
            wanted = ("not-authorized", "malformed-request") if spoil_binding else ("not-authorized",)
            assert str(refusal) in wanted, f"refused with {refusal}"
            return
        await peer.leave()
        raise AssertionError("the login succeeded")


async def contacts(check, romeo, juliet):
    """Both add each other by hand; then each has the other with subscription both and sees the other's presence."""
    async with check("add each other: both subscriptions, roster pushes, presence"):
        for one, other in ((romeo, juliet), (juliet, romeo)):
            await one.update_roster(other.boundjid.bare, name=other.boundjid.user.title(), groups=["Verona"])
            one.send_presence_subscription(pto=other.boundjid.bare)
            await other.presence("subscribe", one.boundjid.bare)
            since = len(one.seen)
            other.send_presence_subscription(pto=one.boundjid.bare, ptype="subscribed")
            await one.presence("subscribed", other.boundjid.bare, since)
            await one.presence("available", other.boundjid.bare, since)
        for one, other in ((romeo, juliet), (juliet, romeo)):
            await one.fence()
            item = (await one.contacts())[other.boundjid.bare]
            assert item == ("both", other.boundjid.user.title(), ["Verona"]), item
    async with check("presence: show and status are seen, and unavailable on leaving"):
        since = len(juliet.seen)
        romeo.send_presence(pshow="dnd", pstatus="fencing", ppriority=5)
        await juliet.until(lambda s: s.name == "presence" and s["from"] == romeo.boundjid and s["show"] == "dnd"
                           and s["status"] == "fencing" and s["priority"] == 5, "romeo's status", since)
        since = len(juliet.seen)
        romeo.send_presence(ptype="unavailable", pstatus="asleep")
        gone = await juliet.presence("unavailable", romeo.boundjid.bare, since)
        assert gone["status"] == "asleep", gone
        since = len(romeo.seen)
        romeo.send_presence()
        await romeo.presence("available", juliet.boundjid.bare, since)


async def chats(check, romeo, juliet):
    async with check(f"{CHATS} messages each way arrive in order"):
        at = len(romeo.seen), len(juliet.seen)
        for number in range(CHATS):
            romeo.send_message(mto=juliet.boundjid, mbody=f"to juliet {number} <&>\"' ♥", mtype="chat")
            juliet.send_message(mto=romeo.boundjid.bare, mbody=f"to romeo {number} <&>\"' ♥", mtype="chat")
        for one, since, name in ((romeo, at[0], "romeo"), (juliet, at[1], "juliet")):
            await one.message(f"to {name} {CHATS - 1} <&>\"' ♥", since)
            bodies = [s["body"] for s in one.seen[since:] if s.name == "message"]
            assert bodies == [f"to {name} {number} <&>\"' ♥" for number in range(CHATS)], bodies


async def offline(check, args, sender):
    async with check("messages to someone offline arrive after login, stamped and in order"):
        for number in range(3):
            sender.send_message(mto=f"{args.peer}@{DOMAIN}", mbody=f"while you slept {number}", mtype="chat")
        await sender.fence()
        peer = await Peer(args, args.peer, args.password, "late", direct=True).login()
        await peer.get_roster()
        peer.send_presence()
        await peer.message("while you slept 2")
        kept = [s for s in peer.seen if s.name == "message" and s["body"]]
        assert [s["body"] for s in kept] == [f"while you slept {n}" for n in range(3)], [s["body"] for s in kept]
        assert all(s.xml.find("{urn:xmpp:delay}delay") is not None for s in kept), "no delay stamp"
        await peer.leave()
        peer = await Peer(args, args.peer, args.password, "later").arrive()
        await peer.fence()
        assert not [s for s in peer.seen if s.name == "message" and s["body"]], "delivered twice"
        await peer.leave()


async def carbons(check, args, romeo, juliet):
    async with check("carbons: another resource gets copies of what is sent and received"):
        second = await Peer(args, args.user, args.password, "second").arrive()
        await second.plugin["xep_0280"].enable()
        await romeo.plugin["xep_0280"].enable()
        since = len(second.seen)
        romeo.send_message(mto=juliet.boundjid, mbody="carbon sent", mtype="chat")
        copy = await second.until(lambda s: carbon(s, "sent") == "carbon sent", "a carbon of a sent message", since)
        assert copy["from"] == romeo.boundjid.bare, copy
        await juliet.message("carbon sent")
        juliet.send_message(mto=romeo.boundjid, mbody="carbon received", mtype="chat")
        await romeo.message("carbon received")
        await second.until(lambda s: carbon(s, "received") == "carbon received",
                           "a carbon of a received message", since)
        await second.leave()


def carbon(stanza, direction):
    """The body of the copy in a carbon; None for any other stanza."""
    return stanza.xml.findtext(f"{{urn:xmpp:carbons:2}}{direction}/{{urn:xmpp:forward:0}}forwarded/"
                               "{jabber:client}message/{jabber:client}body")


async def blocking(check, romeo, juliet):
    async with check("blocking: blocked is unseen, unblocked is seen again"):
        since = len(romeo.seen)
        await juliet.plugin["xep_0191"].block(romeo.boundjid.bare)
        assert romeo.boundjid.bare in await juliet.plugin["xep_0191"].get_blocked_jids()
        await romeo.presence("unavailable", juliet.boundjid.bare, since)
        at = len(romeo.seen), len(juliet.seen)
        romeo.send_message(mto=juliet.boundjid.bare, mbody="can you hear me?", mtype="chat")
        bounce = await romeo.until(lambda s: s.name == "message" and s["type"] == "error", "a bounce", at[0])
        assert bounce["error"]["condition"] == "service-unavailable", bounce
        await juliet.fence()
        assert not [s for s in juliet.seen[at[1]:] if s["from"].bare == romeo.boundjid.bare], "seen while blocked"
        at = len(romeo.seen), len(juliet.seen)
        await juliet.plugin["xep_0191"].unblock(romeo.boundjid.bare)
        await romeo.presence("available", juliet.boundjid.bare, at[0])
        romeo.send_message(mto=juliet.boundjid, mbody="and now?", mtype="chat")
        await juliet.message("and now?", at[1])


async def queries(check, romeo, juliet):
    async with check("ping: server and contact"):
        await romeo.plugin["xep_0199"].send_ping(DOMAIN, timeout=WAIT_S)
        await romeo.plugin["xep_0199"].send_ping(juliet.boundjid, timeout=WAIT_S)
    async with check("disco: identity and features of the server and the account"):
        info = await romeo.plugin["xep_0030"].get_info(jid=DOMAIN, local=False, cached=False, timeout=WAIT_S)
        identities = {(i[0], i[1]) for i in info["disco_info"]["identities"]}
        assert ("server", "im") in identities, identities
        features = set(info["disco_info"]["features"])
        wanted = {"http://jabber.org/protocol/disco#info", "urn:xmpp:carbons:2", "urn:xmpp:blocking", "urn:xmpp:ping",
                  "jabber:iq:version", "urn:xmpp:time", "jabber:iq:private", "vcard-temp", "msgoffline"}
        assert wanted <= features, f"missing: {sorted(wanted - features)}"
        account = await romeo.plugin["xep_0030"].get_info(
            jid=romeo.boundjid.bare, local=False, cached=False, timeout=WAIT_S)
        assert any(i[0] == "account" for i in account["disco_info"]["identities"]), account
        await romeo.plugin["xep_0030"].get_items(jid=DOMAIN, local=False, timeout=WAIT_S)
    async with check("version and time of the server"):
        version = await romeo.plugin["xep_0092"].get_version(DOMAIN, timeout=WAIT_S)
        assert version["software_version"]["name"], version
        time = await romeo.plugin["xep_0202"].get_entity_time(DOMAIN, timeout=WAIT_S)
        utc = time.xml.findtext("{urn:xmpp:time}time/{urn:xmpp:time}utc")
        assert utc and utc.endswith("Z"), time
    async with check("private XML is kept and comes back; foreign private XML is refused"):
        note = ET.fromstring("<storage xmlns='storage:interop'><note>dagger &amp; cup</note></storage>")
        query = romeo.make_iq_set(ET.fromstring("<query xmlns='jabber:iq:private'/>"))
        query.xml[0].append(note)
        await query.send(timeout=WAIT_S)
        ask = ET.fromstring("<query xmlns='jabber:iq:private'><storage xmlns='storage:interop'/></query>")
        answer = await romeo.make_iq(itype="get").append(ask).send(timeout=WAIT_S)
        found = answer.xml.find(".//{storage:interop}note")
        assert found is not None and found.text == "dagger & cup", answer
        try:
            await romeo.make_iq(ito=juliet.boundjid.bare, itype="get").append(ask).send(timeout=WAIT_S)
        except IqError:
            pass
        else:
            raise AssertionError("juliet's private XML was shown to romeo")
    async with check("vcard-temp is published, and others may read it"):
        card = romeo.plugin["xep_0054"].make_vcard()
        card["FN"] = "Romeo Montague"
        await romeo.plugin["xep_0054"].publish_vcard(card, timeout=WAIT_S)
        answer = await juliet.plugin["xep_0054"].get_vcard(romeo.boundjid.bare, cached=False, timeout=WAIT_S)
        assert answer["vcard_temp"]["FN"] == "Romeo Montague", answer
    async with check("an IQ that nobody knows gets service-unavailable"):
        for to in (DOMAIN, romeo.boundjid.bare, f"nobody@{DOMAIN}"):
            try:
                await romeo.make_iq(ito=to, itype="get").append(ET.fromstring("<query xmlns='urn:x'/>")).send(
                    timeout=WAIT_S)
            except IqError as error:
                assert error.condition == "service-unavailable", f"{to}: {error.condition}"
            else:
                raise AssertionError(f"{to} answered")


async def removal(check, romeo, juliet):
    async with check("removing a contact ends both subscriptions"):
        since = len(juliet.seen)
        await romeo.update_roster(juliet.boundjid.bare, subscription="remove")
        await juliet.presence("unsubscribe", romeo.boundjid.bare, since)
        await juliet.presence("unsubscribed", romeo.boundjid.bare, since)
        await juliet.presence("unavailable", romeo.boundjid.bare, since)
        roster = await romeo.contacts()
        assert juliet.boundjid.bare not in roster, roster


async def all_checks(check, args):
    await logins(check, args)
    romeo = await Peer(args, args.user, args.password, "orchard").arrive()
    juliet = await Peer(args, args.peer, args.password, "balcony", direct=True).arrive()
    await contacts(check, romeo, juliet)
    await chats(check, romeo, juliet)
    await queries(check, romeo, juliet)
    await carbons(check, args, romeo, juliet)
    await blocking(check, romeo, juliet)
    await juliet.leave()
    await offline(check, args, romeo)
    juliet = await Peer(args, args.peer, args.password, "balcony").arrive()
    await romeo.presence("available", juliet.boundjid.bare)
    await removal(check, romeo, juliet)
    await romeo.leave()
    await juliet.leave()
    if args.token:
        await registration(check, args)
    if args.component:
        await component(check, args)
    if args.https:
        await endpoints(check, args)


async def endpoints(check, args):
    """An application server brings something for an application on the device (UnifiedPush)."""
    ns = "http://gultsch.de/xmpp/drafts/unified-push"
    phone = await Peer(args, args.user, args.password, "phone").arrive()
    names = {name: base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
             for name in ("application", "instance")}
    got = []

    def take(push):
        got.append(base64.b64decode(push.xml.find(f"{{{ns}}}push").text))
        reply = push.reply(clear=True)
        if got[-1] == b"unknown":
            reply["type"] = "error"
            reply["error"]["condition"] = "item-not-found"
        reply.send()

    phone.register_handler(Callback("push", MatchXPath(f"{{jabber:client}}iq/{{{ns}}}push"), take))
    trust = ssl.create_default_context(cafile=args.ca)

    def bring(endpoint, content):
        request = urllib.request.Request(endpoint, data=content, method="POST", headers={"TTL": "60"})
        try:
            with urllib.request.urlopen(request, context=trust, timeout=WAIT_S) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    async with check("an endpoint for an application: what its server brings comes, and its word is the answer"):
        request = phone.make_iq_set(ito=DOMAIN)
        request.append(ET.Element(f"{{{ns}}}register", names))
        endpoint = (await request.send(timeout=WAIT_S)).xml.find(f"{{{ns}}}registered").get("endpoint")
        content = bytes(range(256)) * 16
        assert await asyncio.to_thread(bring, endpoint, content) == 201
        assert await asyncio.to_thread(bring, endpoint, b"unknown") == 404
        assert await asyncio.to_thread(bring, endpoint, content + b"x") == 413
        assert await asyncio.to_thread(bring, endpoint[:-1], content) == 404
        assert got == [content, b"unknown"], got
        await phone.leave()
        assert await asyncio.to_thread(bring, endpoint, content) == 503


async def component(check, args):
    """A component that echoes, and a user of it."""
    echo = slixmpp.ComponentXMPP(f"echo.{DOMAIN}", args.secret, args.host, args.component)
    started = asyncio.get_running_loop().create_future()
    echo.add_event_handler("session_start", lambda _: started.done() or started.set_result(True))
    echo.add_event_handler("message", lambda m: m.reply(f"echo {m['body']}").send())
    async with check("a component connects (XEP-0114)"):
        echo.connect()
        await asyncio.wait_for(started, WAIT_S)
    async with check("a message to a component and back (XEP-0114)"):
        romeo = await Peer(args, args.user, args.password, "orchard").arrive()
        romeo.send_message(mto=f"anybody@echo.{DOMAIN}", mbody="who is there", mtype="chat")
        await romeo.message("echo who is there")
        await romeo.leave()
    await echo.disconnect()


class Newcomer(Peer):
    """Makes its account with the token of an invitation (XEP-0077, XEP-0445) and goes on to log in."""

    def __init__(self, args, user, password, resource, **how):
        super().__init__(args, user, password, resource, **how)
        self.register_plugin("xep_0077")
        self.form = None
        self.add_event_handler("register", self.make_account)

    async def make_account(self, _form):
        # Before a session, slixmpp keeps back every stanza that it does not know for one of registration.
        self.send_raw(f"<iq type='set' id='shown' to='{DOMAIN}'>"
                      f"<preauth xmlns='urn:xmpp:pars:0' token='{self.args.token}'/></iq>")
        answer = await self.until(lambda s: s.name == "iq" and s["id"] == "shown", "an answer to the token")
        assert answer["type"] == "result", answer
        self.form = (await self.plugin["xep_0077"].get_registration())["register"]
        wanted = self.make_iq_set(ito=DOMAIN)
        wanted["register"]["username"], wanted["register"]["password"] = self.boundjid.user, self.password
        await wanted.send(timeout=WAIT_S)


async def registration(check, args):
    """From the invitation to the end of an account."""
    newcomer = Newcomer(args, "susan", args.password, "new")
    async with check("an account by invitation (XEP-0077, XEP-0445)"):
        await newcomer.arrive()
        assert {"username", "password"} <= set(newcomer.form["fields"]), newcomer.form["fields"]
    async with check("the inviter is a contact of the invited (XEP-0401)"):
        contacts = await newcomer.contacts()
        assert contacts.get(f"{args.user}@{DOMAIN}", [""])[0] == "both", contacts
    async with check("another password (XEP-0077)"):
        await newcomer.plugin["xep_0077"].change_password("another one", jid=DOMAIN)
        await newcomer.leave()
        newcomer = await Newcomer(args, "susan", "another one", "new", mechanism="SCRAM-SHA-256").arrive()
    async with check("the end of an account (XEP-0077)"):
        gone = asyncio.get_running_loop().create_future()
        newcomer.add_event_handler("disconnected", lambda _: gone.done() or gone.set_result(True))
        await newcomer.plugin["xep_0077"].cancel_registration(jid=DOMAIN)
        await asyncio.wait_for(gone, WAIT_S)
        try:
            await Peer(args, "susan", "another one", "late").login()
        except Refused as refused:
            assert str(refused) == "not-authorized", refused
        else:
            raise AssertionError("the account is still there")


async def partner(check, args):
    """Says yes to every subscription and asks for one in return, echoes chat, leaves when told `farewell`."""
    peer = Peer(args, args.peer, args.password, "partner")
    left = asyncio.Event()

    def on_subscribe(presence):
        peer.send_presence_subscription(pto=presence["from"].bare, ptype="subscribed")
        peer.send_presence_subscription(pto=presence["from"].bare)

    def on_message(message):
        if message["type"] != "chat" or not message["body"]:
            return
        peer.send_message(mto=message["from"], mbody=f"echo {message['body']}", mtype="chat")
        if message["body"] == "farewell":
            left.set()

    peer.add_event_handler("presence_subscribe", on_subscribe)
    peer.add_event_handler("message", on_message)
    async with check("slixmpp as the other side"):
        await peer.arrive()
        print("ready", flush=True)
        await asyncio.wait_for(left.wait(), 60)
        await peer.fence()
        await peer.leave()


async def wait_for_offline(check, args):
    """The other library has left a message for PEER."""
    async with check("slixmpp gets the offline message of another library"):
        peer = await Peer(args, args.peer, args.password, "late").arrive()
        kept = await peer.message("see you tomorrow")
        assert kept.xml.find("{urn:xmpp:delay}delay") is not None, "no delay stamp"
        await peer.leave()


class Checks:
    """`async with check(name):` prints how the block went and goes on after a failure."""

    def __init__(self):
        self.failed = 0

    def __call__(self, name):
        self.name = name
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, _trace):
        if kind is None:
            print(f"ok {self.name}", flush=True)
        elif issubclass(kind, Exception):
            self.failed += 1
            why = " ".join(f"{kind.__name__}: {error}".split())[:400]
            print(f"not ok {self.name}: {why}", flush=True)
            return True
        return False


def options(*texts):
    """The command line that all of these programs have, with texts of their own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    for name in ("ca", "user", "peer", "password", *texts):
        parser.add_argument(f"--{name}", default="")
    for name in ("starttls", "tls"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser


def perform(journey, args):
    """Runs it, for at most 150 seconds. Exits 1 if a check has failed."""
    check = Checks()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(asyncio.wait_for(journey(check, args), 150))
    sys.exit(1 if check.failed else 0)


def main():
    parser = options("odd", "token")
    parser.add_argument("mode", choices=("checks", "partner", "offline"))
    parser.add_argument("--component", type=int)
    parser.add_argument("--https", action="store_true", help="the server has HTTP, too")
    parser.add_argument("--secret", default="")
    parser.add_argument("--binding", action="append", default=[], metavar="TLSVERSION=TYPE")
    parser.add_argument("--debug", action="store_true")
    args = parser.parse_args()
    args.bindings = [one.split("=", 1) for one in args.binding]
    logging.basicConfig(level=logging.DEBUG if args.debug else logging.CRITICAL)
    perform({"checks": all_checks, "partner": partner, "offline": wait_for_offline}[args.mode], args)


if __name__ == "__main__":
    main()
