// What a script says of itself: the first sentence of the comment it begins with.

/** Empty where it does not begin with a comment. */
export function summary(source: string): string {
  const lines = source.split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  const text = lines
    .slice(0, end === -1 ? lines.length : end)
    .map((line) => line.replace(/^\/+ ?/, '').trim())
    .join('\n')
    .split('\n\n')[0]!
    .replace(/\n/g, ' ')
    .trim();
  return /^.*?[.!?](?=\s|$)/.exec(text)?.[0] ?? text;
}
