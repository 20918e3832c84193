// The theme puts a wide table into a box that scrolls, which keys reach only where it takes the focus.
const reach = () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) box.tabIndex = 0;
};
new MutationObserver(reach).observe(document.body, {childList: true, subtree: true});
reach();
