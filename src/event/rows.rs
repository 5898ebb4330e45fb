//! The macro behind the table of events: one row becomes every match on an event.

/// Makes the type and its questions from the rows. A row gives an event's fields, then
///  - `call`: the call it is about,
///  - `level` of its line, and `code` in the registry of errors, `FINE` if nothing is wrong,
///  - `class`: what it is one of, if somebody outside can cause it again and again,
///  - `api`: what the API calls it, and the data it sends; empty if it is for the log alone,
///  - `counted`: what the metrics make of it,
///  - `text`: its line.
///
/// A row without one of them does not compile.
macro_rules! events {
    ($(
        $(#[$doc:meta])*
        $name:ident { $( $(#[$field_doc:meta])* $field:ident: $type:ty ),* $(,)? } {
            call: $call:expr, level: $level:ident, code: $code:expr,
            class: $class:expr,
            api: { $($kind:expr => $data:expr)? },
            counted: $counted:expr,
            text($f:ident): $text:expr $(,)?
        }
    )*) => {
        /// Something worth a line.
        #[derive(Debug)]
        #[allow(missing_docs, reason = "in the table below")]
        pub enum Event {
            $( $(#[$doc])* $name { $( $(#[$field_doc])* $field: $type ),* }, )*
        }

        #[allow(unused_variables, reason = "most rows need some of their fields only")]
        impl Event {
            /// Returns the call it is about, if it is about one.
            pub(crate) fn call(&self) -> Option<CallId> {
                match self { $( Event::$name { $($field),* } => $call, )* }
            }

            /// Returns how loud its line is.
            pub(crate) fn level(&self) -> Level {
                match self { $( Event::$name { $($field),* } => Level::$level, )* }
            }

            /// Returns its code in the registry of errors, `FINE` if nothing is wrong.
            pub fn code(&self) -> Code {
                match self { $( Event::$name { $($field),* } => $code, )* }
            }

            /// Returns its class if somebody outside can cause it again and again: such a line is
            /// written once in ten seconds. `None` if each one is logged.
            pub(crate) fn class(&self) -> Option<LineClass> {
                match self { $( Event::$name { $($field),* } => $class, )* }
            }

            /// Returns what the API calls it, or `None` if it is for the log alone.
            pub(crate) fn kind(&self) -> Option<EventKind> {
                match self {
                    $( Event::$name { $($field),* } => [$($kind)?].into_iter().next(), )*
                }
            }

            /// Returns what the API and webhooks send of it, or `None` if it is for the log alone.
            pub(crate) fn data(&self) -> Option<Data<'_>> {
                match self {
                    $( Event::$name { $($field),* } => [$($data)?].into_iter().next(), )*
                }
            }

            /// Returns what the metrics make of it.
            pub(crate) fn counted(&self) -> Counted<'_> {
                match self { $( Event::$name { $($field),* } => $counted, )* }
            }
        }

        /// The text of its line.
        impl Display for Event {
            #[allow(unused_variables, reason = "most rows need some of their fields only")]
            fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                match self {
                    $( Event::$name { $($field),* } => {
                        let $f = formatter;
                        $text
                    } )*
                }
            }
        }
    };
}

pub(super) use events;
