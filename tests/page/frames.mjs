// Owns: checking every frame that crossed the socket, in both directions, against docs/websocket.schema.json.

import Ajv2020 from 'ajv/dist/2020.js';
import { readFile } from 'node:fs/promises';

const schema = JSON.parse(await readFile(new URL('../../docs/websocket.schema.json', import.meta.url)));
const ajv = new Ajv2020({ allErrors: true, strict: false });
ajv.addSchema(schema);
const byType = new Map();

/** Why a frame is not as the schema says, or `null`. */
export function fault(direction, text) {
  const frame = JSON.parse(text);
  const names = schema.$defs[direction === 'sent' ? 'client_frame' : 'server_frame'].oneOf.map(({ $ref }) => $ref.split('/').at(-1));
  if (!names.includes(frame.type)) return `${direction}: unknown type in ${text.slice(0, 200)}`;
  const check = byType.get(frame.type) ?? ajv.compile({ $ref: `${schema.$id}#/$defs/${frame.type}` });
  byType.set(frame.type, check);
  return check(frame) ? null : `${direction} ${frame.type}: ${ajv.errorsText(check.errors)} in ${text.slice(0, 400)}`;
}
