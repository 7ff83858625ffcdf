// The page's address keeps what is looked at: #map=zoom/latitude/longitude&image=id. MapLibre keeps the first part.

const NAME = "image=";

export function imageInAddress(): string | null {
  const part = location.hash.slice(1).split("&").find((each) => each.startsWith(NAME));
  if (!part) return null;
  try {
    return decodeURIComponent(part.slice(NAME.length)) || null;
  } catch {
    return null;
  }
}

export function keepImageInAddress(id: string | null): void {
  const parts = location.hash.slice(1).split("&").filter((each) => each && !each.startsWith(NAME));
  if (id !== null) parts.push(NAME + encodeURIComponent(id));
  history.replaceState(history.state, "", parts.length ? `#${parts.join("&")}` : location.pathname + location.search);
}
