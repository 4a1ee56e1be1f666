// @xmpp/client against a running server: logins, contacts, chat, presence, offline messages.
//
// Usage: node xmppjs.mjs checks|cross --starttls P --tls P --user A --peer B --password W [--exporter]
//   checks  USER and PEER are both clients of this library.
//   websocket  the same over WebSocket (RFC 7395) at --websocket URL.
//   cross   USER is ours, PEER is there already and answers through another library (slix.py partner).
// NODE_EXTRA_CA_CERTS names the server's certificate. Modules are looked up from the working folder.
//
// Prints one line for each check: `ok NAME`, `not ok NAME: why`, `skip NAME: why`. Exit code 0 if none failed.

import crypto from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { DOMAIN, WAIT_MS, assert, check, main, within } from "./checks.mjs";

const resolve = createRequire(process.cwd() + "/").resolve;
const { client, xml } = await import(pathToFileURL(resolve("@xmpp/client")));
// Older versions of node have none of their own.
globalThis.WebSocket ??= (await import(pathToFileURL(resolve("ws")))).default;

const SASL2 = "urn:xmpp:sasl:2";
const CHATS = 50;

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    starttls: { type: "string" },
    tls: { type: "string" },
    user: { type: "string" },
    peer: { type: "string" },
    password: { type: "string" },
    exporter: { type: "boolean", default: false },
    websocket: { type: "string" },
  },
});

// SCRAM of RFC 5802 and RFC 7677, with the channel binding of RFC 9266: the library itself has SCRAM-SHA-1 alone.
// `flag` is the gs2 channel binding flag (n, y, p=tls-exporter), `spoil` binds to other bytes than the connection's.
function scram(name, hash, { flag = "n", spoil = false, tlsSocket }) {
  return class {
    name = name;
    clientFirst = true;

    response({ username, password }) {
      const gs2 = `${flag},,`;
      if (!this.server) {
        this.nonce = crypto.randomBytes(18).toString("base64");
        this.firstBare = `n=${username.replace(/=/g, "=3D").replace(/,/g, "=2C")},r=${this.nonce}`;
        return gs2 + this.firstBare;
      }
      const fields = Object.fromEntries(this.server.split(",").map((part) => [part[0], part.slice(2)]));
      if (!fields.r.startsWith(this.nonce)) throw new Error("the server's nonce does not go on from ours");
      let binding = Buffer.alloc(0);
      if (flag.startsWith("p=")) {
        binding = spoil ? Buffer.alloc(32)
          : tlsSocket().exportKeyingMaterial(32, "EXPORTER-Channel-Binding", Buffer.alloc(0));
      }
      const final = `c=${Buffer.concat([Buffer.from(gs2), binding]).toString("base64")},r=${fields.r}`;
      const bytes = hash === "sha256" ? 32 : 20;
      const salt = Buffer.from(fields.s, "base64");
      const salted = crypto.pbkdf2Sync(password.normalize("NFKC"), salt, +fields.i, bytes, hash);
      const hmac = (key, text) => crypto.createHmac(hash, key).update(text).digest();
      const clientKey = hmac(salted, "Client Key");
      const stored = crypto.createHash(hash).update(clientKey).digest();
      const message = `${this.firstBare},${this.server},${final}`;
      const signature = hmac(stored, message);
      this.verifier = `v=${hmac(hmac(salted, "Server Key"), message).toString("base64")}`;
      return `${final},p=${Buffer.from(clientKey.map((byte, at) => byte ^ signature[at])).toString("base64")}`;
    }

    challenge(text) {
      this.server = text;
    }
  };
}

// A client that remembers every stanza it received and answers no subscription by itself.
class Peer {
  seen = [];
  #waiting = new Set();

  constructor(user, password, resource, { direct = false, web = false, mechanism, flag, spoil, agent, token } = {}) {
    const used = (this.used = {});
    const userAgent = agent && xml("user-agent", { id: agent }, xml("software", {}, "interop"));
    this.client = client({
      service: web ? args.websocket : direct ? `xmpps://${DOMAIN}:${args.tls}` : `xmpp://${DOMAIN}:${args.starttls}`,
      domain: DOMAIN,
      resource,
      timeout: 10_000,
      credentials: async (authenticate, mechanisms) => {
        this.offered = mechanisms;
        if (mechanism && !mechanisms.includes(mechanism)) throw new Error(`${mechanism} is not offered`);
        used.mechanism = mechanism ?? mechanisms[0];
        await authenticate({ username: user, password, token: this.token ?? token }, used.mechanism, userAgent);
      },
    });
    this.client.reconnect.stop();
    const own = { flag, spoil, tlsSocket: () => this.client.socket.socket };
    for (const [name, hash] of [["SCRAM-SHA-256", "sha256"], ["SCRAM-SHA-1", "sha1"]]) {
      const remember = (Class) => class extends Class {
        constructor() {
          super();
          used.mech = this;
        }
      };
      // A wish for a certain flag puts our SCRAM before the library's own.
      const add = flag === undefined ? "push" : "unshift";
      for (const suffix of ["", "-PLUS"]) {
        const flagged = { ...own, flag: flag ?? (suffix ? "p=tls-exporter" : "n") };
        this.client.saslFactory._mechs[add](
          { name: name + suffix, mech: remember(scram(name + suffix, hash, flagged)) });
      }
    }
    this.client.on("error", () => {}); // start() rejects with it
    this.client.on("send", (element) => {
      if (element.is("authenticate", SASL2)) used.sent = element.attrs.mechanism;
    });
    this.client.on("element", (element) => {
      if (element.is("success", SASL2)) used.success = element;
      const data = element.is("success", SASL2) ? element.getChildText("additional-data")
        : element.is("success", "urn:ietf:params:xml:ns:xmpp-sasl") ? element.text() : undefined;
      if (data !== undefined && used.mech && used.sent === used.mechanism) {
        used.signed = Buffer.from(data ?? "", "base64").toString() === used.mech.verifier;
      }
    });
    this.client.fast.saveToken = async (given) => {
      this.token = given;
    };
    this.client.on("stanza", (stanza) => {
      this.seen.push(stanza);
      for (const look of this.#waiting) look();
    });
  }

  get jid() {
    return this.client.jid.toString();
  }

  get bare() {
    return this.client.jid.bare().toString();
  }

  async login() {
    await within(this.client.start(), "the login");
    if (this.used.signed === false) throw new Error("the server's signature is wrong");
    return this;
  }

  async arrive() {
    await this.login();
    await this.contacts();
    this.send(xml("presence"));
    await this.until((s) => s.is("presence") && s.attrs.from === this.jid, "own presence");
    return this;
  }

  // The connection is gone without a word; `again` opens another.
  async drop() {
    const gone = new Promise((done) => this.client.once("disconnect", done));
    const socket = this.client.socket.socket ?? this.client.socket;
    if (socket.terminate) socket.terminate();
    else if (socket.destroy) socket.destroy();
    else socket.close();
    await within(gone, "the end of the connection");
  }

  async again() {
    const { service, domain } = this.client.options;
    const online = new Promise((done, fail) => {
      this.client.streamManagement.once("resumed", () => done("resumed"));
      this.client.once("online", () => done("bound"));
      this.client.once("error", fail);
    });
    await this.client.connect(service);
    await this.client.open({ domain });
    return within(online, "the session");
  }

  leave() {
    return within(this.client.stop(), "the end of the stream");
  }

  send(stanza) {
    return this.client.send(stanza);
  }

  async ask(type, to, payload) {
    return (await this.client.iqCaller.request(xml("iq", { type, to }, payload), WAIT_MS)).getChildElements()[0];
  }

  fence() {
    return this.ask("get", DOMAIN, xml("ping", { xmlns: "urn:xmpp:ping" }));
  }

  async contacts() {
    const query = await this.ask("get", undefined, xml("query", { xmlns: "jabber:iq:roster" }));
    return new Map(query.getChildren("item").map((item) => [item.attrs.jid, item]));
  }

  // The first stanza since position `since` for which `test` holds.
  until(test, what, since = 0) {
    let look;
    const found = new Promise((done) => {
      look = () => {
        const stanza = this.seen.slice(since).find(test);
        if (stanza) done(stanza);
      };
      this.#waiting.add(look);
      look();
    });
    return within(found, what).finally(() => this.#waiting.delete(look));
  }

  presence(type, from, since) {
    const test = (s) => s.is("presence") && s.attrs.type === type && s.attrs.from.split("/")[0] === from;
    return this.until(test, `presence ${type ?? "available"} from ${from}`, since);
  }

  message(body, since) {
    return this.until((s) => s.is("message") && s.getChildText("body") === body, `a message: ${body}`, since);
  }
}

const chat = (to, body) => xml("message", { to, type: "chat" }, xml("body", {}, body));

async function loginOnce(how) {
  const peer = new Peer(args.user, args.password, "login", how);
  await peer.login();
  assert(peer.client.socket.secure, "not encrypted");
  assert(!how.mechanism || peer.used.mechanism === how.mechanism, `${peer.used.mechanism} was used`);
  assert(peer.bare === `${args.user}@${DOMAIN}`, `bound as ${peer.jid}`);
  await peer.leave();
  return peer;
}

async function refused(user, password, how) {
  const peer = new Peer(user, password, "refused", how);
  try {
    await peer.login();
  } catch (error) {
    const wanted = how.flag ? ["not-authorized", "malformed-request"] : ["not-authorized"];
    assert(wanted.includes(error.condition), `refused with ${error}`);
    return;
  } finally {
    await peer.leave().catch(() => {});
  }
  throw new Error("the login succeeded");
}

async function logins() {
  const mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
  if (args.exporter) mechanisms.push("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS");
  for (const direct of [false, true]) {
    for (const mechanism of mechanisms) {
      await check(`login ${mechanism} over ${direct ? "direct TLS" : "STARTTLS"}`, () =>
        loginOnce({ direct, mechanism }));
    }
  }
  await check("login without a wish for a mechanism", () => loginOnce({}));
  for (const mechanism of mechanisms) {
    await check(`wrong password refused with ${mechanism}`, () => refused(args.user, "wrong", { mechanism }));
    await check(`unknown user refused with ${mechanism}`, () => refused("nobody", args.password, { mechanism }));
  }
  if (!args.exporter) {
    console.log("skip channel binding of TLS 1.3: this server does not offer tls-exporter");
    return;
  }
  await check("wrong channel binding refused (tls-exporter)", () =>
    refused(args.user, args.password, { mechanism: "SCRAM-SHA-256-PLUS", flag: "p=tls-exporter", spoil: true }));
  await check("downgrade noticed: a client that could bind and was shown no -PLUS is refused", () =>
    refused(args.user, args.password, { mechanism: "SCRAM-SHA-256", flag: "y" }));
}

// Both add each other; then each has the other with subscription both and sees the other's presence.
async function contacts(romeo, juliet) {
  await check("add each other: both subscriptions, roster pushes, presence", async () => {
    for (const [one, other] of [[romeo, juliet], [juliet, romeo]]) {
      const item = xml("item", { jid: other.bare, name: "the other" }, xml("group", {}, "Verona"));
      await one.ask("set", undefined, xml("query", { xmlns: "jabber:iq:roster" }, item));
      one.send(xml("presence", { to: other.bare, type: "subscribe" }));
      await other.presence("subscribe", one.bare);
      const since = one.seen.length;
      other.send(xml("presence", { to: one.bare, type: "subscribed" }));
      await one.presence("subscribed", other.bare, since);
      await one.presence(undefined, other.bare, since);
    }
    for (const [one, other] of [[romeo, juliet], [juliet, romeo]]) {
      await one.fence();
      const item = (await one.contacts()).get(other.bare);
      assert(item?.attrs.subscription === "both", String(item));
      assert(item.attrs.name === "the other" && item.getChildText("group") === "Verona", String(item));
    }
  });
  await check("presence: show and status are seen", async () => {
    const since = juliet.seen.length;
    romeo.send(xml("presence", {}, xml("show", {}, "away"), xml("status", {}, "in Mantua")));
    const seen = await juliet.presence(undefined, romeo.bare, since);
    assert(seen.getChildText("show") === "away" && seen.getChildText("status") === "in Mantua", String(seen));
  });
}

async function chats(romeo, juliet) {
  await check(`${CHATS} messages each way arrive in order`, async () => {
    const since = [romeo.seen.length, juliet.seen.length];
    for (let at = 0; at < CHATS; at += 1) {
      romeo.send(chat(juliet.jid, `to juliet ${at} <&>"' ♥`));
      juliet.send(chat(romeo.bare, `to romeo ${at} <&>"' ♥`));
    }
    for (const [peer, name, from] of [[romeo, "romeo", since[0]], [juliet, "juliet", since[1]]]) {
      await peer.message(`to ${name} ${CHATS - 1} <&>"' ♥`, from);
      const bodies = peer.seen.slice(from).filter((s) => s.is("message")).map((s) => s.getChildText("body"));
      const wanted = Array.from({ length: CHATS }, (_, at) => `to ${name} ${at} <&>"' ♥`);
      assert(JSON.stringify(bodies) === JSON.stringify(wanted), `${name} got ${JSON.stringify(bodies)}`);
    }
  });
}

async function queries(romeo) {
  await check("disco, version, time, private XML, vcard-temp answer", async () => {
    const info = await romeo.ask("get", DOMAIN, xml("query", { xmlns: "http://jabber.org/protocol/disco#info" }));
    assert(info.getChild("identity")?.attrs.category === "server", String(info));
    const version = await romeo.ask("get", DOMAIN, xml("query", { xmlns: "jabber:iq:version" }));
    assert(version.getChildText("name"), String(version));
    const time = await romeo.ask("get", DOMAIN, xml("time", { xmlns: "urn:xmpp:time" }));
    assert(Math.abs(Date.parse(time.getChildText("utc")) - Date.now()) < 60_000, String(time));
    const notes = (text) => xml("query", { xmlns: "jabber:iq:private" }, xml("notes", { xmlns: "n:js" }, text));
    await romeo.ask("set", undefined, notes("cup & dagger"));
    const kept = await romeo.ask("get", undefined, notes());
    assert(kept.getChildText("notes") === "cup & dagger", String(kept));
    await romeo.ask("set", undefined, xml("vCard", { xmlns: "vcard-temp" }, xml("FN", {}, "Romeo")));
    const card = await romeo.ask("get", undefined, xml("vCard", { xmlns: "vcard-temp" }));
    assert(card.getChildText("FN") === "Romeo", String(card));
  });
}

async function carbons(romeo, juliet) {
  await check("carbons: another resource gets copies of what is sent and received", async () => {
    const second = await new Peer(args.user, args.password, "second").arrive();
    for (const one of [second, romeo]) await one.ask("set", undefined, xml("enable", { xmlns: "urn:xmpp:carbons:2" }));
    const carbon = (direction, body) => second.until((s) => {
      const copy = s.getChild(direction, "urn:xmpp:carbons:2")?.getChild("forwarded")?.getChild("message");
      return copy?.getChildText("body") === body;
    }, `a carbon: ${body}`);
    romeo.send(chat(juliet.jid, "carbon sent"));
    await carbon("sent", "carbon sent");
    await juliet.message("carbon sent");
    juliet.send(chat(romeo.jid, "carbon received"));
    await carbon("received", "carbon received");
    await second.leave();
  });
}

async function rooms(romeo, juliet) {
  const room = `library-of-${args.user}@conference.${DOMAIN}`;
  const enter = (peer, nick) => peer.send(xml("presence", { to: `${room}/${nick}` },
    xml("x", { xmlns: "http://jabber.org/protocol/muc" }, xml("history", { maxstanzas: "2" }))));
  const subject = (s) => s.is("message") && s.attrs.type === "groupchat" && s.getChild("subject");
  await check("a room: made, entered by another, history, lines both ways in order", async () => {
    const since = [romeo.seen.length, juliet.seen.length];
    enter(romeo, "romeo");
    await romeo.until(subject, "the subject", since[0]);
    const form = xml("x", { xmlns: "jabber:x:data", type: "submit" });
    await romeo.ask("set", room, xml("query", { xmlns: "http://jabber.org/protocol/muc#owner" }, form));
    const line = (body) => xml("message", { to: room, type: "groupchat" }, xml("body", {}, body));
    for (const body of ["one", "two", "three"]) romeo.send(line(body));
    await romeo.message("three", since[0]);
    enter(juliet, "juliet");
    await juliet.until(subject, "the subject", since[1]);
    const bodies = () => juliet.seen.slice(since[1]).filter((s) => s.is("message") && s.getChildText("body"));
    assert(bodies().map((s) => s.getChildText("body")).join() === "two,three", `history: ${bodies()}`);
    assert(bodies().every((s) => s.getChild("delay", "urn:xmpp:delay")), "history without its time");
    for (let at = 0; at < 10; at += 1) juliet.send(line(`page ${at} ♥`));
    await romeo.message("page 9 ♥", since[0]);
    await juliet.message("page 9 ♥", since[1]);
    const seat = `${room}/juliet`;
    juliet.send(xml("presence", { to: seat, type: "unavailable" }));
    await romeo.until((s) => s.attrs.from === seat && s.attrs.type === "unavailable", "leaving", since[0]);
  });
}

async function nodes(romeo, juliet) {
  const ns = "http://jabber.org/protocol/pubsub";
  await check("a node: published, read by a contact, withdrawn", async () => {
    const nick = xml("nick", { xmlns: "http://jabber.org/protocol/nick" }, "Monty");
    const item = xml("item", { id: "current" }, nick);
    const node = "http://jabber.org/protocol/nick";
    await romeo.ask("set", undefined, xml("pubsub", { xmlns: ns }, xml("publish", { node }, item)));
    const read = () => juliet.ask("get", romeo.bare, xml("pubsub", { xmlns: ns }, xml("items", { node })));
    const found = (await read()).getChild("items").getChildren("item");
    assert(found.length === 1 && found[0].getChildText("nick") === "Monty", String(found));
    const gone = xml("retract", { node, notify: "true" }, xml("item", { id: "current" }));
    await romeo.ask("set", undefined, xml("pubsub", { xmlns: ns }, gone));
    assert((await read()).getChild("items").getChildren("item").length === 0, "it is still there");
  });
}

async function offline(sender) {
  await check("a message to someone offline arrives after login, stamped", async () => {
    sender.send(chat(`${args.peer}@${DOMAIN}`, "while you slept"));
    await sender.fence();
    const peer = await new Peer(args.peer, args.password, "late", { direct: true }).arrive();
    // Whoever binds by XEP-0386 gets it from the archive, where there is one (section 3.2).
    const bound = peer.used.success?.getChild("bound", "urn:xmpp:bind:0");
    if (bound?.getChild("metadata", "urn:xmpp:mam:2")) {
      const last = xml("set", { xmlns: "http://jabber.org/protocol/rsm" }, xml("max", {}, "1"), xml("before"));
      peer.ask("set", undefined, xml("query", { xmlns: "urn:xmpp:mam:2" }, last));
      const found = (s) => s.getChild("result", "urn:xmpp:mam:2")?.getChild("forwarded", "urn:xmpp:forward:0");
      const forwarded = found(await peer.until(found, "what the archive has"));
      assert(forwarded.getChild("delay", "urn:xmpp:delay"), `no delay stamp: ${forwarded}`);
      assert(forwarded.getChild("message", "jabber:client")?.getChildText("body") === "while you slept", String(forwarded));
    } else {
      const kept = await peer.message("while you slept");
      assert(kept.getChild("delay", "urn:xmpp:delay"), `no delay stamp: ${kept}`);
    }
    await peer.leave();
  });
}

async function modern() {
  const agent = crypto.randomUUID();
  let token;
  await check("SASL2 and Bind 2: one round trip to a resource, stream management and a token", async () => {
    const peer = await new Peer(args.user, args.password, "modern", { agent, mechanism: "SCRAM-SHA-256" }).login();
    const { success, signed } = peer.used;
    assert(success && signed, "not through SASL2");
    assert(peer.jid.startsWith(`${args.user}@${DOMAIN}/modern/`), `bound as ${peer.jid}`);
    assert(success.getChild("bound", "urn:xmpp:bind:0")?.getChild("enabled", "urn:xmpp:sm:3"), String(success));
    assert(peer.client.streamManagement.enabled, "stream management is off");
    token = peer.token;
    assert(token?.token && token.mechanism === "HT-SHA-256-NONE", `token: ${JSON.stringify(token)}`);
    assert(Date.parse(token.expiry) > Date.now() + 86_400_000, `it ends at ${token.expiry}`);
    await peer.leave();
  });
  await check("FAST: a login with the token alone, over the other transport, on the same resource", async () => {
    const peer = await new Peer(args.user, "no password", "modern", { agent, token, direct: true }).login();
    assert(peer.used.sent === "HT-SHA-256-NONE", `${peer.used.sent} was used`);
    const first = peer.jid;
    await peer.fence();
    await peer.leave();
    const again = await new Peer(args.user, "no password", "modern", { agent, token }).login();
    assert(again.jid === first, `${again.jid} is not ${first}`);
    await again.leave();
  });
  await check("FAST: a token that the server does not know falls back to the password", async () => {
    const wrong = { ...token, token: "not this one" };
    const peer = await new Peer(args.user, args.password, "modern", { agent, token: wrong }).login();
    assert(peer.used.sent === peer.used.mechanism && peer.token.token !== wrong.token, "no new token");
    await peer.leave();
  });
  await check("a session is resumed within a login with a token, and nothing is lost", async () => {
    const romeo = await new Peer(args.user, args.password, "phone", { agent: crypto.randomUUID() }).arrive();
    const juliet = await new Peer(args.peer, args.password, "balcony").arrive();
    const [jid, since] = [romeo.jid, romeo.seen.length];
    await romeo.drop();
    juliet.send(chat(jid, "while you were in the tunnel"));
    await juliet.fence();
    assert((await romeo.again()) === "resumed", "the session was not resumed");
    assert(romeo.used.sent === "HT-SHA-256-NONE", `${romeo.used.sent} was used`);
    assert(romeo.used.success.getChild("resumed", "urn:xmpp:sm:3"), String(romeo.used.success));
    await romeo.message("while you were in the tunnel", since);
    romeo.send(chat(juliet.jid, "and back"));
    await juliet.message("and back");
    assert(romeo.jid === jid, `${romeo.jid} is not ${jid}`);
    await romeo.leave();
    await juliet.leave();
  });
}

async function checks() {
  await logins();
  await modern();
  const romeo = await new Peer(args.user, args.password, "orchard").arrive();
  const juliet = await new Peer(args.peer, args.password, "balcony", { direct: true }).arrive();
  await contacts(romeo, juliet);
  await chats(romeo, juliet);
  await queries(romeo);
  await carbons(romeo, juliet);
  await rooms(romeo, juliet);
  await nodes(romeo, juliet);
  await check("leaving is seen by the contact", async () => {
    const since = romeo.seen.length;
    await juliet.leave();
    await romeo.presence("unavailable", `${args.peer}@${DOMAIN}`, since);
  });
  await offline(romeo);
  await romeo.leave();
}

// What comes by WebSocket is a client as all others are, and talks to one over TCP.
async function websocket() {
  const web = true;
  for (const mechanism of ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]) {
    await check(`login ${mechanism} over WebSocket`, () => loginOnce({ web, mechanism }));
    await check(`wrong password refused with ${mechanism} over WebSocket`, () =>
      refused(args.user, "wrong", { web, mechanism }));
  }
  await check("no channel binding is offered over WebSocket", async () => {
    const peer = await new Peer(args.user, args.password, "plain", { web }).login();
    assert(!peer.offered.some((name) => name.endsWith("-PLUS")), peer.offered.join());
    await peer.leave();
  });
  await check("SASL2 and Bind 2 over WebSocket, and a session resumed over another", async () => {
    const agent = crypto.randomUUID();
    const romeo = await new Peer(args.user, args.password, "tab", { web, agent, mechanism: "SCRAM-SHA-256" }).arrive();
    assert(romeo.used.success && romeo.client.streamManagement.enabled, "no SASL2, or no stream management");
    const juliet = await new Peer(args.peer, args.password, "balcony").arrive();
    const [jid, since] = [romeo.jid, romeo.seen.length];
    await romeo.drop();
    juliet.send(chat(jid, "while the tab slept"));
    await juliet.fence();
    assert((await romeo.again()) === "resumed", "the session was not resumed");
    await romeo.message("while the tab slept", since);
    await romeo.leave();
    await juliet.leave();
  });
  const romeo = await new Peer(args.user, args.password, "browser", { web }).arrive();
  const juliet = await new Peer(args.peer, args.password, "phone").arrive();
  await contacts(romeo, juliet);
  await chats(romeo, juliet);
  await queries(romeo);
  await rooms(romeo, juliet);
  await nodes(romeo, juliet);
  await check("a long message goes both ways", async () => {
    // In ASCII: the library cuts other characters where packets end.
    const long = "long ".repeat(6_000);
    romeo.send(chat(juliet.jid, long));
    await juliet.message(long);
    juliet.send(chat(romeo.jid, `${long}!`));
    await romeo.message(`${long}!`);
  });
  await check("leaving is seen by the contact", async () => {
    const since = juliet.seen.length;
    await romeo.leave();
    await juliet.presence("unavailable", `${args.user}@${DOMAIN}`, since);
  });
  await juliet.leave();
}

async function cross() {
  const romeo = await new Peer(args.user, args.password, "orchard").arrive();
  const other = `${args.peer}@${DOMAIN}`;
  await check("two libraries add each other: both subscriptions and presence", async () => {
    romeo.send(xml("presence", { to: other, type: "subscribe" }));
    await romeo.presence("subscribed", other);
    await romeo.presence("subscribe", other);
    romeo.send(xml("presence", { to: other, type: "subscribed" }));
    await romeo.presence(undefined, other);
    await romeo.fence();
    const item = (await romeo.contacts()).get(other);
    assert(item?.attrs.subscription === "both", String(item));
  });
  await check(`two libraries chat: ${CHATS} messages there and back in order`, async () => {
    const since = romeo.seen.length;
    for (let at = 0; at < CHATS; at += 1) romeo.send(chat(other, `♥ <${at}>`));
    await romeo.message(`echo ♥ <${CHATS - 1}>`, since);
    const bodies = romeo.seen.slice(since).filter((s) => s.is("message")).map((s) => s.getChildText("body"));
    const wanted = Array.from({ length: CHATS }, (_, at) => `echo ♥ <${at}>`);
    assert(JSON.stringify(bodies) === JSON.stringify(wanted), JSON.stringify(bodies));
  });
  await check("the other library's leaving is seen, and a message left for it", async () => {
    const since = romeo.seen.length;
    romeo.send(chat(other, "farewell"));
    await romeo.presence("unavailable", other, since);
    romeo.send(chat(other, "see you tomorrow"));
    await romeo.fence();
  });
  await romeo.leave();
}

await main({ checks, cross, websocket }[positionals[0]]);
