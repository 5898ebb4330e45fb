export { Call, type CallEnd, type CallEvents, type CallState, type Transferred } from "./call.js";
export { checkGateway, checkLine, checkMicrophone, type Finding } from "./check.js";
export { canChooseSpeaker, type Device, type Devices, listDevices } from "./devices.js";
export { Emitter } from "./emitter.js";
export { watchLevel } from "./level.js";
export { type Line, lineText } from "./line.js";
export { dialled } from "./number.js";
export {
  type CallOptions,
  callOptions,
  type Credentials,
  fromCredentials,
  Phone,
  type PhoneEvents,
  type PhoneOptions,
} from "./phone.js";
export { judge, type Mark, type Quality } from "./quality.js";
export {
  accountOf,
  instanceId,
  isPassing,
  type Kept,
  type KeptCall,
  keptCalls,
  type ResumedCall,
  type ResumeOptions,
  type ResumeRequest,
  resumable,
  resume,
  resumedCall,
} from "./resume.js";
export { Ringer, TOUCHES, type Tone } from "./ringer.js";
export { english, speak, type Texts } from "./texts.js";
export { type MicrophoneProblem, microphoneText, statusText } from "./words.js";
