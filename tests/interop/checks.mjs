// What the checks of all JavaScript clients share: one line for each of them, and waiting for so long and no longer.

export const DOMAIN = "localhost";
export const WAIT_MS = 20_000;

let failed = 0;
const why = (error) => String(error?.stack ?? error).replace(/\s+/g, " ").slice(0, 400);

// Prints `ok NAME` or `not ok NAME: why`.
export async function check(name, run) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok ${name}: ${why(error)}`);
  }
}

export function assert(holds, what) {
  if (!holds) throw new Error(what);
}

export function within(promise, what, ms = WAIT_MS) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`waited in vain for ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Runs it all, and ends the process: with 0 if nothing failed.
export async function main(run, ms = 150_000) {
  const broken = (error) => {
    console.log(`not ok the run as a whole: ${why(error)}`);
    process.exit(1);
  };
  for (const kind of ["uncaughtException", "unhandledRejection"]) process.on(kind, broken);
  await within(run(), "its end", ms).catch(broken);
  process.exit(failed ? 1 : 0);
}
