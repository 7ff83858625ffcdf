// Far out there are too many images to list: the countries that have some are listed instead.

import type { Bounds } from "./details";
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
  const found = new Map<string, CountryWithPlaces>();
  places.forEach(({ longitude, latitude }, index) => {
    if (!sees(view, longitude, latitude)) return;
    const name = before!.names[index] || AT_SEA;
    const one = found.get(name) ?? { name, places: 0, bounds: { west: 180, east: -180, south: 90, north: -90 } };
    one.places += 1;
    one.bounds.west = Math.min(one.bounds.west, longitude);
    one.bounds.east = Math.max(one.bounds.east, longitude);
    one.bounds.south = Math.min(one.bounds.south, latitude);
    one.bounds.north = Math.max(one.bounds.north, latitude);
    found.set(name, one);
  });
  return [...found.values()].sort((one, other) => Number(one.name === AT_SEA) - Number(other.name === AT_SEA) || other.places - one.places || one.name.localeCompare(other.name));
}

export function sees({ west, south, east, north }: Bounds, longitude: number, latitude: number): boolean {
  const turned = longitude + 360 * Math.ceil((west - longitude) / 360);
  return latitude >= south && latitude <= north && turned <= east;
}

export function countryList(found: readonly CountryWithPlaces[], choose: (country: CountryWithPlaces) => void): HTMLElement {
  if (found.length === 0) return make("p", { class: "quiet" }, "No imagery in view. Zoom out, or move the map.");
  const most = found[0]!.places;
  const list = make("ul", { class: "countries" });
  for (const country of found) {
    const button = make("button", { type: "button" }, country.name);
    button.style.setProperty("--share", `${Math.min(1, Math.sqrt(country.places / most))}`);
    button.addEventListener("click", () => choose(country));
    list.append(make("li", {}, button));
  }
  return make("div", {}, make("p", { class: "quiet" }, "The longer the bar, the more places with images."), list);
}
