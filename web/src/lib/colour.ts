// Colours that keep their order for every kind of colour vision. Colour never says anything alone.

/** Red, green, blue, 0–255. */
export type Rgb = readonly [number, number, number];

/** Dark and light ink for text on a coloured ground. */
const DARK: Rgb = [11, 14, 18];
const LIGHT: Rgb = [255, 255, 255];

/** How many levels a heatmap has. */
export const LEVELS = 5;

/** Cividis at a share from 0 to 1, by the polynomial of d3-scale-chromatic. */
export function cividis(share: number): Rgb {
  const t = Math.min(1, Math.max(0, share));
  const red = -4.54 - t * (35.34 - t * (2381.73 - t * (6402.7 - t * (7024.72 - t * 2710.57))));
  const green = 32.49 + t * (170.73 + t * (52.82 - t * (131.46 - t * (176.58 - t * 67.37))));
  const blue = 81.24 + t * (442.36 - t * (2482.43 - t * (6167.24 - t * (6614.94 - t * 2475.67))));
  const byte = (value: number) => Math.max(0, Math.min(255, Math.round(value)));
  return [byte(red), byte(green), byte(blue)];
}

/** The ground of a level, 0–4. */
export function levelColour(level: number): Rgb {
  return cividis(level / (LEVELS - 1));
}

/** The ink that reads best on a ground. */
export function inkOn(ground: Rgb): Rgb {
  return contrast(LIGHT, ground) >= contrast(DARK, ground) ? LIGHT : DARK;
}

/** How CSS and canvas write a colour. */
export function css([red, green, blue]: Rgb, alpha = 1): string {
  return alpha === 1 ? `rgb(${red} ${green} ${blue})` : `rgb(${red} ${green} ${blue} / ${alpha})`;
}

/** Contrast of two colours, 1–21, by WCAG 2. */
export function contrast(one: Rgb, other: Rgb): number {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

/** Relative luminance, 0–1. */
export function luminance(colour: Rgb): number {
  const [red, green, blue] = colour.map(linear) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** A channel of sRGB as light. */
export function linear(channel: number): number {
  const share = channel / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
}
