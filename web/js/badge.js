// Owns: the badge under an answer, which says where it came from and what that was worth.

import { element, icon } from './element.js';
import { age, duration, money, plural, similarity } from './units.js';

const KINDS = {
  exact: { name: 'Exact hit', iconName: 'bolt', means: 'The same question was answered before, word for word.' },
  normalized: { name: 'Normalized hit', iconName: 'equals', means: 'The same question but for case, spaces, punctuation or politeness.' },
  semantic: { name: 'Semantic hit', iconName: 'waves', means: 'The same question in other words, and every guard agreed.' },
  collapsed: { name: 'Collapsed', iconName: 'merge', means: 'The same question was being answered at that moment; both share one answer.' },
  bypass: { name: 'Bypass', iconName: 'skip', means: 'The cache was not asked.' },
  miss: { name: 'Miss', iconName: 'spark', means: 'Nothing in the cache answers this, so the model was asked.' },
};

/** The kind of a cache outcome: how it was hit, or `miss`, `bypass`, `collapsed`. */
export function badgeKind(cache) {
  return cache.status === 'hit' ? (cache.how ?? 'exact') : cache.status;
}

/** One sentence for a screen reader when the answer has ended. */
export function spokenBadge(cache, elapsed_ms) {
  const kind = KINDS[badgeKind(cache)];
  return elapsed_ms === null ? kind.name : `${kind.name} in ${duration(elapsed_ms)}`;
}

/** The badge of an answer, or `null` while nothing is known. `elapsed_ms` is null as long as the answer runs. */
export function badge({ cache, elapsed_ms, usage }) {
  if (!cache) return null;
  const kind = badgeKind(cache);
  const { name, iconName, means } = KINDS[kind];
  const facts = factsOf(cache, kind, elapsed_ms, usage);
  const time = elapsed_ms === null ? null : element('span', { class: 'badge-time' }, duration(elapsed_ms));
  return element(
    'span', {
      class: 'badge', 'data-testid': 'badge', 'data-state': kind, 'data-tier': cache.tier, 'data-similarity': cache.similarity, title: means,
    },
    element('span', { class: 'badge-pill' }, icon(iconName), element('strong', {}, name), time),
    facts.length === 0 ? null : element('span', { class: 'badge-facts' }, facts.map((fact) => element('span', { class: fact.className }, fact.text))),
  );
}

function factsOf(cache, kind, elapsed_ms, usage) {
  const facts = [];
  const add = (text, className) => facts.push({ text, className });
  if (cache.saved) add(`saved ${savings(cache.saved)}`, 'badge-saved');
  if (kind === 'semantic' && cache.similarity !== null) add(`similarity ${similarity(cache.similarity)}`);
  if (cache.tier) add(cache.tier.toUpperCase());
  if (cache.status === 'hit' && cache.age_s >= 60) add(`${age(cache.age_s)} old`);
  if (cache.status !== 'hit' && elapsed_ms !== null && usage) add(plural(usage.input_tokens + usage.output_tokens, 'token'));
  if (cache.status !== 'hit' && cache.stored) add('stored for next time');
  if (cache.status !== 'hit' && cache.reason) add(cache.reason);
  return facts;
}

/** `812 ms, 214 tokens and $0.0021`: only what is known and more than nothing. */
function savings({ input_tokens, output_tokens, ms, usd }) {
  const parts = [];
  if (ms >= 1) parts.push(duration(ms));
  if (input_tokens + output_tokens > 0) parts.push(plural(input_tokens + output_tokens, 'token'));
  if (usd > 0) parts.push(money(usd));
  return parts.length > 1 ? `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}` : parts[0] ?? 'a call';
}
