// Errors that are not the service's own have one section together.
const shown = () => document.getElementById(location.hash.slice(1)) ?? document.getElementById("other-errors");
const show = () => {
  if (location.hash && shown().id !== location.hash.slice(1)) location.replace(`#${shown().id}`);
};
window.addEventListener("hashchange", show);
show();
document.body.dataset.ready = "true";
