// Draws sound as a waveform.

// Returns {peaks, decibels}: peaks that are multiplied so that the largest is 1, and by how many whole decibels they were
// raised. Silence stays as it is.
export function scaled(peaks) {
  const loudest = Math.max(...peaks);
  if (!loudest) return { peaks, decibels: 0 };
  return { peaks: peaks.map((peak) => peak / loudest), decibels: Math.round(-20 * Math.log10(loudest)) };
}

// Draws `peaks` (0..1 each) into a canvas. `joint` is null, or {share, newFirst}: the place where source and new sound
// meet, 0..1, and whether the new sound is before it. New sound has the accent's colour.
export function drawWave(canvas, peaks, joint) {
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  const step = width / peaks.length;
  peaks.forEach((peak, index) => {
    const isNew = joint !== null && index / peaks.length >= joint.share !== joint.newFirst;
    pen.fillStyle = style.getPropertyValue(isNew ? "--accent" : "--quiet");
    const size = Math.max(1, peak * height);
    pen.fillRect(index * step, (height - size) / 2, Math.max(1, step * 0.7), size);
  });
}
