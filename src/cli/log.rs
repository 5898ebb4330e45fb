//! Where log lines go, and what may be in them.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};
use webtrunk::log_queue::{self, LogQueue};
use webtrunk::printable;

/// Crates whose warnings are about what a peer sent, not about us.
const QUIET: [&str; 3] = ["rtc_dtls", "rtc_rtcp", "rtc_sdp"];

/// Returns whether a line may be written, whatever level is asked for. The crates below us write
/// whole messages and keys at their lower levels (a WebSocket's frame holds passwords of ICE and
/// tokens), so only their warnings are shown.
fn is_ours(line: &Metadata<'_>) -> bool {
    let module = line.target().split("::").next().unwrap_or_default();
    let most = match module {
        "webtrunk" => Level::TRACE,
        quiet if QUIET.contains(&quiet) => Level::ERROR,
        _ => Level::WARN,
    };
    *line.level() <= most
}

/// Levels as they are written, by name or number.
const LEVELS: [&str; 12] =
    ["off", "error", "warn", "info", "debug", "trace", "0", "1", "2", "3", "4", "5"];

/// What to log, as it is written. A word that is no level would be taken for the name of a module,
/// of which there is none: nothing would be logged at all.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn level(text: &str) -> Result<String, String> {
    let is_level = |word: &str| LEVELS.iter().any(|known| known.eq_ignore_ascii_case(word));
    for part in text.split(',').map(str::trim) {
        let sound = match part.split_once('=') {
            Some((module, word)) => !module.is_empty() && is_level(word),
            None => is_level(part) || part == "webtrunk" || part.starts_with("webtrunk::"),
        };
        // A filter on fields has a syntax of its own.
        if !sound && !part.contains(['[', '{']) {
            return Err(format!(
                "{part:?} is no level: use off, error, warn, info, debug or trace, also for one \
                 module as in \"info,webtrunk=debug\""
            ));
        }
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

/// Begins to log to standard error. `queued`: nobody waits until a line is written, which is for
/// processes that serve; what others print and log stays in order.
pub(crate) fn start(format: &str, level: &str, queued: bool) {
    let wanted = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let highest = wanted.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let allowed = filter_fn(is_ours).with_max_level_hint(highest).and(wanted);
    let queue = if queued { log_queue::install().ok() } else { None };
    let terminal = io::stderr().is_terminal();
    let json = format == "json" || (format == "auto" && !terminal);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Safe { json, make: LogOutput(queue) })
        .with_target(false)
        .with_ansi(terminal && !json);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if json {
        lines.json().flatten_event(true).with_filter(allowed).boxed()
    } else {
        lines.with_filter(allowed).boxed()
    };
    tracing_subscriber::registry().with(lines).init();
}

/// Standard error, by the queue of this process if it has one.
struct LogOutput(Option<Arc<LogQueue>>);

/// The way of one line.
enum OutputLine<'a> {
    Direct(io::Stderr),
    Queued { queue: &'a LogQueue, is_error: bool },
}

impl<'a> MakeWriter<'a> for LogOutput {
    type Writer = OutputLine<'a>;

    fn make_writer(&'a self) -> OutputLine<'a> {
        match &self.0 {
            Some(queue) => OutputLine::Queued { queue, is_error: false },
            None => OutputLine::Direct(io::stderr()),
        }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> OutputLine<'a> {
        match &self.0 {
            Some(queue) => OutputLine::Queued { queue, is_error: *line.level() == Level::ERROR },
            None => self.make_writer(),
        }
    }
}

impl Write for OutputLine<'_> {
    /// The formatter writes a line at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            OutputLine::Direct(stderr) => stderr.write(bytes),
            OutputLine::Queued { queue, is_error } => {
                queue.push(bytes, *is_error);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            OutputLine::Direct(stderr) => stderr.flush(),
            OutputLine::Queued { .. } => Ok(()),
        }
    }
}

/// Makes each line safe to be shown, whoever wrote what is in it.
struct Safe<M> {
    json: bool,
    make: M,
}

/// One line on its way.
struct SafeWriter<W> {
    json: bool,
    writer: W,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Safe<M> {
    type Writer = SafeWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SafeWriter { json: self.json, writer: self.make.make_writer() }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        SafeWriter { json: self.json, writer: self.make.make_writer_for(line) }
    }
}

impl<W: Write> Write for SafeWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if self.json {
            self.writer.write_all(printable::json(&text).as_bytes())?;
        } else {
            self.writer.write_all(coloured(&text).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Text as [`printable::lines`], of which the colours stay that the formatter wrote.
fn coloured(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut out = printable::lines(pieces.next().unwrap_or_default()).into_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_digit() && c != ';');
        let colour = end.is_some_and(|end| piece[end..].starts_with('m'));
        out.push_str(if colour { "\u{1b}[" } else { "\u{fffd}[" });
        out.push_str(&printable::lines(piece));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct KeptOutput(Arc<Mutex<Vec<u8>>>);

    impl Write for KeptOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a line comes to in text or JSON, at the lowest level.
    fn logged(json: bool, say: impl Fn()) -> String {
        let kept = KeptOutput::default();
        let make = {
            let kept = kept.clone();
            move || kept.clone()
        };
        let layer = tracing_subscriber::fmt::layer().with_writer(Safe { json, make });
        let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
            layer.json().flatten_event(true).with_filter(filter_fn(is_ours)).boxed()
        } else {
            layer.with_ansi(true).with_filter(filter_fn(is_ours)).boxed()
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = kept.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_line_holds_nothing_that_a_terminal_obeys() {
        let hostile = "a\u{1b}]0;owned\u{7}b\u{1b}[2Jc\u{9b}1md\u{202e}e\u{200b}f";
        for json in [false, true] {
            let line = logged(json, || tracing::warn!(code = hostile, "x {hostile} y"));
            let bare = line.replace("\u{1b}[0m", "").replace("\u{1b}[", "");
            assert!(!line.contains("\u{1b}]") && !line.contains("\u{1b}[2J"), "{line:?}");
            assert!(
                !bare.contains(|c| printable::is_unsafe(c) && c != '\n'),
                "json {json}: {line:?}"
            );
            assert!(line.contains("owned"), "the rest is there: {line}");
        }
    }

    #[test]
    fn what_crates_below_us_say_of_messages_is_not_shown() {
        let said = logged(false, || {
            tracing::trace!(target: "tungstenite::protocol", "Received message a=ice-pwd:secret");
            tracing::info!(target: "hyper::proto", "authorization: Bearer secret");
            tracing::warn!(target: "rtc_dtls::conn", "a peer's mistake");
            tracing::warn!(target: "rustls", "kept");
            tracing::trace!(target: "webtrunk::web", "ours");
        });
        assert!(!said.contains("secret") && !said.contains("mistake"), "{said}");
        assert!(said.contains("kept") && said.contains("ours"), "{said}");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_does_not_turn_the_log_off() {
        for sound in [
            "info",
            "WARN",
            "off",
            "2",
            "info,webtrunk=debug",
            "webtrunk::call=trace, error",
            "webtrunk",
        ] {
            assert!(level(sound).is_ok(), "{sound}");
        }
        for wrong in
            ["", "warning", "verbose", "info,", "6", "webtrunk=loud", "=info", "info;debug"]
        {
            assert!(level(wrong).is_err(), "{wrong}");
        }
    }
}
