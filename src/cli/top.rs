//! `webtrunk top`: calls and trunks as they change, in a terminal; Enter on a call draws its
//! ladder. Keys are sngrep's.

use super::client::{ApiClient, given};
use super::look::{began, caller, happened, state, today, with};
use super::print::{clock, text};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Paragraph, Row, Table, TableState};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;
use webtrunk::printable;

/// How often the gateway is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// Calls of the list.
const SHOWN: usize = 200;
/// How long a key may wait to be seen.
const KEYS: Duration = Duration::from_millis(50);

/// What is shown, and where the reader is in it.
#[derive(Default)]
pub(crate) struct View {
    status: Value,
    /// The newest that the filter lets through, and whether there are more.
    calls: Vec<Value>,
    more: bool,
    trunks: Vec<Value>,
    chosen: Option<String>,
    /// Part of a number, a name, a user, a trunk or a code; the gateway searches for it. While it
    /// is typed, keys go there.
    filter: String,
    typing: bool,
    ladder: Option<Ladder>,
    message: String,
}

/// A call that is looked at.
struct Ladder {
    call: String,
    text: String,
    full: bool,
    scroll: u16,
}

/// What a key asks for besides another picture.
#[derive(Debug, PartialEq, Eq)]
enum TopAction {
    Nothing,
    Quit,
    Draw { call: String, full: bool },
    HangUp(String),
}

impl View {
    /// What the gateway is asked for.
    fn path(&self) -> String {
        let search = Some(self.filter.clone()).filter(|f| !f.is_empty());
        format!("/calls?limit={SHOWN}{}", given(&[("search", &search)]))
    }

    fn position(&self) -> usize {
        self.calls.iter().position(|c| c["call"].as_str() == self.chosen.as_deref()).unwrap_or(0)
    }

    fn choose(&mut self, by: isize) {
        let last = self.calls.len().saturating_sub(1);
        let at = self.position().saturating_add_signed(by).min(last);
        self.chosen = self.calls.get(at).map(|c| text(c, "call"));
    }

    /// The call the cursor stands on.
    fn current(&self) -> Option<String> {
        self.calls.get(self.position()).map(|c| text(c, "call"))
    }

    fn key(&mut self, key: KeyEvent) -> TopAction {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return TopAction::Quit;
        }
        if self.typing {
            match key.code {
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => (self.typing, self.filter) = (false, String::new()),
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(c) => self.filter.push(c),
                _ => {}
            }
            return TopAction::Nothing;
        }
        if let Some(ladder) = &mut self.ladder {
            match key.code {
                KeyCode::Esc | KeyCode::Char('q') => self.ladder = None,
                KeyCode::Up | KeyCode::Char('k') => ladder.scroll = ladder.scroll.saturating_sub(1),
                KeyCode::Down | KeyCode::Char('j') => {
                    ladder.scroll = ladder.scroll.saturating_add(1)
                }
                KeyCode::PageUp => ladder.scroll = ladder.scroll.saturating_sub(20),
                KeyCode::PageDown | KeyCode::Char(' ') => {
                    ladder.scroll = ladder.scroll.saturating_add(20)
                }
                KeyCode::Char('F' | 'f') => {
                    return TopAction::Draw { call: ladder.call.clone(), full: !ladder.full };
                }
                KeyCode::Char('x') => return TopAction::HangUp(ladder.call.clone()),
                _ => {}
            }
            return TopAction::Nothing;
        }
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => return TopAction::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::PageUp => self.choose(-20),
            KeyCode::PageDown => self.choose(20),
            KeyCode::Home => self.choose(isize::MIN / 2),
            KeyCode::F(7) | KeyCode::Char('/') => self.typing = true,
            KeyCode::Enter => {
                return self
                    .current()
                    .map_or(TopAction::Nothing, |call| TopAction::Draw { call, full: false });
            }
            KeyCode::Char('x') => {
                return self.current().map_or(TopAction::Nothing, TopAction::HangUp);
            }
            _ => {}
        }
        TopAction::Nothing
    }

    /// The whole picture.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>) {
        if let Some(ladder) = &self.ladder {
            let [body, foot] =
                Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
            frame.render_widget(
                Paragraph::new(Text::raw(&ladder.text)).scroll((ladder.scroll, 0)),
                body,
            );
            return frame.render_widget(
                Line::raw("↑↓ PgUp PgDn scroll   f whole messages   x hang up   Esc back").dim(),
                foot,
            );
        }
        let height = self.trunks.len().min(8) as u16 + 3;
        let [head, trunks, calls, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(height),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let s = &self.status;
        let draining = if s["draining"] == true { "   DRAINING" } else { "" };
        let overload = if s["overloaded"].is_string() { "   OVERLOADED" } else { "" };
        let line = format!(
            "webtrunk {}  {}   calls {}/{}, {} left   registered {}   refused \
                {}{draining}{overload}",
            text(s, "version"),
            text(s, "domain"),
            text(s, "calls"),
            text(&s["limits"], "calls"),
            text(s, "calls_left"),
            text(s, "registrations"),
            text(s, "refused")
        );
        frame.render_widget(Line::raw(line).bold(), head);
        frame.render_widget(self.trunk_table(), trunks);
        let chosen = (!self.calls.is_empty()).then(|| self.position());
        let mut state = TableState::default().with_selected(chosen);
        frame.render_stateful_widget(self.call_table(calls.width), calls, &mut state);
        let help = match (self.typing, self.message.as_str()) {
            (true, _) => format!("filter: {}█", self.filter),
            (false, "") => format!(
                "↑↓ choose   Enter ladder   / filter{}   x hang up   q quit",
                if self.filter.is_empty() { String::new() } else { format!(" ({})", self.filter) }
            ),
            (false, message) => printable::line(message).into_owned(),
        };
        frame.render_widget(Line::raw(help).dim(), foot);
    }

    fn trunk_table(&self) -> Table<'_> {
        let percent = |t: &Value, key: &str| {
            t[key].as_f64().map_or("-".to_owned(), |s| format!("{:.0} %", 100.0 * s))
        };
        let rows = self.trunks.iter().map(|t| {
            let row = Row::new([
                text(t, "trunk"),
                text(t, "state"),
                format!("{}/{}", text(t, "calls"), text(t, "max_calls")),
                percent(t, "asr"),
                percent(t, "ner"),
                text(t, "why_not"),
            ]);
            if t["usable"] == false { row.red() } else { row }
        });
        let widths = [
            Constraint::Length(18),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Fill(1),
        ];
        Table::new(rows, widths)
            .header(Row::new(["TRUNK", "STATE", "CALLS", "ASR", "NER", "WHY NOT"]).dim())
            .block(Block::bordered().title("Trunks"))
    }
}

impl View {
    /// The calls, in a table of this width: a wide one has more columns.
    fn call_table(&self, width: u16) -> Table<'_> {
        let today = today();
        let (from, with_width, mos) = match width {
            140.. => (26, Some(22), true),
            110.. => (18, Some(16), false),
            _ => (15, None, false),
        };
        let rows = self.calls.iter().map(|c| {
            let seconds = c["talked_s"].as_u64().or(c["seconds"].as_u64()).unwrap_or(0);
            let mut cells = vec![
                text(c, "call"),
                began(&text(c, "start"), &today),
                caller(c),
                text(c, "to"),
                state(c),
                clock(seconds),
            ];
            cells.extend(with_width.map(|_| with(c)));
            cells.extend(mos.then(|| text(c, "mos_estimated")));
            // That a call is fine is seen by its colour.
            cells.push(c["code"].as_str().map_or(String::new(), |_| happened(c)));
            match (c["state"].as_str(), c["code"].as_str()) {
                (Some("ended"), Some(_)) => Row::new(cells).red(),
                (Some("ended"), None) => Row::new(cells).dim(),
                _ => Row::new(cells),
            }
        });
        let mut head = vec!["CALL", "START UTC", "FROM", "TO", "STATE", "TIME"];
        let mut widths = vec![8, 11, from, 13, 9, 7];
        head.extend(with_width.map(|_| "WITH").into_iter().chain(mos.then_some("MOS")));
        widths.extend(with_width.into_iter().chain(mos.then_some(3)));
        head.push("WHAT HAPPENED");
        let widths = widths.into_iter().map(Constraint::Length).chain([Constraint::Fill(1)]);
        let title = match self.more {
            true => format!("Calls: the newest {SHOWN}, / finds others"),
            false => "Calls".to_owned(),
        };
        Table::new(rows, widths)
            .header(Row::new(head).dim())
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(Block::bordered().title(title))
    }
}

async fn refresh(client: &ApiClient, view: &mut View) -> anyhow::Result<()> {
    let list = |value: Value| value.as_array().cloned().unwrap_or_default();
    view.status = client.get("/status").await?;
    view.trunks = list(client.get("/trunks").await?);
    let (calls, next) = client.page(&view.path()).await?;
    (view.calls, view.more) = (calls, next.is_some());
    Ok(())
}

async fn ladder(client: &ApiClient, call: String, full: bool) -> anyhow::Result<Ladder> {
    let drawn = client.bytes(&format!("/calls/{call}/ladder?format=text&full={full}")).await?;
    Ok(Ladder {
        call,
        text: printable::lines(&String::from_utf8_lossy(&drawn)).into_owned(),
        full,
        scroll: 0,
    })
}

/// Runs until it is quit.
///
/// # Errors
/// The terminal, or as `ApiClient::get`.
pub(crate) async fn top(client: &ApiClient) -> anyhow::Result<ExitCode> {
    let mut view = View::default();
    // Whether there is a gateway is shown as text, not as a picture.
    refresh(client, &mut view).await?;
    let mut terminal = ratatui::try_init()?;
    let done = watch(client, &mut view, &mut terminal).await;
    ratatui::restore();
    done.map(|()| ExitCode::SUCCESS)
}

async fn watch(
    client: &ApiClient,
    view: &mut View,
    terminal: &mut ratatui::DefaultTerminal,
) -> anyhow::Result<()> {
    let mut next = Instant::now() + REFRESH;
    let mut changed = true;
    loop {
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| view.draw(frame))?;
        }
        let key = tokio::task::spawn_blocking(|| {
            Ok::<_, std::io::Error>(if event::poll(KEYS)? { Some(event::read()?) } else { None })
        })
        .await??;
        changed |= key.is_some();
        if let Some(Event::Key(key)) =
            key.filter(|e| matches!(e, Event::Key(k) if k.kind == KeyEventKind::Press))
        {
            view.message.clear();
            let before = view.filter.clone();
            let wish = view.key(key);
            if view.filter != before {
                next = Instant::now();
            }
            match wish {
                TopAction::Quit => return Ok(()),
                TopAction::Nothing => {}
                TopAction::Draw { call, full } => match ladder(client, call, full).await {
                    Ok(drawn) => view.ladder = Some(drawn),
                    Err(e) => view.message = e.to_string(),
                },
                TopAction::HangUp(call) => {
                    let ended =
                        client.call(hyper::Method::DELETE, &format!("/calls/{call}"), None).await;
                    view.message =
                        ended.map_or_else(|e| e.to_string(), |_| format!("call {call} is ended"));
                }
            }
        }
        if Instant::now() >= next {
            next = Instant::now() + REFRESH;
            refresh(client, view).await?;
            changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn press(view: &mut View, code: KeyCode) -> TopAction {
        view.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn picture(view: &View) -> String {
        picture_of(view, 120)
    }

    fn picture_of(view: &View, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 24)).expect("a terminal");
        terminal.draw(|frame| view.draw(frame)).expect("drawn");
        terminal.backend().to_string()
    }

    fn view() -> View {
        View {
            status: json!({
                "version": "1", "domain": "wt.test", "calls": 1, "calls_left": 187,
                "overloaded": null, "limits": { "calls": 500 }, "registrations": 2, "refused": 3,
                "draining": false,
            }),
            trunks: vec![json!({
                "trunk": "telnyx", "state": "down", "usable": false, "calls": 0, "max_calls": 10,
                "asr": 0.61, "why_not": "no answer to OPTIONS",
            })],
            calls: vec![
                json!({
                    "call": "aaaa1111", "state": "talking", "start": "2026-11-20T09:30:15.250Z",
                    "from": "trunk:telnyx", "from_number": "+493012345", "from_name": "Ada",
                    "to": "+12065550123", "with": "trunk:telnyx", "talked_s": 67,
                    "mos_estimated": 4.3,
                }),
                json!({
                    "call": "bbbb2222", "state": "ended", "outcome": "refused", "from": "bob",
                    "to": "999", "seconds": 0, "code": "WT-1104", "verdict": "no route for 999",
                }),
            ],
            ..View::default()
        }
    }

    #[test]
    fn calls_and_trunks_are_shown_and_keys_lead_through_them() {
        let mut view = view();
        let shown = picture(&view);
        for wanted in [
            "calls 1/500, 187 left",
            "telnyx",
            "no answer to OPTIONS",
            "61 %",
            "aaaa1111",
            "1:07",
            "WT-1104 no route for 999",
            "Enter ladder",
        ] {
            assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
        }
        assert_eq!(
            press(&mut view, KeyCode::Enter),
            TopAction::Draw { call: "aaaa1111".into(), full: false }
        );
        press(&mut view, KeyCode::Down);
        press(&mut view, KeyCode::Down);
        assert_eq!(
            press(&mut view, KeyCode::Char('x')),
            TopAction::HangUp("bbbb2222".into()),
            "it stops at the last"
        );
        press(&mut view, KeyCode::Char('/'));
        "alice".chars().for_each(|c| drop(press(&mut view, KeyCode::Char(c))));
        assert!(picture(&view).contains("filter: alice"));
        assert_eq!(view.path(), "/calls?limit=200&search=alice", "the gateway searches");
        press(&mut view, KeyCode::Enter);
        assert_eq!(press(&mut view, KeyCode::Char('q')), TopAction::Quit);
    }

    #[test]
    fn eighty_columns_say_who_when_whom_and_the_code() {
        let mut view = view();
        let shown = picture_of(&view, 80);
        for wanted in
            ["aaaa1111 11-20 09:30", "+493012345 Ada", "+12065550123", "talking", "1:07", "WT-1104"]
        {
            assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
        }
        view.more = true;
        assert!(picture_of(&view, 80).contains("the newest 200"), "nothing is cut in silence");
    }

    #[test]
    fn a_ladder_scrolls_opens_its_messages_and_leads_back() {
        let mut view = view();
        view.ladder = Some(Ladder {
            call: "aaaa1111".into(),
            text: (0..60).map(|n| format!("row {n}\n")).collect(),
            full: false,
            scroll: 0,
        });
        assert!(picture(&view).contains("row 0"));
        press(&mut view, KeyCode::PageDown);
        assert!(!picture(&view).contains("row 0\n") && picture(&view).contains("row 20"));
        assert_eq!(
            press(&mut view, KeyCode::Char('f')),
            TopAction::Draw { call: "aaaa1111".into(), full: true }
        );
        press(&mut view, KeyCode::Esc);
        assert!(picture(&view).contains("aaaa1111"));
        assert!(picture(&View::default()).contains("Calls"), "nothing at all is a picture too");
    }
}
