// Follows Airflow's own light or dark choice, else the system's. Runs before the first paint, hence no module.
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
