// The page: what is public, how old it is, and, once the map library has come, the map.

import "./style.css";
import { showAddresses } from "./addresses";
import { make, the } from "./dom";
import { hoursSince, judge, NoMosaic, readConfig, readMosaic, type Config, type Mosaic, type Trouble } from "./mosaic";
import { images, span } from "./words";

const LOOK_AGAIN_MS = 60_000;

const WORDS: Record<Trouble, string> = {
  "no-config": "This page is not set up: config.json beside it cannot be read. Publish it again.",
  "nothing-public": "Nothing is published here yet. When the first mosaic is public, this page shows it.",
  "no-such-build": "There is no such build here, or it is no longer kept.",
  unreachable: "The store that holds the mosaic does not answer. Check the connection and try again.",
  "not-understood": "What the store says of the mosaic cannot be understood. A newer page may know how: reload it.",
};

const notices = new Map<string, HTMLElement>();

/** Shows a notice, in place of one of the same kind; null takes it away. */
function notice(kind: string, text: string | null, options: { serious?: boolean; retry?: string; act?: () => void } = {}): void {
  const before = notices.get(kind);
  if (text !== null && before?.firstChild?.textContent === text) return;
  before?.remove();
  notices.delete(kind);
  if (text === null) return;
  // how old the mosaic is changes by the minute: nobody is to be interrupted by that
  const role = kind === "age" ? undefined : "alert";
  const shown = make("div", { class: options.serious ? "notice serious" : "notice", role }, make("p", {}, text));
  if (options.retry) {
    const button = make("button", { type: "button" }, options.retry);
    button.addEventListener("click", options.act ?? (() => location.reload()));
    shown.append(button);
  }
  notices.set(kind, shown);
  the("notices").append(shown);
}

/** For screen readers, which read out a text only if it differs from the one before. */
function say(text: string): void {
  the("live").textContent = the("live").textContent === text ? `${text}\u00a0` : text;
}

function showState(mosaic: Mosaic): void {
  const hours = hoursSince(mosaic.pointer.checked_at);
  the("state").replaceChildren(
    make("strong", {}, images(mosaic.pointer.images)),
    mosaic.pointer.source === "sample" ? ", all made up for trying this out" : "",
    ", compared with the catalogue ",
    make("time", { datetime: mosaic.pointer.checked_at, title: new Date(mosaic.pointer.checked_at).toUTCString() }, `${span(hours)} ago`),
  );
  the("build").replaceChildren("Build ", make("code", {}, mosaic.pointer.build));
  if (mosaic.isChosen) return notice("age", `This is one build, as it was ${span(hours)} ago. The address without ?build= shows the newest.`);
  const age = judge(mosaic);
  const old = `was last compared with the catalogue ${span(hours)} ago`;
  notice(
    "age",
    age === "fresh" ? null : age === "late" ? `A little late: this mosaic ${old}.` : `This mosaic is out of date: it ${old}. Newer images may be missing.`,
    { serious: age === "stale" },
  );
}

function showTrouble(error: unknown): void {
  const { trouble, told } = error instanceof NoMosaic ? error : { trouble: "unreachable" as const, told: String(error) };
  the("state").textContent = "No mosaic to show.";
  the("in-view").hidden = true;
  the("use").hidden = true;
  const detail = trouble === "nothing-public" || trouble === "no-such-build" ? "" : ` (${told})`;
  const help = trouble === "no-such-build" ? { retry: "Show the newest", act: () => location.assign(location.pathname + location.hash) } : { retry: "Try again" };
  notice("trouble", WORDS[trouble] + detail, { serious: trouble !== "nothing-public", ...help });
  if (trouble === "nothing-public" || trouble === "unreachable") {
    setInterval(() => { if (!document.hidden) void lookForOne(); }, LOOK_AGAIN_MS);
  }
}

/** Looks whether there is a mosaic to show by now. */
async function lookForOne(): Promise<void> {
  try {
    await readMosaic(await readConfig());
  } catch {
    return; // what was said of it stays
  }
  location.reload();
}

/** Looks whether another build has become public, and how old it is by now. */
async function lookAgain(config: Config, shown: Mosaic): Promise<void> {
  try {
    const now = await readMosaic(config);
    const [there, here] = [now.pointer.build, shown.pointer.build]; // which begin with their time
    notice("other", there > here ? "A newer mosaic is public." : there < here ? "An earlier mosaic is public again." : null, { retry: "Show it" });
    if (there === here) shown.pointer = now.pointer;
  } catch {
    // what is on the map stays; its age goes on
  }
  showState(shown);
}

function hasWebGL(): boolean {
  try {
    return document.createElement("canvas").getContext("webgl2") !== null;
  } catch {
    return false;
  }
}

async function start(): Promise<void> {
  let mosaic: Mosaic;
  try {
    const config = await readConfig();
    mosaic = await readMosaic(config);
    setInterval(() => { if (!document.hidden) void lookAgain(config, mosaic); }, LOOK_AGAIN_MS);
  } catch (error) {
    return showTrouble(error);
  }
  showState(mosaic);
  showAddresses(the("addresses"), mosaic, say);
  if (!hasWebGL()) {
    the("in-view").hidden = true;
    return notice("map", "This browser cannot draw the map: it has no WebGL 2, or it is switched off. The addresses below work all the same.", { serious: true });
  }
  try {
    const { explore } = await import("./explore");
    await explore(mosaic, { say, notice });
  } catch (error) {
    the("in-view").hidden = true;
    notice("map", `The map cannot be shown: ${error instanceof Error ? error.message : String(error)}.`, { serious: true, retry: "Try again" });
  }
}

the("stuck").remove();
the("skip").addEventListener("click", () => (document.querySelector<HTMLElement>("#map canvas") ?? the("panel")).focus());
void start();
