// Follows Airflow's own light or dark choice, otherwise the system's. Not a module, so that it runs before the first paint.
(() => {
  const own = document.documentElement;
  const airflow = (() => {
    try {
      return window.parent !== window ? window.parent.document.documentElement : null;
    } catch {
      return null; // another origin frames us
    }
  })();
  const follow = () => {
    const theme = ["dark", "light"].find((name) => airflow?.classList.contains(name));
    own.style.colorScheme = theme ?? "light dark";
  };
  follow();
  if (airflow) new MutationObserver(follow).observe(airflow, { attributes: true, attributeFilter: ["class"] });
})();
