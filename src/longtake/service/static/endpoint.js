// Begins to load the endpoint of this page before the scripts of the form are here.

import "./shell.js"; // asks for a key, if the server wants one
import { loadEndpoint } from "./schema.js";

// The endpoint, as `loadEndpoint` returns it.
export const loading = loadEndpoint(document.querySelector("[data-endpoint]").dataset.endpoint);
loading.catch(() => {}); // the page that waits for it shows the error
