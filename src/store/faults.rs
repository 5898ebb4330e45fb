//! What a store that refuses or cannot be reached says, in words for people.

use redis::RedisError;

/// What the store said, of several answers the first.
pub(super) fn said(error: &RedisError) -> String {
    let text = error.to_string();
    certificate_fault(&text).unwrap_or_else(|| first_of(&text)).to_owned()
}

/// What is wrong with the store's certificate.
fn certificate_fault(text: &str) -> Option<&'static str> {
    let (_, why) = text.split_once("invalid peer certificate: ")?;
    let known = [
        (
            "CaUsedAsEndEntity",
            "its certificate is an authority's own, which no server may show: have it sign one for \
             the store, or make it with basicConstraints CA:FALSE",
        ),
        (
            "UnknownIssuer",
            "its certificate is of no authority that is known here: name the authority's file in \
             cluster.ca",
        ),
        ("for name", "its certificate is not for the host that cluster.store names"),
        ("NotValidForName", "its certificate is not for the host that cluster.store names"),
        ("xpired", "its certificate has expired"),
    ];
    known.iter().find(|(what, _)| why.contains(what)).map(|(_, words)| *words)
}

/// The first fault of those that the client lists for commands sent together.
fn first_of(text: &str) -> &str {
    match text.split_once("error: ") {
        Some((list, first)) if list.starts_with("Pipeline failure") => {
            let first = first.split_once("), (Index ").map_or(first, |(first, _)| first);
            first.trim_end_matches(['.', ']', ')'])
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_faults_the_first_is_told() {
        let two = "Pipeline failures: [(Index 0, error: \"NOAUTH\": Authentication required.), \
               (Index 1, error: \"NOAUTH\": Authentication required.)]";
        assert_eq!(first_of(two), "\"NOAUTH\": Authentication required");
        let one = "Pipeline failure: [(Index 1, error: NoPerm: it may not run 'smembers')]";
        assert_eq!(first_of(one), "NoPerm: it may not run 'smembers'");
        assert_eq!(first_of("Connection refused"), "Connection refused");
    }

    #[test]
    fn a_certificate_that_is_refused_is_told_of_in_words() {
        for (said, words) in [
            ("Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
            ("UnknownIssuer", "cluster.ca"),
            (
                "certificate not valid for name \"10.0.0.1\"; it is only valid for x",
                "the host that",
            ),
            ("certificate expired: verification time 2 (UNIX)", "has expired"),
        ] {
            let text = format!("Io: invalid peer certificate: {said}");
            assert!(certificate_fault(&text).is_some_and(|fault| fault.contains(words)), "{said}");
        }
        assert_eq!(certificate_fault("Connection refused"), None);
    }
}
