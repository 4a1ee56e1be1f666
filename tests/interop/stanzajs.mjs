// stanza.js against a running server, by BOSH (XEP-0124, XEP-0206) and by WebSocket (RFC 7395): login, chat, roster,
// resumption, and a file (XEP-0363) on its way from one to the other.
//
// Usage: node stanzajs.mjs --base https://localhost:PORT --user A --peer B --password W
// NODE_EXTRA_CA_CERTS names the server's certificate. Modules are looked up from the working folder.
//
// Prints one line for each check: `ok NAME`, `not ok NAME: why`. Exit code 0 if none failed.

import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { DOMAIN, assert, check, main, within } from "./checks.mjs";

const require = createRequire(process.cwd() + "/");
const { createClient } = require("stanza");

const { values: args } = parseArgs({
  options: Object.fromEntries(["base", "user", "peer", "password"].map((name) => [name, { type: "string" }])),
});

const PLACES = {
  bosh: { bosh: `${args.base}/http-bind`, websocket: false },
  websocket: { websocket: `${args.base.replace("https", "wss")}/xmpp-websocket`, bosh: false },
};

function make(user, how, more = {}) {
  const client = createClient({
    jid: `${user}@${DOMAIN}`, password: args.password, server: DOMAIN, resource: how, transports: PLACES[how],
    autoReconnect: false, ...more,
  });
  client.seen = [];
  client.on("message", (message) => client.seen.push(message));
  client.heard = (body) => within(new Promise((done) => {
    const look = () => client.seen.some((message) => message.body === body) && done();
    client.on("message", look);
    look();
  }), `a message: ${body}`);
  return client;
}

async function arrive(client) {
  const started = within(new Promise((done, fail) => {
    client.once("session:started", done);
    client.once("auth:failed", () => fail(new Error("the login failed")));
    client.once("stream:error", (error) => fail(new Error(JSON.stringify(error))));
  }), "the session");
  client.connect();
  await started;
  await client.getRoster();
  client.sendPresence();
  return client;
}

async function leave(client) {
  // By BOSH the library does not always say that it is disconnected.
  const ends = (done) => ["disconnected", "bosh:terminate"].forEach((name) => client.once(name, done));
  const gone = within(new Promise(ends), "the end of the stream");
  client.disconnect();
  await gone;
}

async function checks() {
  for (const [how, other] of [["bosh", "websocket"], ["websocket", "bosh"]]) {
    await check(`a wrong password is refused by ${how}`, async () => {
      const client = make(args.user, how, { password: "wrong" });
      const refused = within(new Promise((done) => client.once("auth:failed", done)), "the refusal");
      client.connect();
      await refused;
      client.disconnect();
    });
    await check(`login by ${how}, and chat with who comes by ${other}`, async () => {
      const [romeo, juliet] = [await arrive(make(args.user, how)), await arrive(make(args.peer, other))];
      for (let at = 0; at < 20; at += 1) {
        romeo.sendMessage({ to: juliet.jid, type: "chat", body: `${how} ${at} <&>"' \u2665` });
        juliet.sendMessage({ to: romeo.jid, type: "chat", body: `${other} ${at} <&>"' \u2665` });
      }
      await juliet.heard(`${how} 19 <&>"' \u2665`);
      await romeo.heard(`${other} 19 <&>"' \u2665`);
      const bodies = juliet.seen.map((message) => message.body).filter((body) => body?.startsWith(`${how} `));
      assert(bodies.every((body, at) => body.includes(` ${at} `)), `out of order: ${bodies}`);
      await leave(romeo);
      await leave(juliet);
    });
    await check(`a file goes from who came by ${how}`, async () => {
      const romeo = await arrive(make(args.user, how));
      const content = Buffer.alloc(200_000, `${how} \u2665 `);
      const file = { name: "l\u00f8ve.bin", size: content.length, mediaType: "image/png" };
      const slot = await romeo.getUploadSlot(DOMAIN, file);
      const local = (url) => url.replace(/^https:\/\/[^/]*/, args.base);
      const headers = Object.fromEntries((slot.upload.headers ?? []).map(({ name, value }) => [name, value]));
      const stored = await fetch(local(slot.upload.url), {
        method: "PUT", body: content, headers: { ...headers, "Content-Type": "image/png" },
      });
      assert(stored.status === 201, `PUT: ${stored.status}`);
      const found = await fetch(local(slot.download));
      assert(Buffer.from(await found.arrayBuffer()).equals(content), "another file came back");
      assert(found.headers.get("content-type") === "image/png", found.headers.get("content-type"));
      await leave(romeo);
    });
  }
}

await main(checks);
