// Finds the words that two texts have in common.
const CELLS = 4_000_000; // largest table of two texts' words to compare
const READABLE = 0.4; // smallest share of common words for marks, as in `redraft show`

const words = (text) => text.match(/\s*(?:[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_])|\s+$/gu) || [];

// Marks the words of the longest common subsequence of two texts. Returns null if the texts are too long.
function common(one, other) {
  if (one.length * other.length > CELLS) return null;
  const a = one.map((word) => word.trim()), b = other.map((word) => word.trim());
  const wide = b.length + 1, best = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * wide + j] = a[i] === b[j] ? best[(i + 1) * wide + j + 1] + 1
        : Math.max(best[(i + 1) * wide + j], best[i * wide + j + 1]);
  const inOne = new Uint8Array(a.length), inOther = new Uint8Array(b.length);
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) { inOne[i++] = 1; inOther[j++] = 1; }
    else if (best[(i + 1) * wide + j] >= best[i * wide + j + 1]) i++;
    else j++;
  }
  return { inOne, inOther, share: 2 * best[0] / Math.max(a.length + b.length, 1) };
}

// Yields the runs of common words and of other words, each as [is common, text].
function* runs(list, known) {
  for (let start = 0; start < list.length;) {
    let end = start;
    while (end < list.length && known[end] === known[start]) end++;
    yield [Boolean(known[start]), list.slice(start, end).join("")];
    start = end;
  }
}
