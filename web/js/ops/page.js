// Owns: the page of operations as a whole: which part of it is shown, the key, and that what is shown is kept up to date.

import { Api } from '../api.js';
import { confirmed } from '../confirm.js';
import { LoginDialog } from '../login.js';
import { bindThemeToggle } from '../theme.js';
import { Live } from './live.js';
import { TasksPage } from './tasks-page.js';
import { WorkflowsPage } from './workflows-page.js';

const NO_ADMIN = 'That key is good, but it has not the admin role.';

const part = (id) => document.getElementById(id);

const loginDialog = new LoginDialog(part('key-dialog'), () => live.start());
const api = new Api(() => refused());
const live = new Live(part('live'), () => shown.look(), (error) => error.status === 403 && refused(NO_ADMIN));

/** What the parts of the page need of it. */
const page = {
  api,
  main: part('main'),
  drawer: part('drawer'),
  form: part('form-dialog'),
  confirmed: (question) => confirmed(part('confirm'), question),
  /** Says what came of something that somebody did here, to those who see and to those who hear. */
  announce(text) {
    part('announcer').textContent = text;
    live.note(text);
  },
  /** Shows at once what has changed by it. */
  refresh: () => live.now(),
};

const PARTS = { tasks: TasksPage, workflows: WorkflowsPage };
const name = location.pathname.endsWith('/workflows') ? 'workflows' : 'tasks';
document.querySelector(`.ops-nav a[href="${name}"]`).setAttribute('aria-current', 'page');
const shown = new PARTS[name](page);
bindThemeToggle(part('theme-toggle'));
live.start();

function refused(why) {
  live.stop();
  loginDialog.ask(why);
}
