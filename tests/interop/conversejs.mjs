// converse.js in a browser against a running server, from a page of another origin: one user by WebSocket (RFC 7395),
// the other by BOSH (XEP-0206). They log in, talk, share a picture, meet in a room, and read what was said before.
//
// Usage: node conversejs.mjs --base https://localhost:PORT --user A --peer B --password W --screens FOLDER
// What is to be seen at the end goes to FOLDER as PNG. Modules are looked up from the working folder. Prints one line
// for each check; exit code 0 if none failed.

import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { Browser } from "./browser.mjs";
import { DOMAIN, assert, check, main, within } from "./checks.mjs";

const NAMES = ["base", "user", "peer", "password", "screens"];
const { values: args } = parseArgs({ options: Object.fromEntries(NAMES.map((name) => [name, { type: "string" }])) });
const WAYS = {
  websocket: { websocket_url: `${args.base.replace("https", "wss")}/xmpp-websocket` },
  bosh: { bosh_service_url: `${args.base}/http-bind` },
};
const ROOM = `capulets-of-${args.user}@conference.${DOMAIN}`;

const SETTINGS = {
  assets_path: "/files/", authentication: "login", auto_away: 0, discover_connection_methods: false, i18n: "en",
  loglevel: "warn", message_archiving: "always", play_sounds: false, show_desktop_notifications: false,
  view_mode: "fullscreen", whitelisted_plugins: ["window"],
};

const page = (way) => `<!doctype html><html><head><meta charset="utf-8"><title>converse.js</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/files/converse.min.css"></head>
<body class="converse-fullscreen"><converse-root></converse-root><script type="module">
  import converse from "/files/converse.min.js";
  // Its inner parts, for what has no place on the screen to be clicked at.
  converse.plugins.add("window", { initialize() { globalThis.api = this._converse.api; } });
  converse.initialize(${JSON.stringify({ ...SETTINGS, ...WAYS[way] })});
</script></body></html>`;

async function login(browser, way, user, password = args.password) {
  const tab = await browser.open(page(way), path.resolve("node_modules/converse.js/dist"));
  tab.jid = `${user}@${DOMAIN}`;
  await tab.type("converse-login-form input[name=jid]", tab.jid);
  await tab.type("converse-login-form input[name=password]", password);
  await tab.click("converse-login-form [type=submit]");
  return tab;
}

async function arrive(browser, way, user) {
  const tab = await login(browser, way, user);
  await tab.shown("converse-user-profile .online");
  return tab;
}

// Goes to the chat with somebody, or to a room.
async function turn(tab, jid) {
  const nick = tab.jid.split("@")[0];
  if (jid === ROOM) await tab.call((room, nick) => void api.rooms.open(room, { nick }, true), ROOM, nick);
  else await tab.call((jid) => void api.chats.open(jid, {}, true), jid);
  tab.chat = `${jid === ROOM ? "converse-muc" : "converse-chat"}[jid="${jid}"]`;
  await tab.shown(`${tab.chat} textarea.chat-textarea`);
}

async function say(tab, text) {
  await tab.type(`${tab.chat} textarea.chat-textarea`, text);
  await tab.press("Enter", 13);
}

function reads(tab, text) {
  const has = (chat, text) =>
    [...document.querySelectorAll(`${chat} .chat-msg__text`)].some((one) => one.innerText.trim() === text);
  return tab.until(`the text: ${text}`, has, tab.chat, text);
}

// Something that is easily recognised in a screenshot.
async function picture(tab, file, colour) {
  const data = await tab.call((colour) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 200 });
    const context = canvas.getContext("2d");
    context.fillStyle = colour;
    context.fillRect(0, 0, 320, 200);
    return canvas.toDataURL("image/png").split(",")[1];
  }, colour);
  await writeFile(file, data, "base64");
}

// The colour in the midst of the last picture of a chat, as the screen shows it.
async function colour(tab) {
  const found = await tab.until("a picture", (chat) => {
    const image = [...document.querySelectorAll(`${chat} img.chat-image`)].at(-1);
    if (!image?.complete || !image.naturalWidth) return undefined;
    image.scrollIntoView({ block: "center" });
    const { x, y, width, height } = image.getBoundingClientRect();
    const clip = { x: x + width / 2, y: y + height / 2, width: 2, height: 2 };
    return { size: [image.naturalWidth, image.naturalHeight], clip };
  }, tab.chat);
  const seen = await tab.screenshot(undefined, found.clip);
  return tab.call(async (data, size) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: 2, height: 2 });
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return [...size, ...context.getImageData(0, 0, 1, 1).data.slice(0, 3)].join();
  }, seen, found.size);
}

// Waits until the last picture is that one.
async function sees(tab, wanted) {
  let found;
  const look = async () => {
    while ((found = await colour(tab)) !== wanted) await new Promise((done) => setTimeout(done, 100));
  };
  await within(look(), `the picture ${wanted}`).catch((error) => {
    throw new Error(`${error.message}; seen is ${found}`);
  });
}

async function journeys() {
  await mkdir(args.screens, { recursive: true });
  const browser = await Browser.start();
  const screen = (tab, name) => tab.screenshot(path.join(args.screens, `converse-${name}.png`));
  for (const way of Object.keys(WAYS)) {
    await check(`a wrong password is refused by ${way}`, async () => {
      const tab = await login(browser, way, args.user, "wrong");
      await tab.shown(".conn-feedback.error, .feedback.error, .alert-danger");
      await screen(tab, `wrong-password-${way}`);
    });
  }
  let romeo, juliet;
  await check("login by WebSocket and by BOSH", async () => {
    romeo = await arrive(browser, "websocket", args.user);
    juliet = await arrive(browser, "bosh", args.peer);
  });
  await check("chat there and back", async () => {
    await turn(romeo, juliet.jid);
    await turn(juliet, romeo.jid);
    await say(romeo, "But soft, what light?");
    await reads(juliet, "But soft, what light?");
    await say(juliet, "Ay me! <b>&amp;</b>");
    await reads(romeo, "Ay me! <b>&amp;</b>");
  });
  for (const [name, from, to, paint, rgb] of [
    ["WebSocket to BOSH", () => romeo, () => juliet, "#c02040", "192,32,64"],
    ["BOSH to WebSocket", () => juliet, () => romeo, "#2040c0", "32,64,192"],
  ]) {
    await check(`a picture goes from ${name}, and is seen there`, async () => {
      const file = path.join(args.screens, "picture.png");
      await picture(from(), file, paint);
      await from().shown(`${from().chat} button[title="Choose a file to send"]`);
      await from().choose(`${from().chat} input.fileupload`, file);
      for (const tab of [to(), from()]) await sees(tab, `320,200,${rgb}`);
      await screen(to(), `picture-${name.split(" ")[0].toLowerCase()}`);
    });
  }
  await check("a room: made, entered by another, lines both ways", async () => {
    await turn(romeo, ROOM);
    await say(romeo, "Is love a tender thing?");
    await reads(romeo, "Is love a tender thing?");
    await turn(juliet, ROOM);
    await reads(juliet, "Is love a tender thing?");
    await say(juliet, "It is too rough");
    await reads(romeo, "It is too rough");
    await screen(romeo, "room");
  });
  await check("a new browser reads what was said, in the chat and in the room, and sees the pictures", async () => {
    const other = await arrive(browser, "websocket", args.peer);
    await turn(other, romeo.jid);
    await reads(other, "But soft, what light?");
    await reads(other, "Ay me! <b>&amp;</b>");
    await sees(other, "320,200,32,64,192");
    await screen(other, "history");
    await turn(other, ROOM);
    await reads(other, "It is too rough");
  });
  await check("no page had anything to complain of", async () => {
    // Of the component that is configured, and that nobody serves now, the server says so.
    const all = [romeo, juliet].flatMap((tab) => tab.complaints).filter((text) => !text.includes(`echo.${DOMAIN}`));
    assert(!all.length, all.join(" | "));
  });
  await browser.close();
}

await main(journeys);
