// Chromium without a screen, through its DevTools protocol, and a site of its own for the pages that it shows: scripts
// on them come from another origin than the server's, as most web clients do.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { within } from "./checks.mjs";

const { WebSocket } = createRequire(process.cwd() + "/")("ws");
const TYPES = { ".js": "text/javascript", ".css": "text/css", ".json": "application/json" };

// Serves one page at `/`, and the files of `folder` below `/files/`. Gives its address.
async function site(html, folder) {
  const server = http.createServer(async (request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const type = name === "/" ? "text/html; charset=utf-8" : TYPES[path.extname(name)] ?? "application/octet-stream";
    try {
      const body = name === "/" ? html : await readFile(path.join(folder, name.replace(/^\/files\//, "/")));
      response.writeHead(200, { "Content-Type": type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  server.unref();
  return `http://127.0.0.1:${server.address().port}/`;
}

// One tab, in a profile of its own.
class Tab {
  // What the page has complained of.
  complaints = [];

  constructor(browser, session) {
    this.browser = browser;
    this.session = session;
  }

  ask(method, params = {}) {
    return this.browser.ask(method, params, this.session);
  }

  hear(method, params) {
    const complain = (text) => !text.includes("ERR_NAME_NOT_RESOLVED") && this.complaints.push(text);
    if (method === "Runtime.exceptionThrown") {
      const { exception, text } = params.exceptionDetails;
      complain(exception?.description ?? text);
    } else if (method === "Log.entryAdded" && params.entry.level === "error") {
      complain(`${params.entry.text} ${params.entry.url ?? ""}`);
    } else if (method === "Runtime.consoleAPICalled" && params.type === "error") {
      complain(params.args.map((arg) => arg.description ?? arg.value).join(" "));
    }
  }

  // The value of an expression, awaited.
  async value(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", params);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // Calls a function of the page's own world with these arguments.
  call(run, ...args) {
    return this.value(`(${run})(${args.map((arg) => JSON.stringify(arg)).join()})`);
  }

  // Waits until a function of the page gives something that is true, and gives it.
  async until(what, run, ...args) {
    let last;
    const poll = async () => {
      while (!(last = await this.call(run, ...args))) await new Promise((done) => setTimeout(done, 100));
      return last;
    };
    return within(poll(), what).catch((error) => {
      throw new Error(`${error.message}; the page's complaints: ${this.complaints.slice(-5).join(" | ")}`);
    });
  }

  shown(selector) {
    return this.until(selector, (s) => !!document.querySelector(s)?.getClientRects().length, selector);
  }

  async click(selector) {
    await this.shown(selector);
    await this.call((s) => document.querySelector(s).click(), selector);
  }

  // Types into a field as a hand does.
  async type(selector, text) {
    await this.shown(selector);
    await this.call((s) => document.querySelector(s).focus(), selector);
    await this.ask("Input.insertText", { text });
  }

  async press(key, code) {
    const common = { key, code: key, windowsVirtualKeyCode: code };
    await this.ask("Input.dispatchKeyEvent", { type: "rawKeyDown", ...common });
    await this.ask("Input.dispatchKeyEvent", { type: "char", ...common, text: "\r" });
    await this.ask("Input.dispatchKeyEvent", { type: "keyUp", ...common });
  }

  // Chooses a file for a field.
  async choose(selector, file) {
    const { root } = await this.ask("DOM.getDocument");
    const { nodeId } = await this.ask("DOM.querySelector", { nodeId: root.nodeId, selector });
    await this.ask("DOM.setFileInputFiles", { nodeId, files: [file] });
  }

  // What is to be seen, as PNG: all, or what `clip` (x, y, width, height) leaves.
  async screenshot(file, clip) {
    const how = clip && { clip: { ...clip, scale: 1 } };
    const { data } = await this.ask("Page.captureScreenshot", { format: "png", ...how });
    if (file) await writeFile(file, data, "base64");
    return data;
  }
}

export class Browser {
  #at = 0;
  #asked = new Map();
  #tabs = new Map();

  static async start() {
    const browser = new Browser();
    browser.profile = await mkdtemp(path.join(tmpdir(), "couplet-chromium-"));
    const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
      // Nothing leaves this machine.
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1", "--ignore-certificate-errors",
      "--remote-debugging-port=0", `--user-data-dir=${browser.profile}`, "--window-size=1200,800", "about:blank"];
    browser.process = spawn("chromium", flags, { stdio: ["ignore", "ignore", "pipe"] });
    process.once("exit", () => browser.process.kill());
    let said = "";
    const address = new Promise((done, fail) => {
      browser.process.stderr.on("data", (bytes) => {
        said += bytes;
        const found = said.match(/DevTools listening on (ws:\S+)/);
        if (found) done(found[1]);
      });
      browser.process.once("error", fail);
      browser.process.once("exit", (code) => fail(new Error(`chromium ended with ${code}: ${said.slice(-300)}`)));
    });
    browser.socket = new WebSocket(await within(address, "chromium"), { maxPayload: 256 << 20 });
    await new Promise((done, fail) => browser.socket.once("open", done).once("error", fail));
    browser.socket.on("message", (text) => browser.#hear(JSON.parse(text)));
    return browser;
  }

  #hear({ id, result, error, method, params, sessionId }) {
    if (!id) return this.#tabs.get(sessionId)?.hear(method, params);
    const { done, fail } = this.#asked.get(id);
    this.#asked.delete(id);
    return error ? fail(new Error(error.message)) : done(result);
  }

  ask(method, params = {}, sessionId = undefined) {
    const id = (this.#at += 1);
    const answer = new Promise((done, fail) => this.#asked.set(id, { done, fail }));
    this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    return within(answer, method, 30_000);
  }

  // A tab that shows a page, with the files of a folder below `/files/`.
  async open(html, folder) {
    const { browserContextId } = await this.ask("Target.createBrowserContext");
    const { targetId } = await this.ask("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.ask("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab(this, sessionId);
    this.#tabs.set(sessionId, tab);
    for (const domain of ["Runtime", "Log", "Page", "DOM"]) await tab.ask(`${domain}.enable`);
    await tab.ask("Page.navigate", { url: await site(html, folder) });
    await tab.until("the page", () => document.readyState === "complete" && location.href !== "about:blank");
    return tab;
  }

  async close() {
    const gone = new Promise((done) => this.process.once("exit", done));
    this.process.kill();
    await within(gone, "the end of chromium");
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
