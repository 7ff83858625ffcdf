// Looking around: what is under the pointer, what was chosen, what is in view. Joins map, details and panel.

import { inAddress, keepInAddress } from "./address";
import { open } from "./archive";
import type { Bounds } from "./bounds";
import { Details } from "./details";
import { make, replaceKeepingFocus, the } from "./dom";
import { extentOf } from "./extent";
import { showInView } from "./in-view";
import { OUTLINES_FROM, PICTURES, showWhole, stageOf, type Layer, type Stage, type Unreadable } from "./map";
import type { Mosaic } from "./mosaic";
import { imageDetails, imageList, nameOf, newestFirst } from "./panel";
import { count, date, images } from "./words";

export interface Voice {
  say: (text: string) => void;
  notice: (kind: string, text: string | null, options?: { serious?: boolean; retry?: string }) => void;
}

const WORDS: Record<Unreadable, string> = { tiles: "A part of the map", base: "The borders or the dots", pictures: "The pictures" };
const SETTLED_MS = 400;
const CLOSE_PX = 12;

export async function explore(mosaic: Mosaic, { say, notice }: Voice): Promise<void> {
  const archive = open(mosaic.archive);
  const pictures = Object.fromEntries(PICTURES.flatMap((layer) => (mosaic[layer] === null ? [] : [[layer, open(mosaic[layer])]])));
  const details = new Details(open(mosaic.details));
  const stage = await stageOf(the("map"), archive, pictures, (what, trouble) =>
    notice(what, `${WORDS[what]} could not be read (${trouble.message}).`, { serious: true, retry: "Try again" }));
  const { map } = stage;
  Object.assign(window, { mosaicMap: map }); // for whoever looks at it in the browser's console

  const nowhere = { ids: [] as string[], small: 0, at: map.getCenter() };
  let here = nowhere; // the last click: the images under it, and how many more are only counted
  let chosen: string | null = null;
  let seen: Bounds | null = null; // where the one that was chosen is, as far as it was loaded
  let cameFrom: HTMLElement | null = null; // gets the focus back

  const show = (title: string, body: HTMLElement): void => {
    the("selection-title").textContent = title;
    replaceKeepingFocus(the("selection-body"), body);
    the("back").hidden = chosen === null || here.ids.length === 0 || here.ids.length + here.small < 2;
    the("approach").hidden = chosen === null || seen === null;
    the("closer").hidden = chosen !== null || here.small === 0;
    the("selection").hidden = false;
  };
  const showList = (): void => {
    const { found, order } = newestFirst(here.ids, details);
    const more = here.small > 0 && make("p", { class: "quiet" }, `and ${count(here.small)} too small to list here`);
    show(`${images(found.length)} here${order}`, make("div", {}, imageList(found, (id) => void choose(id), stage.pointAt), more));
  };
  const showChosen = (id: string): void => {
    seen = stage.boundsOf(id) ?? seen;
    const unknown = map.loaded() ? "The map shows no image with this id here. It may have been removed, or lie elsewhere." : "Looking for the image…";
    show(nameOf(details.of(id)), seen || details.has(id) ? imageDetails(details.of(id), mosaic.config) : make("p", {}, unknown));
  };
  /** With what became known since. */
  const showSelection = (): void => {
    if (chosen !== null) showChosen(chosen);
    else if (here.ids.length > 0) showList();
  };
  const bringUp = (): void => {
    the("selection").scrollIntoView({ block: "start" });
    the("selection").focus({ preventScroll: true });
  };

  const choose = async (id: string, where?: Bounds): Promise<void> => {
    chosen = id;
    seen = null;
    stage.choose(id);
    stage.pointAt(null);
    keepInAddress("image", id);
    showChosen(id);
    bringUp();
    await details.load(where ?? seen ?? stage.bounds(), where ? Infinity : map.getZoom());
    if (chosen !== id) return;
    showSelection();
    say(`Chosen: ${nameOf(details.of(id))}`);
  };

  const list = (): void => {
    chosen = null;
    stage.choose(null);
    keepInAddress("image", null);
    showList();
    say(`${images(here.ids.length)} here${here.small > 0 ? `, and ${count(here.small)} too small to list` : ""}`);
    bringUp();
  };

  const close = (): void => {
    if (the("selection").hidden) return;
    chosen = null;
    here = nowhere;
    stage.choose(null);
    stage.pointAt(null);
    keepInAddress("image", null);
    the("selection").hidden = true;
    (cameFrom?.isConnected ? cameFrom : map.getCanvas()).focus({ preventScroll: true });
    say("Closed");
  };

  const pick = (x: number, y: number): void => {
    if (map.getZoom() < OUTLINES_FROM) return approachPlace(stage, x, y, say);
    const { ids, small, at } = (here = { ids: stage.pick({ x, y }), small: stage.small({ x, y }), at: map.unproject([x, y]) });
    if (ids.length === 0) {
      close();
      if (small > 0) goCloser(stage, at, say);
      else sayNothingIsHere(map.getZoom() >= stage.firstZoom && map.loaded() && !stage.isUnread("mosaic"), say);
      return;
    }
    cameFrom = map.getCanvas();
    const where = { west: at.lng, east: at.lng, south: at.lat, north: at.lat };
    if (ids.length + small === 1) return void choose(ids[0]!, where);
    list();
    void details.load(where, Infinity).then(showSelection);
  };

  const approach = async (): Promise<void> => {
    const id = chosen;
    if (id === null || seen === null) return;
    const whole = (await extentOf(archive, id, seen).catch(() => null)) ?? seen;
    if (chosen === id) showWhole(map, whole, 60, 17);
  };

  const showAll = (): void => {
    showInView(stage, details, say, (id) => {
      cameFrom = document.activeElement as HTMLElement;
      here = nowhere;
      void choose(id);
    });
    showSelection();
  };
  let isFollowed = false; // the address, at the first look: a map of which a tile does not come is not idle
  const refresh = async (): Promise<void> => {
    if (!isFollowed) followAddress();
    isFollowed = true;
    if (map.loaded() && !stage.isUnread()) notice("tiles", null);
    showAll();
    if (map.getZoom() < OUTLINES_FROM) return;
    await details.load(stage.bounds(), map.getZoom());
    if (!map.isMoving()) showAll();
  };

  map.on("click", ({ point }) => pick(point.x, point.y));
  map.getCanvas().addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const { clientWidth, clientHeight } = map.getCanvas();
    pick(clientWidth / 2, clientHeight / 2);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  the("back").addEventListener("click", list);
  the("close").addEventListener("click", close);
  the("approach").addEventListener("click", () => void approach());
  the("closer").addEventListener("click", () => goCloser(stage, here.at, say));
  followPointer(stage, details);

  let settling = 0;
  const settle = (): void => {
    clearTimeout(settling);
    settling = window.setTimeout(() => void refresh(), SETTLED_MS);
  };
  map.on("idle", settle);
  map.on("error", settle); // after which it may never be idle
  settle();

  const layers = [...the("layers").querySelectorAll("input")];
  const mark = (layer: Layer): void => {
    for (const each of layers) each.checked = each.value === layer;
    keepInAddress("layer", layer === "footprints" ? null : layer);
  };
  const showLayer = async (layer: Layer): Promise<void> => {
    mark(layer);
    notice("pictures", null);
    mark(await stage.show(layer));
  };
  for (const each of layers) each.closest("label")!.hidden = each.value !== "footprints" && !(each.value in pictures);
  the("layers").hidden = Object.keys(pictures).length === 0;
  for (const each of layers) {
    each.addEventListener("change", () => {
      void showLayer(each.value as Layer);
      say(`The map shows ${each.labels?.[0]?.textContent?.trim().toLowerCase() ?? each.value}`);
    });
  }

  const followAddress = (): void => {
    const asked = inAddress("layer");
    void showLayer(PICTURES.find((layer) => layer === asked && layer in pictures) ?? "footprints");
    const id = inAddress("image");
    if (id !== null && id !== chosen) void choose(id);
  };
  window.addEventListener("hashchange", followAddress);
}

/** That there is no imagery is said only where all that there is was read. */
function sayNothingIsHere(isRead: boolean, say: (text: string) => void): void {
  say(isRead ? "No imagery here" : "What is here has not been read yet");
}

function approachPlace({ map, places }: Stage, x: number, y: number, say: (text: string) => void): void {
  const near = places()?.some(({ longitude, latitude }) => {
    const { lng } = map.unproject([x, y]);
    const at = map.project([longitude + 360 * Math.round((lng - longitude) / 360), latitude]);
    return Math.hypot(at.x - x, at.y - y) <= CLOSE_PX;
  });
  if (!near) return sayNothingIsHere(Boolean(places()?.length), say);
  goCloser({ map }, map.unproject([x, y]), say);
}

function goCloser({ map }: Pick<Stage, "map">, center: { lng: number; lat: number }, say: (text: string) => void): void {
  map.easeTo({ center, zoom: Math.max(OUTLINES_FROM + 1, map.getZoom() + 4) });
  say("Closer to the imagery");
}

/** A tip beside the pointer, where there is one. */
function followPointer(stage: Stage, details: Details): void {
  const { map } = stage;
  const tip = the("tip");
  if (!matchMedia("(hover: hover)").matches) return; // a finger chooses at once
  let frame = 0;
  const leave = (): void => {
    cancelAnimationFrame(frame);
    tip.hidden = true;
    stage.pointAt(null);
    map.getCanvas().style.cursor = "";
  };
  map.on("mousemove", ({ point }) => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      const ids = stage.pick(point);
      const [first] = ids;
      if (first === undefined) return leave();
      const image = details.of(first);
      const more = ids.length > 1 ? `and ${images(ids.length - 1)} more` : "";
      const about = [image.acquisition_end && date(image.acquisition_end), more].filter(Boolean).join(" · ");
      tip.textContent = about ? `${nameOf(image)}\n${about}` : nameOf(image);
      tip.hidden = false;
      const room = map.getCanvas().clientWidth - tip.offsetWidth - 8;
      tip.style.transform = `translate(${Math.min(point.x + 14, room)}px, ${point.y + 14}px)`;
      stage.pointAt(first);
      map.getCanvas().style.cursor = "pointer";
    });
  });
  map.on("mouseout", leave);
  map.on("movestart", leave);
}
