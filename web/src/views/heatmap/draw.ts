// Draws a heatmap: colour, value and pips say the same; doubt is hatched, the unknown is an empty frame.
import { css, inkOn, levelColour } from '../../lib/colour';
import { words } from '../../lib/units';
import type { Placed, Plan } from './plan';

/** The colours of the page that the drawing needs. */
export interface Ink {
  paper: string;
  sunk: string;
  ink: string;
  faded: string;
  rule: string;
  edge: string;
}

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif';
const ROUND = 5;

/** Reads the colours from the style sheet, so that light and dark are decided there alone. */
export function inkOf(element: Element): Ink {
  const style = getComputedStyle(element);
  const read = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    paper: read('paper'),
    sunk: read('sunk'),
    ink: read('ink'),
    faded: read('faded'),
    rule: read('rule'),
    edge: read('edge'),
  };
}

/** Draws everything anew. */
export function draw(canvas: HTMLCanvasElement, plan: Plan, ink: Ink): void {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(plan.width * scale);
  canvas.height = Math.round(plan.height * scale);
  canvas.style.width = `${plan.width}px`;
  canvas.style.height = `${plan.height}px`;
  const context = canvas.getContext('2d');
  if (context === null) return;
  context.scale(scale, scale);
  context.textBaseline = 'middle';

  context.textAlign = 'center';
  context.fillStyle = ink.ink;
  context.font = `600 13px ${FONT}`;
  for (const { text, box } of plan.titles) {
    context.fillText(fit(context, text, box.width - 4), box.x + box.width / 2, box.y + box.height / 2);
  }
  context.textAlign = 'left';
  context.fillStyle = ink.faded;
  context.font = `550 12px ${FONT}`;
  for (const { text, y } of plan.groups) context.fillText(words(text), 2, y);

  context.textAlign = 'center';
  context.font = `550 12.5px ${FONT}`;
  for (const placed of plan.cells) drawCell(context, placed, ink);
}

function drawCell(context: CanvasRenderingContext2D, placed: Placed, ink: Ink): void {
  const { x, y, width, height, cell } = placed;
  const value = cell.value ?? undefined;
  const middle = x + width / 2;
  if (value === undefined) {
    const unknown = cell.confidence === 'none';
    box(context, placed, 0.5);
    context.fillStyle = unknown ? ink.paper : ink.sunk;
    context.fill();
    context.strokeStyle = unknown ? ink.edge : ink.rule;
    context.setLineDash(unknown ? [3, 3] : []);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = ink.faded;
    context.font = `400 12.5px ${FONT}`;
    const readable = context.measureText(cell.text).width <= width - 6;
    context.fillText(readable ? cell.text : unknown ? '?' : '–', middle, y + height / 2 + 0.5);
    context.font = `550 12.5px ${FONT}`;
    return;
  }
  const ground = levelColour(cell.level);
  const text = css(inkOn(ground));
  box(context, placed, 0);
  context.fillStyle = css(ground);
  context.fill();
  const label = fit(context, cell.text, width - 8);
  if (cell.confidence === 'low') {
    hatch(context, placed, css(inkOn(ground), 0.42));
    // The value stays readable above the hatching.
    const half = context.measureText(label).width / 2 + 4;
    context.fillStyle = css(ground);
    context.fillRect(middle - half, y + 5, 2 * half, height - 14);
  }
  context.strokeStyle = ink.edge;
  context.globalAlpha = 0.55;
  box(context, placed, 0.5);
  context.stroke();
  context.globalAlpha = 1;
  context.fillStyle = text;
  context.fillText(label, middle, y + height / 2 - 2);
  for (let pip = 0; pip < cell.level; pip += 1) {
    context.fillRect(middle + (pip - cell.level / 2) * 6 + 1, y + height - 7, 4, 2.5);
  }
}

function hatch(context: CanvasRenderingContext2D, { x, y, width, height }: Placed, colour: string): void {
  context.save();
  context.clip();
  context.beginPath();
  for (let start = -height; start < width; start += 7) {
    context.moveTo(x + start, y + height);
    context.lineTo(x + start + height, y);
  }
  context.strokeStyle = colour;
  context.lineWidth = 1.4;
  context.stroke();
  context.restore();
}

function box(context: CanvasRenderingContext2D, { x, y, width, height }: Placed, inset: number): void {
  context.beginPath();
  context.roundRect(x + inset, y + inset, width - 2 * inset, height - 2 * inset, ROUND);
}

function fit(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length -= 1;
  return `${text.slice(0, length)}…`;
}
