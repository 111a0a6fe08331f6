// Curves: the only file that names uPlot. Loaded when the first chart is shown.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Chart } from './chart-types';

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif';
const WIDTHS = { main: 1.8, second: 1.6, faint: 1, none: 0 };

/** Draws a chart into an element; the returned function takes it away. */
export function plot(target: HTMLElement, chart: Chart, pointAt: (index: number | undefined) => void): () => void {
  const style = getComputedStyle(target);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const strokes = { main: colour('accent'), second: colour('warn'), faint: colour('edge'), none: 'transparent' };
  const axis: uPlot.Axis = {
    stroke: colour('faded'),
    font: FONT,
    grid: { stroke: colour('rule'), width: 1 },
    ticks: { stroke: colour('rule'), width: 1, size: 5 },
  };
  const size = () => ({ width: Math.max(200, target.clientWidth), height: chart.height });
  const options: uPlot.Options = {
    ...size(),
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
    scales: {
      x: { time: chart.time, ...(chart.across === undefined ? {} : { range: [...chart.across] }) },
      y: chart.range === undefined ? {} : { range: [...chart.range] },
    },
    axes: [
      chart.time ? { ...axis, values: TIMES } : { ...axis, size: 30, ...valuesBy(chart.formatAcross) },
      { ...axis, size: 58, ...valuesBy(chart.format) },
    ],
    series: [
      {},
      ...chart.lines.map(
        (line): uPlot.Series => ({
          label: line.label,
          stroke: strokes[line.tone],
          width: WIDTHS[line.tone],
          dash: line.dashed === true ? [5, 4] : [],
          spanGaps: line.spanGaps ?? false,
          points: line.dots === true ? { show: true, size: 7 } : { show: false },
        }),
      ),
    ],
    bands: chart.bands.map((band) => ({
      series: [band.high + 1, band.low + 1],
      fill: `color-mix(in srgb, ${strokes[band.tone]} ${band.percent}%, transparent)`,
    })),
    hooks: {
      setCursor: [(self) => pointAt(self.cursor.idx ?? undefined)],
      draw: chart.mark === undefined ? [] : [(self) => drawMark(self, chart.mark!, colour('faded'))],
    },
  };
  const data = [chart.x, ...chart.lines.map((line) => line.values)] as uPlot.AlignedData;
  const drawn = new uPlot(options, data, target);
  const watch = new ResizeObserver(() => drawn.setSize(size()));
  watch.observe(target);
  return () => {
    watch.disconnect();
    drawn.destroy();
  };
}

function valuesBy(format: ((value: number) => string) | undefined): Pick<uPlot.Axis, 'values'> {
  return format === undefined ? {} : { values: (_, ticks) => ticks.map(format) };
}

// Hours and minutes, the day where it changes: 24-hour clocks everywhere.
const TIMES: uPlot.Axis.DynamicValues = (_, ticks) =>
  ticks.map((tick, i) => {
    const time = new Date(tick * 1_000);
    const before = i > 0 ? new Date((ticks[i - 1] ?? tick) * 1_000) : undefined;
    const day = time.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
    const hour = time.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
    if (hour === '00:00') return day;
    return before === undefined || before.toDateString() !== time.toDateString() ? `${hour}\n${day}` : hour;
  });

/** A vertical line, such as the present. */
function drawMark(self: uPlot, mark: { x: number; text: string }, colour: string): void {
  const { ctx, bbox } = self;
  const x = Math.round(self.valToPos(mark.x, 'x', true));
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  const scale = uPlot.pxRatio;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  ctx.setLineDash([3 * scale, 3 * scale]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.font = `${11 * scale}px ${FONT.slice(5)}`;
  ctx.textAlign = 'right';
  ctx.textBaseline = 'top';
  ctx.fillText(mark.text, x - 5 * scale, bbox.top + 4 * scale);
  ctx.restore();
}
