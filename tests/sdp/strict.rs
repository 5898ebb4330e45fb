//! A strict reader of what we write: RFC 8866 §9 to the letter, and the `sdp` crate's opinion.

/// The lines of a session and of a section, in the order RFC 8866 §5 asks for.
const SESSION: &str = "vosiuepcbtrzka";
const SECTION: &str = "micbka";

fn is_token(word: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
    !word.is_empty() && word.bytes().all(fits)
}

fn number(word: &str) -> u64 {
    assert!(!word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()), "{word:?} is no number");
    word.parse().expect("a number")
}

fn in_order(lines: &[&str], order: &str) {
    let place = |line: &&str| order.find(&line[..1]).unwrap_or_else(|| panic!("{line:?}"));
    let places: Vec<usize> = lines.iter().map(place).collect();
    assert!(places.is_sorted(), "{lines:?}");
}

fn section(lines: &[&str]) {
    in_order(lines, SECTION);
    let words: Vec<&str> = lines[0][2..].split(' ').collect();
    let [kind, port, proto, formats @ ..] = words.as_slice() else { panic!("{:?}", lines[0]) };
    assert!(is_token(kind) && proto.split('/').all(is_token), "{:?}", lines[0]);
    assert!(number(port) < 65_536 && !formats.is_empty(), "{:?}", lines[0]);
    assert!(formats.iter().all(|f| is_token(f)), "{:?}", lines[0]);
    let mut seen: Vec<&str> = formats.to_vec();
    seen.sort_unstable();
    seen.dedup();
    if *port != "0" {
        assert_eq!(seen.len(), formats.len(), "a payload type twice: {:?}", lines[0]);
        for format in formats {
            assert!(number(format) < 128);
            let map = format!("a=rtpmap:{format} ");
            assert_eq!(lines.iter().filter(|l| l.starts_with(&map)).count(), 1, "{map}");
        }
    }
    for attribute in lines.iter().filter_map(|l| l.strip_prefix("a=")) {
        let (name, _) = attribute.split_once(':').unwrap_or((attribute, ""));
        assert!(is_token(name), "{attribute:?}");
    }
}

/// Panics where `text` is not to the letter.
pub(crate) fn check(text: &str) {
    assert!(text.ends_with("\r\n") && text.is_ascii(), "{text:?}");
    assert!(!text.replace("\r\n", "").contains(|c: char| c.is_ascii_control()), "{text:?}");
    let lines: Vec<&str> = text.trim_end_matches("\r\n").split("\r\n").collect();
    assert!(lines.iter().all(|l| l.len() > 2 && l.as_bytes()[1] == b'='), "{text}");
    let end = lines.iter().position(|l| l.starts_with("m=")).unwrap_or(lines.len());
    let (session, sections) = lines.split_at(end);
    in_order(session, SESSION);
    for (letter, most) in [("v=", 1), ("o=", 1), ("s=", 1), ("c=", 1), ("t=", 1)] {
        assert_eq!(session.iter().filter(|l| l.starts_with(letter)).count(), most, "{text}");
    }
    let origin: Vec<&str> = session[1][2..].split(' ').collect();
    assert_eq!(origin.len(), 6, "{text}");
    number(origin[1]);
    number(origin[2]);
    sections.chunk_by(|_, next| !next.starts_with("m=")).for_each(section);
    let crate_reads = sdp::SessionDescription::unmarshal(&mut std::io::Cursor::new(text));
    let known = |m: &str| ["audio", "video", "text", "application", "message"].contains(&m);
    let kinds = sections.iter().filter_map(|l| l.strip_prefix("m=")?.split(' ').next());
    if kinds.clone().all(known) {
        let read = crate_reads.unwrap_or_else(|why| panic!("{why}: {text}"));
        assert_eq!(read.media_descriptions.len(), kinds.count(), "{text}");
    }
}
