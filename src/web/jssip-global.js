// In scripts the gateway serves, JsSIP is the one that /jssip.js defines, which they load after
// themselves: it is looked up when it is used.
module.exports = {
  get UA() {
    return globalThis.JsSIP.UA;
  },
  get WebSocketInterface() {
    return globalThis.JsSIP.WebSocketInterface;
  },
};
