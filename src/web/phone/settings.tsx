import { canChooseSpeaker, type Device, type Finding } from "@webtrunk/phone";
import type { App } from "./app.js";
import { Icon } from "./icons.js";
import type { Choice } from "./store.js";
import { t } from "./texts.js";

interface Choosing {
  app: App;
  what: keyof Choice;
  id: string;
  label: string;
  devices: Device[];
}

function Chooser({ app, what, id, label, devices }: Choosing) {
  const chosen = app.choice[what];
  return (
    <>
      <label for={id}>{label}</label>
      <select
        id={id}
        value={devices.some((device) => device.id === chosen) ? chosen : ""}
        onChange={(event) => void app.choose(what, event.currentTarget.value)}
      >
        <option value="">{t.devices.system}</option>
        {devices.map((device) => (
          <option key={device.id} value={device.id}>
            {device.name}
          </option>
        ))}
      </select>
    </>
  );
}

function Found({ finding }: { finding: Finding }) {
  return (
    <li class={finding.good ? "up" : "down"}>{`${finding.good ? "✓" : "✗"} ${finding.text}`}</li>
  );
}

/** Devices by name, the line check, and the login. */
export function Settings({ app }: { app: App }) {
  const { microphones, speakers } = app.devices;
  const rings = app.phone?.ringer;
  // Each of these would disturb a call, and logging out would end it.
  const busy = app.calls.length > 0;
  return (
    <details
      id="devices"
      class="card"
      onToggle={(event) => {
        if (event.currentTarget.open) void app.lookAround();
      }}
    >
      <summary>{t.devices.title}</summary>
      <Chooser
        app={app}
        what="microphone"
        id="microphone"
        label={t.devices.microphone}
        devices={microphones}
      />
      {canChooseSpeaker() && (
        <>
          <Chooser
            app={app}
            what="speaker"
            id="speaker"
            label={t.devices.speaker}
            devices={speakers}
          />
          <Chooser
            app={app}
            what="ring"
            id="ring-device"
            label={t.devices.ring}
            devices={speakers}
          />
        </>
      )}
      <div class="row">
        <button
          id="try-ring"
          type="button"
          disabled={busy}
          onClick={() => {
            rings?.play("ring");
            setTimeout(() => rings?.stop(), 1500);
          }}
        >
          <Icon name="bell" />
          {t.devices.ringOnce}
        </button>
        <button
          id="check"
          type="button"
          disabled={app.checking || busy}
          onClick={() => void app.check()}
        >
          {t.devices.check}
        </button>
      </div>
      <ul id="report" aria-live="polite">
        {app.report.map((finding) => (
          <Found key={finding.text} finding={finding} />
        ))}
      </ul>
      {!app.settings?.login && (
        <button
          id="log-out"
          type="button"
          disabled={busy}
          title={busy ? t.devices.inCall : ""}
          onClick={() => app.logOut()}
        >
          {t.devices.logOut(app.user)}
        </button>
      )}
    </details>
  );
}
