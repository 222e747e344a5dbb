// Owns: light or dark. The system decides until somebody presses the toggle; from then on their choice, kept in this browser.
// Loaded with blocking="render" so that a dark page never flashes white.

const STORED = 'ish.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

const chosen = () => localStorage.getItem(STORED);
const isDark = () => (chosen() ?? (system.matches ? 'dark' : 'light')) === 'dark';

function apply() {
  document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
  document.getElementById('theme-toggle')?.setAttribute('aria-pressed', String(isDark()));
}

apply();
system.addEventListener('change', apply);

/** Makes `toggle` switch between light and dark. */
export function bindThemeToggle(toggle) {
  apply();
  toggle.addEventListener('click', () => {
    localStorage.setItem(STORED, isDark() ? 'light' : 'dark');
    apply();
  });
}
