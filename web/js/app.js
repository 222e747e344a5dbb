// Owns: the page as a whole: which conversation is open, and who is told what. Every part is made once, here.

import { Answers } from './answers.js';
import { Api } from './api.js';
import { spokenBadge } from './badge.js';
import { Composer } from './composer.js';
import { confirmed } from './confirm.js';
import { ConnectionLine } from './connection-line.js';
import { ConversationList } from './conversation-list.js';
import { emptyPage, nextExample } from './examples.js';
import { LoginDialog } from './login.js';
import { menuIsOpen, openMenu } from './menu.js';
import { ModelPicker } from './model-picker.js';
import { Search } from './search.js';
import { Sidebar } from './sidebar.js';
import { Socket } from './socket.js';
import { bindThemeToggle } from './theme.js';
import { Transcript } from './transcript.js';
import { duration, money, plural } from './units.js';
import { WhyDrawer } from './why.js';

/** What a `send` frame holds beside its content, generously. */
const FRAME_OVERHEAD_BYTES = 1024;

const part = (id) => document.getElementById(id);

/** Who this is, once it is known. */
let me = null;
/** The open conversation; `null` in a new chat. */
let current = null;
/** Grows whenever another conversation is opened, so that a page which arrives late is not shown in the wrong place. */
let visit = 0;
/** The answer of a new chat whose conversation has no name yet. */
let unnamed = null;

const loginDialog = new LoginDialog(part('key-dialog'), loggedIn);
const api = new Api(() => loginDialog.ask(me ? 'Your login has ended.' : ''));
const line = new ConnectionLine(part('connection'), () => socket.open(), () => loginDialog.ask('Your login ends soon.'));
const models = new ModelPicker(part('model-picker'));
const sidebar = new Sidebar({
  shell: part('shell'), panel: part('sidebar'), main: part('main'), toggle: part('sidebar-toggle'), close: part('sidebar-close'), scrim: part('scrim'),
});
const why = new WhyDrawer(part('why-drawer'));
const socket = new Socket(receive, connectionChanged);
const answers = new Answers((frame) => socket.send(frame), answerChanged);
const transcript = new Transcript(part('transcript'), part('jump'), {
  why: (answer) => why.show(() => api.why(answer.conversation, answer.reply)),
  reportWrong,
  regenerate: (answer) => again(answer, null),
  // `refresh` would skip the cache; a cut answer is welcome to come from it.
  askAgain: (answer) => again(answer, { mode: 'on' }),
  goOn: () => ask('Please continue where you stopped.'),
  edit,
  step,
});
const list = new ConversationList(part('conversation-list'), { load: (cursor) => api.conversations(cursor), rename, download, remove });
new Search(part('search'), list, {
  find: (words, offset) => api.search(words, offset), onFault: (error) => error.status !== 401 && line.showFault(error.message),
});
const composer = new Composer(
  { form: part('composer'), input: part('composer-input'), send: part('send'), stop: part('stop') },
  { onSend: ask, onStop: stop },
);

bindThemeToggle(part('theme-toggle'));
part('account').addEventListener('click', (event) => openMenu(event.currentTarget, [
  { label: 'Log out', iconName: 'log-out', testid: 'log-out', onChoose: () => logOut(false) },
  { label: 'Log out everywhere', iconName: 'log-out', testid: 'log-out-everywhere', onChoose: () => logOut(true) },
]));
part('new-chat').addEventListener('click', () => go(null));
part('conversation-list').addEventListener('click', (event) => event.target.closest('a') && sidebar.closeDrawer());
addEventListener('hashchange', () => open(addressed()));
document.addEventListener('keydown', shortcut);
part('skip').addEventListener('click', (event) => {
  // Followed as a link, it would change the address, which names the open conversation.
  event.preventDefault();
  composer.focus();
});
await loginDialog.takeEarlier();
if (!me) start();

/** The same person goes on where they were; for another one everything begins anew. */
function loggedIn(who) {
  const isSame = me && ['name', 'tenant', 'user'].every((member) => me[member] === who[member]);
  if (me && !isSame) {
    restart();
    return;
  }
  const isFirst = !me;
  shown(who);
  if (isFirst) {
    start();
    return;
  }
  socket.open();
  loadList();
}

/** Begins, and begins again with the first login. */
function start() {
  socket.open();
  loadList();
  open(addressed());
  if (!me) api.who().then(shown, () => {});
}

function shown(who) {
  me = who;
  part('account').hidden = who.by !== 'cookie';
  part('operations').hidden = who.role !== 'admin';
  part('account').title = [who.name, who.user].filter(Boolean).join(', ');
}

async function logOut(everywhere) {
  try {
    await api.logOut({ everywhere });
  } catch (error) {
    if (error.status !== 401) {
      line.showFault(error.message);
      return;
    }
  }
  restart();
}

/** Nothing of what was on the page stays. */
function restart() {
  history.replaceState(null, '', location.pathname);
  location.reload();
}

/** The conversation that the address names, or `null`. */
function addressed() {
  const match = /^#\/c\/(.+)$/.exec(location.hash);
  return match ? decodeURIComponent(match[1]) : null;
}

function go(conversation) {
  history.pushState(null, '', conversation ? `#/c/${encodeURIComponent(conversation)}` : location.pathname);
  open(conversation);
  sidebar.closeDrawer();
  composer.focus();
}

async function open(conversation) {
  current = conversation;
  unnamed = null;
  visit += 1;
  list.select(conversation);
  if (!conversation) {
    transcript.clear(emptyPage(ask));
    refreshComposer();
    return;
  }
  transcript.clear();
  refreshComposer();
  await loadMessages(conversation, visit);
}

async function loadMessages(conversation, ofVisit, cursor) {
  const page = await branchPage(conversation, ofVisit, cursor);
  if (page) showPage(conversation, ofVisit, page);
}

/** A page of the selected branch; `null` where it could not be had, or nobody waits for it any more. */
async function branchPage(conversation, ofVisit, cursor) {
  try {
    const page = await api.messages(conversation, { cursor, leaf: 'selected' });
    return ofVisit === visit ? page : null;
  } catch (error) {
    if (ofVisit === visit && error.status !== 401) couldNotOpen(conversation, error);
    return null;
  }
}

function showPage(conversation, ofVisit, page) {
  const older = page.next_cursor ? () => loadMessages(conversation, ofVisit, page.next_cursor) : null;
  transcript.prepend(exchanges(conversation, page.data), older);
  refreshComposer();
}

/** Goes to the branch of the message `to`, which stands beside `from`, and stays where the reader looks. */
async function step(from, to) {
  const [conversation, ofVisit] = [current, visit + 1];
  visit = ofVisit;
  const top = transcript.topOf(from);
  try {
    await api.select(conversation, to);
  } catch (error) {
    line.showFault(error.message);
    return;
  }
  const page = await branchPage(conversation, ofVisit);
  if (!page) return;
  transcript.clear();
  showPage(conversation, ofVisit, page);
  transcript.hold(to, top);
}

function couldNotOpen(conversation, error) {
  if (error.status === 404) list.drop(conversation);
  go(null);
  line.showFault(error.status === 404 ? 'That conversation is no longer here.' : error.message);
}

/** The questions of a branch with their answers, in order; a page may begin with an answer. */
function exchanges(conversation, messages) {
  const found = [];
  for (const message of messages) {
    if (message.role === 'user') {
      const { id, parent, content, siblings } = message;
      found.push({ question: { id, parent, content, siblings }, answer: null });
      continue;
    }
    // A system message is the conversation's setting, not a part of the talk.
    if (message.role !== 'assistant') continue;
    const answer = answers.stored(conversation, message);
    if (found.at(-1)?.question?.id === message.parent) found.at(-1).answer = answer;
    else found.push({ question: null, answer });
  }
  return found;
}

/** Asks in the open conversation, at its end; says whether the question was taken. */
function ask(content) {
  return put({ id: null, parent: transcript.end?.reply, content, siblings: [] });
}

/** Asks an edited question beside the old one. */
function edit(question, content) {
  return put({ id: null, parent: question.parent ?? null, content, siblings: [...question.siblings, null] }, question);
}

function put(question, edited = null) {
  const { parent, content } = question;
  if (composer.busy) return false;
  // Sent, it would close the socket for good; so it stays in the box, to be cut.
  if (new Blob([JSON.stringify(content)]).size + FRAME_OVERHEAD_BYTES > socket.frame_bytes) {
    line.showFault('That message is longer than the server accepts.');
    return false;
  }
  part('transcript').querySelector('.next-example')?.remove();
  const answer = answers.ask({ conversation: current, parent, content, model: models.chosen });
  if (!current) unnamed = answer;
  transcript.append(question, answer, edited);
  refreshComposer();
  return true;
}

function again(earlier, cache) {
  if (composer.busy) return;
  if (!earlier.reply) {
    // The question itself was refused, so there is no message that could be asked again.
    ask(earlier.content);
    return;
  }
  const answer = answers.regenerate(earlier, { model: models.chosen, cache });
  answer.content = transcript.questionOf(earlier)?.content ?? earlier.content;
  transcript.replace(earlier, answer);
  refreshComposer();
}

function stop() {
  const answer = runningHere();
  if (answer) answers.cancel(answer);
}

function runningHere() {
  return unnamed?.running ? unnamed : current && answers.runningIn(current);
}

function refreshComposer() {
  composer.setBusy(Boolean(runningHere()));
}

function receive(frame) {
  if (frame.type !== 'welcome') {
    answers.receive(frame);
    return;
  }
  models.offer(frame.models, frame.default_model);
  line.show('online', { resumed: answers.reconnected() });
}

function connectionChanged(state, detail) {
  // `online` is shown once the running answers were asked for, with their number.
  if (state !== 'online') line.show(state, detail);
  if (state === 'refused' && detail.code === 4401) loginDialog.ask();
  if (state === 'refused' && detail.code === 4403) loginDialog.ask('Your login has ended.');
}

function answerChanged(answer, what, frame) {
  if (!answer) {
    line.showFault(frame.message);
    return;
  }
  if (what === 'ack') acknowledged(answer);
  if (what === 'gone') recall(answer);
  if (what === 'end') ended(answer);
  transcript.update(answer);
  list.setRunning(answer.conversation, answer.running);
  if (answer.conversation === current || answer === unnamed) refreshComposer();
}

/** The question is stored: a new conversation gets its address and its place in the list. */
function acknowledged(answer) {
  if (answer === unnamed) {
    unnamed = null;
    current = answer.conversation;
    history.replaceState(null, '', `#/c/${encodeURIComponent(current)}`);
    list.select(current);
  }
  transcript.named(answer);
  const title = list.has(answer.conversation) ? {} : { title: answer.content };
  list.put({ id: answer.conversation, updated_at: new Date().toISOString(), ...title });
}

async function ended(answer) {
  if (answer.phase === 'complete') {
    part('announcer').textContent = answer.cache ? `Answer complete. ${spokenBadge(answer.cache, answer.elapsed_ms)}.` : 'Answer complete.';
    offerNext(answer);
  }
  loadSavings();
  if (!answer.conversation) return;
  const conversation = await api.conversation(answer.conversation).catch(() => null);
  if (conversation) list.put(conversation);
}

function offerNext(answer) {
  if (answer.conversation !== current || transcript.last !== answer) return;
  const offer = nextExample(answer.content, ask);
  if (offer) transcript.column.append(offer);
}

/** The server no longer knows the stream; the stored message says how it ended. */
async function recall(answer) {
  answer.phase = 'interrupted';
  const page = await api.messages(answer.conversation).catch(() => null);
  const message = page?.data.find((each) => each.id === answer.reply);
  if (message) {
    const { content, state, cache, usage, elapsed_ms, error } = message;
    Object.assign(answer, { text: content, phase: state === 'streaming' ? 'interrupted' : state, cache, usage, elapsed_ms, error });
  }
  answerChanged(answer, 'end');
}

async function reportWrong(answer) {
  const { evicted, blocked } = await api.reportWrong(answer.reply);
  const done = [evicted && 'was removed from the cache', blocked && 'will not be served for this question again'].filter(Boolean);
  return done.length > 0 ? `Thank you. The answer ${done.join(' and ')}.` : 'Thank you. The answer was no longer in the cache.';
}

async function rename(conversation, title) {
  list.put({ ...conversation, title });
  try {
    list.put(await api.rename(conversation.id, title));
  } catch (error) {
    list.put(conversation);
    line.showFault(error.message);
  }
}

/** Gives the browser a conversation to keep as a file. */
async function download(conversation, format) {
  try {
    const { name, blob } = await api.exported(conversation.id, format);
    const address = URL.createObjectURL(blob);
    const link = document.createElement('a');
    Object.assign(link, { href: address, download: name });
    link.click();
    URL.revokeObjectURL(address);
  } catch (error) {
    line.showFault(error.message);
  }
}

async function remove(conversation) {
  const yes = await confirmed(part('confirm'), {
    title: 'Delete this chat?', text: `“${conversation.title || 'New chat'}” and its messages will be gone for good.`, action: 'Delete',
  });
  if (!yes) return;
  const running = answers.runningIn(conversation.id);
  if (running) answers.cancel(running);
  try {
    await api.deleteConversation(conversation.id);
  } catch (error) {
    if (error.status !== 404) {
      line.showFault(error.message);
      return;
    }
  }
  answers.forget(conversation.id);
  list.drop(conversation.id);
  if (conversation.id === current) go(null);
}

async function loadList() {
  await list.reload().catch((error) => error.status !== 401 && line.showFault(error.message));
  loadSavings();
}

/** What the cache has saved so far, under the list; silently absent where it cannot be had. */
async function loadSavings() {
  const stats = await api.cacheStats().catch(() => null);
  if (!stats?.saved) return;
  const { input_tokens: input, output_tokens: output, ms, usd } = stats.saved;
  const facts = [ms >= 1 && duration(ms), input + output > 0 && plural(input + output, 'token'), usd > 0 && money(usd)].filter(Boolean);
  part('saved').hidden = facts.length === 0;
  part('saved').textContent = `Saved so far: ${facts.join(', ')}`;
}

function shortcut(event) {
  const inDialog = document.querySelector('dialog[open]') !== null;
  if (inDialog || event.isComposing || menuIsOpen()) return;
  const typing = event.target.matches('input, textarea, select');
  const isFind = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k';
  if (isFind || (event.key === '/' && !typing)) {
    event.preventDefault();
    composer.focus();
  } else if (event.key === 'Escape' && !sidebar.closeDrawer()) {
    stop();
  }
}
