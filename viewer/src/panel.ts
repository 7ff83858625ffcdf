// The words beside the map: the images at a place, one of them with its details, and what is in view.

import type { Details, Image } from "./details";
import { link, make, webAddress } from "./dom";
import type { Config } from "./mosaic";
import { bytes, date, images, resolution } from "./words";

const MOST_LISTED = 100;

export function nameOf(image: Image): string {
  return image.title ?? image.id;
}

function summary(image: Image): string {
  return [image.acquisition_end && date(image.acquisition_end), image.gsd && resolution(image.gsd), image.provider]
    .filter(Boolean)
    .join(" · ");
}

/** As the mosaic draws them: the newest on top, those without a date below. As they were found until all are known. */
export function newestFirst(ids: readonly string[], details: Details): { found: readonly Image[]; order: string } {
  const found = ids.map((id) => details.of(id));
  const isKnown = ids.every((id) => details.has(id)) && found.some(({ acquisition_end }) => acquisition_end);
  if (found.length < 2 || !isKnown) return { found, order: "" };
  const key = ({ acquisition_end = "", id }: Image): string => `${acquisition_end} ${id}`;
  return { found: [...found].sort((one, other) => (key(one) < key(other) ? 1 : -1)), order: ", the newest first" };
}

/** A button for each image. */
export function imageList(found: readonly Image[], choose: (id: string) => void, point: (id: string | null) => void): HTMLElement {
  const list = make("ul", { class: "images" });
  for (const image of found.slice(0, MOST_LISTED)) {
    const about = summary(image);
    const button = make("button", { type: "button", "data-key": image.id }, make("span", {}, nameOf(image)), about && make("small", {}, about));
    button.addEventListener("click", () => choose(image.id));
    for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => point(image.id));
    for (const event of ["mouseleave", "blur"]) button.addEventListener(event, () => point(null));
    list.append(make("li", {}, button));
  }
  if (found.length > MOST_LISTED) {
    list.append(make("li", { class: "quiet" }, `and ${images(found.length - MOST_LISTED)} more: zoom in to see fewer`));
  }
  return list;
}

/** All that is known of an image. */
export function imageDetails(image: Image, config: Config): HTMLElement {
  const rows: [string, Node | string | null | undefined][] = [
    ["Date", image.acquisition_end && date(image.acquisition_end)],
    ["Resolution", image.gsd ? resolution(image.gsd) : null],
    ["Licence", image.license ?? "see the STAC item"],
    ["Provider", image.provider],
    ["Platform", [image.platform, image.sensor].filter(Boolean).join(", ")],
    ["File", image.file_size ? bytes(image.file_size) : null],
    ["Id", make("code", {}, image.id)],
  ];
  const table = make("dl");
  for (const [name, value] of rows) {
    if (value) table.append(make("dt", {}, name), make("dd", {}, value));
  }
  const links = [
    link(image.thumbnail, "Thumbnail"),
    link(previewOf(image, config), "Preview"),
    link(fill(config.stac_item, image.id), "STAC item"),
    link(image.uuid, "Whole image (GeoTIFF)"),
  ].filter((each) => each !== null);
  return make("div", {}, table, links.length > 0 && make("ul", { class: "links" }, ...links.map((each) => make("li", {}, each))));
}

function fill(template: string | null, id: string): string | null {
  return template?.replaceAll("{id}", encodeURIComponent(id)) ?? null;
}

/** TiTiler draws the asset as the catalogue says it is to be drawn. The address may have a query already. */
function previewOf(image: Image, config: Config): string | null {
  const filled = webAddress(fill(config.preview, image.id));
  if (!filled) return null;
  const address = new URL(filled);
  for (const [name, value] of new URLSearchParams(image.render_params)) address.searchParams.append(name, value);
  if (!address.searchParams.has("assets")) address.searchParams.set("assets", image.asset_name ?? "visual");
  return address.href;
}
