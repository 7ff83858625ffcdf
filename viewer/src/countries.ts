// Far out there are too many images to list: the countries that have some are listed instead.

import { around, sees, type Bounds } from "./bounds";
import { make } from "./dom";
import { countryAt, type Country } from "./land";
import type { Place } from "./places";

export interface CountryWithPlaces {
  name: string;
  places: number;
  bounds: Bounds;
}

const AT_SEA = "At sea, and on small islands";

let before: { countries: readonly Country[]; places: readonly Place[]; names: string[] } | null = null;

/** Those with imagery in view, the one with the most of it first; the sea, which is none, last. */
export function countriesOf(countries: readonly Country[], places: readonly Place[], view: Bounds): CountryWithPlaces[] {
  if (before?.countries !== countries || before.places !== places) {
    before = { countries, places, names: places.map(({ longitude, latitude }) => countryAt(countries, longitude, latitude)) };
  }
  const found = new Map<string, Place[]>();
  places.forEach((each, index) => {
    if (!sees(view, each.longitude, each.latitude)) return;
    const name = before!.names[index] || AT_SEA;
    const others = found.get(name);
    if (others) others.push(each);
    else found.set(name, [each]);
  });
  const listed = [...found].map(([name, all]) => ({
    name,
    places: all.length,
    bounds: around(all.map(({ longitude }) => longitude), all.map(({ latitude }) => latitude)),
  }));
  return listed.sort((one, other) => Number(one.name === AT_SEA) - Number(other.name === AT_SEA) || other.places - one.places || one.name.localeCompare(other.name));
}

export function countryList(found: readonly CountryWithPlaces[], choose: (country: CountryWithPlaces) => void): HTMLElement {
  if (found.length === 0) return make("p", { class: "quiet" }, "No imagery in view. Zoom out, or move the map.");
  const most = found[0]!.places;
  const list = make("ul", { class: "countries" });
  for (const country of found) {
    const button = make("button", { type: "button", "data-key": country.name, "data-bounds": Object.values(country.bounds).join(" ") }, country.name);
    button.style.setProperty("--share", `${Math.min(1, Math.sqrt(country.places / most))}`);
    button.addEventListener("click", () => choose(country));
    list.append(make("li", {}, button));
  }
  return make("div", {}, make("p", { class: "quiet" }, "The longer the bar, the more places with images."), list);
}
