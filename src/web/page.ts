// All of the page: the phone, and the gateway's side of it.
import "./phone/main.js";
import "./console/console.js";
