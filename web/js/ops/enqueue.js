// Owns: the form that has a job run: its kind, its arguments as JSON, and what else a task may be told.

import { element } from '../element.js';
import { FieldForm, jsonField } from './field-form.js';

const PRIORITIES = ['critical', 'high', 'normal', 'low'];

/** The form, in `dialog`; `send(task)` is a promise. */
export function enqueueForm(dialog, send) {
  const priorities = [element('option', { value: '' }, "the job's own"), ...PRIORITIES.map((name) => element('option', { value: name }, name))];
  const fields = {
    kind: { label: 'Kind', input: element('select', {}) },
    arguments: jsonField('arguments', 'Arguments, as JSON'),
    priority: { label: 'Priority', input: element('select', {}, priorities) },
    delay: { label: 'Delay in seconds', input: element('input', { inputmode: 'decimal', placeholder: 'at once' }), read: seconds },
    tenant: { label: 'Tenant', input: element('input', { autocomplete: 'off', spellcheck: 'false', placeholder: "the deployment's own" }) },
  };
  return new FieldForm(dialog, { title: 'Enqueue a task', action: 'Enqueue', testid: 'enqueue', rows: [['kind'], ['arguments'], ['priority', 'delay', 'tenant']], fields, send });
}

function seconds(text) {
  const number = Number(text);
  if (Number.isFinite(number)) return number;
  throw Object.assign(new Error('That is no number of seconds.'), { param: 'delay' });
}
