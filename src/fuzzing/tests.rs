use super::{FuzzTarget, TARGETS};
use crate::chance::Chance;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// What a target begins with: its own seeds, and the corpora of the formats it reads.
fn seeds(target: FuzzTarget) -> Vec<Vec<u8>> {
    let mut paths = vec![folder("fuzz/seeds").join(target.name)];
    if target.name == "sip" {
        paths.push(folder("torture/rfc4475"));
    }
    paths
        .iter()
        .flat_map(|path| fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("readable"))
        .collect()
}

/// A seed with some bytes turned, cut out, repeated, or put in from another one.
fn mutated(seed: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(3) {
        let place = |chance: &mut Chance, length: usize| chance.below(length as u64 + 1) as usize;
        let at = place(chance, bytes.len());
        match chance.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => {
                bytes[at] = b"\0\r\n \",;:<>@%=\xff"[chance.below(14) as usize]
            }
            2 => drop(bytes.drain(at..(at + place(chance, 8)).min(bytes.len()))),
            3 => {
                let end = (at + place(chance, 64)).min(bytes.len());
                let piece = bytes[at..end].repeat(1 + chance.below(8) as usize);
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = place(chance, other.len());
                let end = (from + place(chance, 64)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_parser_panics_or_is_slow_on_its_seeds_or_their_mutations() {
    for target in TARGETS {
        let seeds = seeds(*target);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        seeds.iter().for_each(|seed| target.check(seed));
        let mut chance = Chance::new(0x5eed);
        for _ in 0..1_000 {
            let mut pick = || &seeds[chance.below(seeds.len() as u64) as usize];
            let (seed, other) = (pick(), pick());
            target.check(&mutated(seed, other, &mut chance));
        }
    }
}

/// Time grows with the length, not with its square: of each seed a thousandfold.
#[test]
fn no_parser_is_slow_on_what_is_long() {
    for target in TARGETS {
        for seed in seeds(*target) {
            let times = 60_000 / seed.len().max(1);
            target.check(&seed.repeat(times.max(1)));
            let (head, tail) = seed.split_at(seed.len() / 2);
            for filler in [&b","[..], b";", b"<", b"\"", b" \r\n ", b"%41", b"[", b"\\"] {
                let long = filler.repeat(60_000 / filler.len());
                target.check(&[head, &long, tail].concat());
            }
        }
    }
}

#[test]
fn each_target_is_built_and_has_a_place_of_its_own() {
    let names: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    let files: BTreeSet<String> = fs::read_dir(folder("fuzz/fuzz_targets"))
        .expect("the targets")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_owned())
        .map(|stem| stem.to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, files);
    let manifest = fs::read_to_string(folder("fuzz/Cargo.toml")).expect("the manifest");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not built");
    }
}
