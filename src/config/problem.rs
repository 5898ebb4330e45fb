//! A problem in a file: place, cause and fix, printed by miette.

use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A file as read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As given by the operator.
    pub name: String,
    /// All of it, for the lines shown.
    pub text: Arc<str>,
}

/// One problem.
#[derive(Clone, Debug)]
pub struct ConfigProblem {
    /// One for each kind.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where it is, if it is in a file.
    pub source: Option<SourceFile>,
    /// The marked bytes, and the label beside them.
    pub span: Option<(Range<usize>, String)>,
    /// Another place it has to do with.
    pub also: Option<(Range<usize>, String)>,
    /// What to do, or empty.
    pub help: String,
    /// `serve` starts nevertheless.
    pub warning: bool,
}

impl ConfigProblem {
    /// Whether it is about this place.
    pub(super) fn is_at(&self, place: &Range<usize>) -> bool {
        self.span.as_ref().is_some_and(|(span, _)| span == place)
    }

    /// An error at a place.
    pub(crate) fn at(
        source: &SourceFile,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
    ) -> ConfigProblem {
        ConfigProblem {
            code,
            message: message.into(),
            source: Some(source.clone()),
            span: Some((span, "here".into())),
            also: None,
            help: String::new(),
            warning: false,
        }
    }

    /// An error without a place, such as a file that cannot be read.
    pub(crate) fn plain(code: &'static str, message: impl Into<String>) -> ConfigProblem {
        ConfigProblem {
            code,
            message: message.into(),
            source: None,
            span: None,
            also: None,
            help: String::new(),
            warning: false,
        }
    }

    /// Adds the fix.
    pub(crate) fn help(mut self, help: impl Into<String>) -> ConfigProblem {
        self.help = help.into();
        self
    }

    /// What the place shows.
    pub(crate) fn label(mut self, label: impl Into<String>) -> ConfigProblem {
        if let Some(span) = &mut self.span {
            span.1 = label.into();
        }
        self
    }

    /// Shows another place of the same file too.
    pub(crate) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> ConfigProblem {
        self.also = Some((span, label.into()));
        self
    }

    /// Makes it a warning: it is printed, nothing stops.
    pub(crate) fn warning(mut self) -> ConfigProblem {
        self.warning = true;
        self
    }

    /// Line number, from 1.
    pub fn line(&self) -> Option<usize> {
        let (source, (span, _)) = (self.source.as_ref()?, self.span.as_ref()?);
        Some(source.text.get(..span.start).unwrap_or_default().matches('\n').count() + 1)
    }

    fn report(&self) -> Report {
        let severity = if self.warning { Severity::Warning } else { Severity::Error };
        let mut diagnostic = MietteDiagnostic::new(self.message.clone())
            .with_code(self.code)
            .with_severity(severity);
        if !self.help.is_empty() {
            diagnostic = diagnostic.with_help(self.help.clone());
        }
        match (&self.source, &self.span) {
            (Some(source), Some(place)) => {
                let label = |(span, label): &(Range<usize>, String)| {
                    LabeledSpan::new(Some(label.clone()), span.start, span.len().max(1))
                };
                let named = NamedSource::new(&source.name, source.text.to_string());
                Report::new(diagnostic.with_labels(self.also.iter().chain([place]).map(label)))
                    .with_source_code(named)
            }
            _ => Report::new(diagnostic),
        }
    }
}

/// Most problems that are shown, of more than that the errors first: each is drawn with its place
/// in its file, which takes the longer the larger that is.
const SHOWN: usize = 100;

/// All problems found, in one go.
#[derive(Clone, Debug, Default)]
pub struct Problems(pub Vec<ConfigProblem>);

impl Problems {
    /// Whether any is more than a warning.
    pub fn is_fatal(&self) -> bool {
        self.0.iter().any(|p| !p.warning)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown: Vec<&ConfigProblem> = self.0.iter().collect();
        if shown.len() > SHOWN {
            shown.sort_by_key(|p| p.warning);
        }
        shown.iter().take(SHOWN).try_for_each(|p| writeln!(f, "{:?}", p.report()))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_problems_the_errors_are_shown_and_the_rest_is_counted() {
        let warnings = (0..SHOWN).map(|n| ConfigProblem::plain("x", format!("odd {n}")).warning());
        let problems: Vec<ConfigProblem> =
            warnings.chain([ConfigProblem::plain("x", "this is wrong")]).collect();
        let few = Problems(problems[..2].to_vec()).to_string();
        assert!(few.contains("odd 0") && !few.contains("more"), "{few}");
        let many = Problems(problems).to_string();
        assert!(many.contains("this is wrong") && many.ends_with("and 1 more\n"), "{many}");
    }
}
