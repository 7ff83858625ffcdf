// What is in view: far out the countries that have images, and from z6 on the images.

import { countriesOf, countryList, inWords } from "./countries";
import type { Details } from "./details";
import { make, replaceKeepingFocus, the } from "./dom";
import { OUTLINES_FROM, showWhole, type Stage } from "./map";
import { wayToNearest } from "./nearest";
import { imageList, newestFirst } from "./panel";
import { count, images, place } from "./words";

const COUNTRY_ZOOM = 9; // the closest that one is approached
const PLACE_ZOOM = 12;

let viewSaid = ""; // each view is said once, and not over what was said since, when a part of the map comes late

export function showInView(stage: Stage, details: Details, sayAny: (text: string) => void, choose: (id: string) => void): void {
  const { map } = stage;
  const { lng, lat } = map.getCenter();
  const isFar = map.getZoom() < OUTLINES_FROM;
  const here = stage.countryHere() || place(((((lng + 180) % 360) + 360) % 360) - 180, lat);
  the("where").textContent = here;
  the("where").hidden = isFar; // what is in the middle of half the world helps nobody
  const show = (title: string, body: HTMLElement, said?: string): void => {
    the("in-view-title").textContent = title;
    replaceKeepingFocus(the("in-view-body"), body);
    const view = `${lng} ${lat} ${map.getZoom()}`;
    if (said && view !== viewSaid) sayAny(said);
    if (said) viewSaid = view;
  };
  const tell = (title: string, body: HTMLElement): void => show(title, body, `${title}, ${here}`);
  const away = (): HTMLElement => wayToNearest(stage.places(), lng, lat, (nearest) => showWhole(map, nearest, 40, PLACE_ZOOM));
  const wait = (): void => show("Looking for images…", make("div")); // it is idle after that, and this is done again

  if (isFar) {
    const countries = stage.countries(), places = stage.places();
    if (!countries || !places) return wait();
    const title = "Where there are images";
    if (countries.length === 0 || stage.arePlacesUnread()) {
      const why = "Countries cannot be listed, since a part of the map could not be read.";
      return show(title, quiet(`${why} Choose a mark on the map.`), why);
    }
    if (places.length > 0) {
      const found = countriesOf(countries, places, stage.bounds());
      const body = found.length > 0 ? countryList(found, ({ bounds }) => showWhole(map, bounds, 40, COUNTRY_ZOOM)) : away();
      return show(title, body, `${inWords(found)} in view`);
    }
  }
  if (map.getZoom() < stage.firstZoom) return tell("Too far out to see images", quiet(`This mosaic begins at zoom ${stage.firstZoom}. Zoom in to see its images.`));
  const ids = stage.inView(), small = stage.small(), isUnread = stage.isUnread("mosaic");
  if (ids.length + small === 0 && !map.loaded()) return wait();
  if (ids.length === 0 && small > 0) return tell(`${images(small)} in view, too small to list`, quiet("Zoom in, or choose a mark on the map."));
  if (ids.length === 0 && isUnread) return tell("The images here could not be read", quiet("Move the map to try again."));
  if (ids.length === 0) return tell("No images in view", away());
  const others = (small > 0 ? `, and ${count(small)} too small to list` : "") + (isUnread ? ", others could not be read" : "");
  const { found, order } = newestFirst(ids, details);
  tell(`${images(ids.length)} in view${order}${others}`, imageList(found, choose, stage.pointAt));
}

const quiet = (text: string): HTMLElement => make("p", { class: "quiet" }, text);
