// Owns: what the page knows of each answer, and the rules by which frames change it: nothing is shown twice, a hole is asked
// for again, a newer epoch replaces an older one. Knows no DOM. Protocol: docs/websocket.md.

/** Phases in which the server may still send text. */
const RUNNING = new Set(['sending', 'waiting', 'streaming']);

/** One answer. `phase` is `sending`, `waiting`, `streaming`, or final: `complete`, `cancelled`, `interrupted`, `failed`. */
export class Answer {
  constructor(fields) {
    Object.assign(this, {
      id: null, conversation: null, question: null, reply: null, stream: null, content: '', epoch: 1, seq: 0, text: '',
      reasoning: '', phase: 'sending', source: null, cache: null, usage: null, model: null, elapsed_ms: null, error: null,
      frame: null, resuming: false, cancelling: false, live: true, siblings: [],
    }, fields);
  }

  get running() {
    return RUNNING.has(this.phase);
  }
}

/** All answers that this page has asked for or watches. `send(frame)` says whether the frame went out; `onChange(answer, what)`. */
export class Answers {
  #byId = new Map();
  #byStream = new Map();
  #byReply = new Map();

  constructor(send, onChange) {
    this.send = send;
    this.onChange = onChange;
  }

  /** Asks `content` in `conversation` (`null`: a new one), after the answer `parent` (`null`: first of all; absent: at the end). */
  ask({ conversation, parent, content, model, cache }) {
    const frame = { type: 'send', id: requestId(), content };
    if (conversation) frame.conversation = conversation;
    if (conversation && parent !== undefined) frame.parent_id = parent;
    return this.#start(frame, { conversation, content, model }, cache);
  }

  /** Asks the question of a stored answer again; `cache` `null` means the server's own choice, which is `refresh`. */
  regenerate(answer, { model, cache }) {
    const frame = { type: 'regenerate', id: requestId(), message: answer.reply };
    const siblings = [...answer.siblings, null];
    return this.#start(frame, { conversation: answer.conversation, question: answer.question, content: answer.content, model, siblings }, cache);
  }

  /** The answer of a message as REST gave it: the live one where there is one, and a running one is watched from here on. */
  stored(conversation, message) {
    const known = this.#byReply.get(message.id);
    if (known) return Object.assign(known, { siblings: message.siblings ?? known.siblings });
    const answer = new Answer({
      conversation, question: message.parent, reply: message.id, stream: message.stream, epoch: message.epoch,
      text: message.content, reasoning: message.reasoning ?? '', phase: message.state, error: message.error, cache: message.cache,
      usage: message.usage, model: message.model, elapsed_ms: message.elapsed_ms, siblings: message.siblings ?? [], live: false,
    });
    if (answer.phase !== 'streaming') return answer;
    answer.live = true;
    this.#adopt(answer);
    this.#resume(answer, 0);
    return answer;
  }

  /** Stops an answer; before its stream has a name, the wish is kept until the ack. */
  cancel(answer) {
    if (!answer.running) return;
    answer.cancelling = true;
    if (answer.stream) this.send({ type: 'cancel', stream: answer.stream });
  }

  /** The running answer of a conversation, or `undefined`. */
  runningIn(conversation) {
    return this.#all().find((answer) => answer.running && answer.conversation === conversation);
  }

  /** Whether anything would be lost by not reconnecting. */
  get anyRunning() {
    return this.#all().some((answer) => answer.running);
  }

  /** Drops what belongs to a deleted conversation. */
  forget(conversation) {
    for (const answer of this.#all()) {
      if (answer.conversation !== conversation) continue;
      answer.phase = 'cancelled';
      for (const map of [this.#byId, this.#byStream, this.#byReply]) {
        for (const [key, value] of map) if (value === answer) map.delete(key);
      }
    }
  }

  /** After a `welcome`: questions without an ack are sent again under their old id, running answers are resumed. Returns how many. */
  reconnected() {
    const running = this.#all().filter((answer) => answer.running);
    for (const answer of running) {
      answer.resuming = false;
      if (!answer.stream) {
        this.send(answer.frame);
        continue;
      }
      this.#resume(answer, answer.seq);
      if (answer.cancelling) this.send({ type: 'cancel', stream: answer.stream });
    }
    return running.filter((answer) => answer.stream).length;
  }

  /** Takes one frame of the server. */
  receive(frame) {
    if (frame.type === 'ack') return this.#acknowledged(frame);
    if (frame.type === 'error' && !frame.stream) return this.#refused(frame);
    const answer = this.#byStream.get(frame.stream);
    if (!answer || !answer.running || frame.epoch < answer.epoch) return;
    const take = {
      delta: () => this.#delta(answer, frame),
      status: () => this.#status(answer, frame),
      snapshot: () => this.#snapshot(answer, frame),
      done: () => this.#done(answer, frame),
      cancelled: () => this.#end(answer, frame, 'cancelled'),
      error: () => this.#failed(answer, frame),
      gone: () => this.onChange(answer, 'gone'),
    }[frame.type];
    take?.();
  }

  #start(frame, fields, cache) {
    if (fields.model) frame.model = fields.model;
    if (cache) frame.cache = cache;
    const answer = new Answer({ ...fields, id: frame.id, frame });
    this.#byId.set(answer.id, answer);
    this.send(frame);
    return answer;
  }

  #acknowledged(frame) {
    const answer = this.#byId.get(frame.id);
    if (!answer || answer.stream) return;
    answer.conversation = frame.conversation;
    answer.question = frame.message;
    answer.reply = frame.reply;
    answer.siblings = answer.siblings.length > 0 ? answer.siblings.map((id) => id ?? frame.reply) : [frame.reply];
    answer.stream = frame.stream;
    answer.epoch = frame.epoch;
    answer.phase = 'waiting';
    answer.frame = null;
    this.#adopt(answer);
    if (answer.cancelling) this.send({ type: 'cancel', stream: answer.stream });
    this.onChange(answer, 'ack');
  }

  /** An error about a frame, not a stream: it ends the question it names. One that waits out a restart is asked again then. */
  #refused(frame) {
    const answer = this.#byId.get(frame.id);
    if (!answer || !answer.running) return this.onChange(null, 'error', frame);
    if (frame.code === 'draining') return undefined;
    answer.error = frame;
    answer.phase = 'failed';
    return this.onChange(answer, 'end');
  }

  #delta(answer, frame) {
    const newEpoch = frame.epoch > answer.epoch;
    const have = newEpoch ? 0 : answer.seq;
    if (frame.seq <= have) return;
    if (frame.from !== have + 1) {
      this.#resume(answer, have);
      return;
    }
    // The first delta begins the text: a stored answer came with what was saved of it, which stood in until now.
    if (have === 0) {
      answer.text = '';
      answer.reasoning = '';
    }
    answer.epoch = frame.epoch;
    answer.seq = frame.seq;
    answer.text += frame.text;
    answer.reasoning += frame.reasoning ?? '';
    answer.phase = 'streaming';
    answer.resuming = false;
    this.onChange(answer, 'text');
  }

  #status(answer, frame) {
    answer.source = frame.kind;
    if (frame.epoch > answer.epoch) {
      // The provider failed in mid-answer, and another has begun anew: what was shown is void.
      answer.epoch = frame.epoch;
      answer.seq = 0;
      answer.text = '';
      answer.reasoning = '';
    }
    if (frame.cache) answer.cache = frame.cache;
    this.onChange(answer, 'status');
  }

  #snapshot(answer, frame) {
    answer.epoch = frame.epoch;
    answer.seq = frame.seq;
    answer.text = frame.text;
    answer.reasoning = frame.reasoning ?? '';
    answer.phase = 'streaming';
    answer.resuming = false;
    this.onChange(answer, 'text');
  }

  #done(answer, frame) {
    if (!this.#whole(answer, frame)) return;
    answer.cache = frame.cache;
    answer.usage = frame.usage;
    answer.model = frame.model;
    answer.elapsed_ms = frame.elapsed_ms;
    this.#end(answer, frame, 'complete');
  }

  #failed(answer, frame) {
    answer.error = frame;
    this.#end(answer, frame, frame.code === 'interrupted' ? 'interrupted' : 'failed');
  }

  #end(answer, frame, phase) {
    if (phase === 'cancelled' && !this.#whole(answer, frame)) return;
    answer.phase = phase;
    answer.resuming = false;
    this.onChange(answer, 'end');
  }

  /** Whether all text up to a terminal frame is here; if not, it is asked for, and the terminal frame comes again after it. */
  #whole(answer, frame) {
    if (frame.epoch === answer.epoch && frame.seq === answer.seq) return true;
    this.#resume(answer, frame.epoch === answer.epoch ? answer.seq : 0);
    return false;
  }

  /** Frames already under way when a `resume` goes out would each find the same hole, so one is asked for at a time. */
  #resume(answer, after) {
    if (answer.resuming) return;
    answer.resuming = this.send({ type: 'resume', stream: answer.stream, epoch: answer.epoch, after });
  }

  #adopt(answer) {
    this.#byStream.set(answer.stream, answer);
    this.#byReply.set(answer.reply, answer);
  }

  #all() {
    return [...new Set([...this.#byId.values(), ...this.#byStream.values()])];
  }
}

/** 128 random bits. `crypto.randomUUID` exists on secure origins only, and a chat on a home network has none. */
function requestId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
