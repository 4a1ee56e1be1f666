// strophe.js in a browser against a running server, by BOSH (XEP-0124, XEP-0206) and by WebSocket (RFC 7395), from a
// page of another origin.
//
// Usage: node strophejs.mjs --base https://localhost:PORT --user A --peer B --password W
// Modules are looked up from the working folder. Prints one line for each check; exit code 0 if none failed.

import path from "node:path";
import { parseArgs } from "node:util";
import { Browser } from "./browser.mjs";
import { DOMAIN, assert, check, main } from "./checks.mjs";

const NAMES = ["base", "user", "peer", "password"];
const { values: args } = parseArgs({ options: Object.fromEntries(NAMES.map((name) => [name, { type: "string" }])) });
const PLACES = {
  BOSH: `${args.base}/http-bind`,
  WebSocket: `${args.base.replace("https", "wss")}/xmpp-websocket`,
};
const PAGE = `<!doctype html><link rel="icon" href="data:,"><title>strophe.js</title>
<script src="/files/strophe.umd.min.js"></script>
<script>
  const seen = [], statuses = [];
  function login(url, jid, password) {
    globalThis.connection = new Strophe.Connection(url);
    connection.addHandler((stanza) => seen.push(stanza) && true, null, "message");
    return new Promise((done) => connection.connect(jid, password, (status) => {
      statuses.push(status);
      const { CONNECTED, ATTACHED, AUTHFAIL, CONNFAIL, DISCONNECTED } = Strophe.Status;
      if ([CONNECTED, ATTACHED, AUTHFAIL, CONNFAIL, DISCONNECTED].includes(status)) done(status);
    }));
  }
  const ask = (iq) => new Promise((done, fail) => connection.sendIQ(iq, done, fail, 10_000));
  const bodies = () => seen.map((stanza) => stanza.querySelector("body")?.textContent).filter(Boolean);
</script>`;

// What the library calls them.
const [AUTHFAIL, CONNECTED, ATTACHED] = [4, 5, 8];

async function visitor(browser, place, user, password = args.password) {
  const tab = await browser.open(PAGE, path.resolve("node_modules/strophe.js/dist"));
  tab.status = await tab.call((...how) => login(...how), PLACES[place], `${user}@${DOMAIN}/${place}`, password);
  return tab;
}

async function arrive(browser, place, user) {
  const tab = await visitor(browser, place, user);
  assert(tab.status === CONNECTED, `status ${tab.status}: ${tab.complaints}`);
  await tab.call(() => connection.send($pres()));
  return tab;
}

async function checks() {
  const browser = await Browser.start();
  for (const [place, other] of [["BOSH", "WebSocket"], ["WebSocket", "BOSH"]]) {
    await check(`a wrong password is refused by ${place}`, async () => {
      const tab = await visitor(browser, place, args.user, "wrong");
      assert(tab.status === AUTHFAIL, `status ${tab.status}`);
    });
    await check(`login by ${place}, and chat with who comes by ${other}`, async () => {
      const [romeo, juliet] = [await arrive(browser, place, args.user), await arrive(browser, other, args.peer)];
      const say = (to, from) => {
        for (let at = 0; at < 20; at += 1) {
          connection.send($msg({ to, type: "chat" }).c("body").t(`${from} ${at} <&>"' \u2665`));
        }
      };
      await Promise.all([
        romeo.call(say, `${args.peer}@${DOMAIN}/${other}`, place),
        juliet.call(say, `${args.user}@${DOMAIN}/${place}`, other),
      ]);
      for (const [tab, from] of [[romeo, other], [juliet, place]]) {
        await tab.until(`20 messages by ${from}`, () => bodies().length >= 20);
        const wanted = Array.from({ length: 20 }, (_, at) => `${from} ${at} <&>"' \u2665`);
        const found = await tab.call(() => bodies());
        assert(JSON.stringify(found) === JSON.stringify(wanted), JSON.stringify(found));
      }
      const found = await romeo.call(async () =>
        (await ask($iq({ type: "get" }).c("query", { xmlns: "jabber:iq:roster" }))).getAttribute("type"));
      assert(found === "result", found);
      for (const tab of [romeo, juliet]) {
        await tab.call(() => connection.disconnect("farewell"));
        await tab.until("the end", () => statuses.includes(Strophe.Status.DISCONNECTED));
        assert(!tab.complaints.length, tab.complaints.join(" | "));
      }
    });
  }
  await check("BOSH: a page that was loaded anew goes on with its session", async () => {
    const tab = await visitor(browser, "BOSH", args.user);
    const { jid, sid, rid } = await tab.call(() => {
      connection.pause();
      const { jid, _proto: { sid, rid } } = connection;
      return { jid, sid, rid };
    });
    const found = await tab.call(async (url, jid, sid, rid) => {
      const again = new Strophe.Connection(url);
      const attached = new Promise((done) => again.attach(jid, sid, rid, done));
      const status = await attached;
      const pong = await new Promise((done, fail) =>
        again.sendIQ($iq({ type: "get" }).c("ping", { xmlns: "urn:xmpp:ping" }), done, fail, 10_000));
      return [status, pong.getAttribute("type"), pong.getAttribute("to")];
    }, PLACES.BOSH, jid, sid, rid);
    assert(JSON.stringify(found) === JSON.stringify([ATTACHED, "result", jid]), JSON.stringify(found));
  });
  await check("host-meta.json says where, to scripts of any site", async () => {
    const tab = await browser.open(PAGE, path.resolve("node_modules/strophe.js/dist"));
    const read = async (url) => (await fetch(url)).json();
    const { links } = await tab.call(read, `${args.base}/.well-known/host-meta.json`);
    const hrefs = links.map((link) => link.href);
    for (const place of Object.values(PLACES)) assert(hrefs.includes(place), `${place} is none of ${hrefs}`);
  });
  await browser.close();
}

await main(checks);
