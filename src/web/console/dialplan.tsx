// The dialplan: which route a number takes, and what the files say.

import { type Context, type Files, get, type Mark, send, type Tested } from "./api";
import { Button, Card, Coded, Head, Search, Wait } from "./parts";
import { failed, holds, link, Shared, useLoaded, useSearch } from "./store";
import { t } from "./texts";

/** Kept beside the views: what is typed, and the answer to it, outlive them. */
const answer = new Shared<Tested | null>(null);
const number = new Shared("");

/** What a route does, in the words of the gateway. */
const Steps = ({ steps }: { steps: string[] }) =>
  steps.map((step, n) => (
    <span key={n}>
      {n > 0 && `, ${t.dialplan.andThen} `}
      <span lang="en">{step}</span>
    </span>
  ));

function Tester({
  contexts,
  context,
  choose,
}: {
  contexts: Context[];
  context: string;
  choose: (c: string) => void;
}) {
  const [text, said] = [number.use(), answer.use()];
  const test = (event: Event) => {
    event.preventDefault();
    send<Tested>("/dialplan/test", "POST", { number: text, context }).then(
      (a) => answer.set(a),
      failed,
    );
  };
  return (
    <Card title={t.dialplan.tester}>
      <form class="inline" onSubmit={test}>
        <label>
          {t.dialplan.number}
          <input
            id="test-number"
            inputMode="tel"
            autocomplete="off"
            required
            value={text}
            onInput={(e) => number.set(e.currentTarget.value)}
          />
        </label>
        <label>
          {t.dialplan.context}
          <select value={context} onChange={(e) => choose(e.currentTarget.value)}>
            {contexts.map((c) => (
              <option key={c.context}>{c.context}</option>
            ))}
          </select>
        </label>
        <Button type="submit" kind="go">
          {t.dialplan.test}
        </Button>
      </form>
      <div aria-live="polite">
        {said && (
          <>
            <p>
              {t.dialplan.is(said.dialled, said.number)}
              {said.route ? (
                <>
                  {": "}
                  <b>{said.route}</b>, <Steps steps={said.steps} />
                </>
              ) : null}
            </p>
            {!said.route && <p class="said fault">{t.dialplan.none}</p>}
          </>
        )}
      </div>
    </Card>
  );
}

/** Routes in their order; beside each, once a number was tested, why it does not take it. */
function Routes({ context, said, find }: { context: Context; said: Tested | null; find: string }) {
  const routes = context.routes.filter((r) => holds(find, r.route, ...r.steps));
  const why = (name: string) => said?.considered.filter((c) => c.route === name) ?? [];
  return (
    <Card title={context.context}>
      {!routes.length && <p class="soft">{t.dialplan.noneFits}</p>}
      <ol class="routes">
        {routes.map((r) => {
          const considered = why(r.route);
          const hit = considered.some((c) => !c.why_not);
          return (
            <li key={r.route} class={hit ? "hit" : ""} value={context.routes.indexOf(r) + 1}>
              <p>
                {hit && "✓ "}
                <b>{r.route}</b>{" "}
                <span class="soft">
                  <Steps steps={r.steps} />
                </span>
              </p>
              {!hit &&
                considered.map((c) => (
                  <p class="soft" key={c.pattern}>
                    ✗ <code>{c.pattern}</code> <span lang="en">{c.why_not}</span>
                  </p>
                ))}
            </li>
          );
        })}
      </ol>
    </Card>
  );
}

const Remark = ({ mark }: { mark: Mark }) => (
  <span lang="en" class={mark.warning ? "mark" : "mark wrong"}>
    {mark.warning ? "⚠" : "✗"} {mark.message}. <Coded text={mark.fix} />
  </span>
);

function FileText({ file }: { file: Files["files"][number] }) {
  return (
    <Card
      title={file.file.split("/").pop()}
      side={
        <span class="soft">
          {file.marks.length ? t.dialplan.marks(file.marks.length) : t.dialplan.fine}
        </span>
      }
    >
      <pre tabIndex={0}>
        {file.text.split("\n").map((text, n) => (
          <span key={n}>
            <span class="soft">{String(n + 1).padStart(3)} </span>
            {text}
            {"\n"}
            {file.marks
              .filter((m) => m.line === n + 1)
              .map((m) => (
                <Remark key={m.message} mark={m} />
              ))}
          </span>
        ))}
      </pre>
    </Card>
  );
}

export function Dialplan({ withFiles, chosen }: { withFiles: boolean; chosen: string | null }) {
  const [find, set] = useSearch();
  const choose = (context: string) => {
    location.hash = link("dialplan", context);
  };
  const { value: contexts, error } = useLoaded(() => get<Context[]>("/dialplan"), []);
  // Files are for administrators; the demo, which brings a token along, has none.
  const { value: files } = useLoaded(
    () => (withFiles ? get<Files>("/config/dialplans").catch(() => null) : Promise.resolve(null)),
    [withFiles],
  );
  const said = answer.use();
  if (!contexts) return <Wait error={error} />;
  const context = contexts.find((c) => c.context === chosen) ?? contexts[0];
  return (
    <>
      <Head title={t.dialplan.title} />
      <search class="filters">
        <Search hint={t.dialplan.find} value={find} onFind={set} />
      </search>
      <div class="halves">
        <Tester contexts={contexts} context={context?.context ?? ""} choose={choose} />
        {context && <Routes context={context} said={said} find={find} />}
      </div>
      {files?.elsewhere.map((m) => (
        <p class="said fault" lang="en" key={m.message}>
          {m.file ?? ""}
          {m.line ? `:${m.line}` : ""} {m.message}. <Coded text={m.fix} />
        </p>
      ))}
      {files?.files
        .filter((f) => holds(find, f.file, f.text))
        .map((f) => (
          <FileText key={f.file} file={f} />
        ))}
    </>
  );
}
