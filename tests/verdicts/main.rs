//! Faults, seeded one at a time, and the one sentence that names each: what is wrong and on whose
//! side.
//!
//! `interop/VERDICTS.md` is the table of them, written by this test (`WEBTRUNK_BLESS=1`).

mod faults;
#[allow(dead_code)]
#[path = "../calls/lab.rs"]
mod lab;
mod ladders;
#[allow(dead_code)]
#[path = "../media/lab.rs"]
mod media;
#[allow(dead_code)]
#[path = "../calls/peers.rs"]
mod peers;
#[path = "../calls/plain.rs"]
mod plain;
#[path = "../calls/readable.rs"]
mod readable;
mod scenarios;
#[allow(dead_code)]
#[path = "../calls/script.rs"]
mod script;
#[path = "../calls/setup.rs"]
mod setup;
mod works;
mod world;

use crate::faults::FAULTS;
use crate::scenarios::{said, secs};
use std::fmt::Write as _;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use world::{Audio, Behaviour, World};

#[test]
fn two_muted_parties_are_not_hung_up_while_they_live() {
    let mut world = World::usual(Behaviour::default());
    let (ok, _) = world.talk();
    world.pass(secs(5));
    world.behaviour =
        Behaviour { browser: Audio::Nothing, trunk: Audio::Nothing, ..world.behaviour };
    world.pass(secs(120));
    assert_eq!(world.lab.gateway.gauges().calls, 1, "{}", world.lab.picture());
    world.hang_up(&ok);
    world.pump();
    assert_eq!(said(&world.lab).code, Code::ONE_STOPPED, "and it is not reported as fine");
}

/// An opinion of a call is one of both directions, or none is given (a figure that is wrong is
/// worse than none).
#[test]
fn a_call_on_which_somebody_was_not_heard_has_no_score() {
    let quiet = Behaviour { trunk: Audio::Nothing, ..Behaviour::default() };
    let mute = Behaviour { browser: Audio::Nothing, ..Behaviour::default() };
    let scored = |first: Behaviour, then: Option<Behaviour>| {
        let mut world = World::usual(first);
        let (ok, _) = world.talk();
        world.pass(secs(8));
        world.behaviour = then.unwrap_or(world.behaviour);
        world.pass(secs(20));
        world.hang_up(&ok);
        world.pump();
        let ended = world.lab.notes.iter().rev().find_map(|note| match note {
            Event::CallEnded { cdr } => Some((cdr.score(), note.to_string())),
            _ => None,
        });
        ended.expect("it has ended")
    };
    let (score, text) = scored(Behaviour::default(), None);
    assert!(score.is_some_and(|score| score > 4.0) && text.contains("MOS 4."), "{text}");
    for behaviour in [quiet, mute] {
        for (first, then) in [(behaviour, None), (Behaviour::default(), Some(behaviour))] {
            let (score, text) = scored(first, then);
            assert!(score.is_none() && !text.contains("MOS"), "{score:?}: {text}");
        }
    }
}

#[test]
fn every_seeded_fault_is_named_and_none_is_blamed_on_another() {
    let mut table = "# Verdicts\n\nWritten by `tests/verdicts`: each fault is seeded into a gateway and its media sessions in virtual time, \
                     the call is made, and this is what `webtrunk trace`, the API, the record and the log say of it. `WEBTRUNK_BLESS=1 cargo test --test verdicts` writes it anew.\n\n\
                     | fault | expected | said | side | the sentence |\n|---|---|---|---|---|\n".to_owned();
    let mut wrong = Vec::new();
    let code = |c: Code| if c.is_fault() { c.to_string() } else { "fine".to_owned() };
    for fault in FAULTS.iter().chain(works::WORKS) {
        let said = (fault.run)();
        if (said.code, said.side) != (fault.expected, fault.side) {
            wrong.push(format!(
                "{}: expected {} ({}), said {said:?}",
                fault.name,
                code(fault.expected),
                fault.side
            ));
        }
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            fault.name,
            code(fault.expected),
            code(said.code),
            said.side,
            said.sentence.replace('|', "\\|")
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let _ = writeln!(
        table,
        "\n{} of {} are named as expected. Not here, because nothing of it exists yet: credentials with a time in them, and clocks that differ.",
        FAULTS.len() + works::WORKS.len(),
        FAULTS.len() + works::WORKS.len()
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/VERDICTS.md");
    if std::env::var_os("WEBTRUNK_BLESS").is_some() {
        std::fs::write(path, &table).expect("written");
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        table,
        "interop/VERDICTS.md is not this table: WEBTRUNK_BLESS=1 cargo test --test verdicts"
    );
}
