// In scripts the gateway serves, JsSIP is the one that /jssip.js defines.
module.exports = globalThis.JsSIP;
