// A notification of the browser when a request has ended while the page is hidden.

// Asks for the permission. Browsers only let a person's own action do this.
export const allowNotifications = () => {
  if ("Notification" in window && Notification.permission === "default")
    Notification.requestPermission()?.catch(() => {}); // older browsers return nothing
};

export function notify(text) {
  if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
  try {
    new Notification("longtake", { body: text }).addEventListener("click", () => window.focus());
  } catch {
    /* phones allow it only to service workers */
  }
}
