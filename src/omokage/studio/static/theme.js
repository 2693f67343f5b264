// Runs before anything is painted, so that a page in the dark never flashes white.

{
  let theme = null;
  try {
    theme = localStorage.getItem("omokage-studio:theme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (theme === '"dark"' || theme === '"light"') document.documentElement.dataset.theme = JSON.parse(theme);
}
