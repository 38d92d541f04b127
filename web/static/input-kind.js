// The kind of answer that a request for input needs, from its schema. Pure.

/**
 * 'text': any string. 'review': approve, or send back with a remark. 'json': anything else, typed as JSON.
 * @returns {'text' | 'review' | 'json'}
 */
export function kindOf(schema) {
  const { type, enum: choices, properties } = schema ?? {};
  if (type === 'string' && choices === undefined) return 'text';
  const isReview = properties?.approve?.type === 'boolean' && properties?.remark?.type === 'string';
  return isReview ? 'review' : 'json';
}

/** An answer in words: {as: 'approved' | 'returned' | 'text' | 'json', text}. */
export function inWords(kind, value) {
  if (kind === 'review') {
    const remark = typeof value?.remark === 'string' ? value.remark.trim() : '';
    return { as: value?.approve === true ? 'approved' : 'returned', text: remark };
  }
  if (typeof value === 'string') return { as: 'text', text: value };
  return { as: 'json', text: JSON.stringify(value, null, 2) ?? '' };
}
