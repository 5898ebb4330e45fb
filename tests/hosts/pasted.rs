//! What is printed to be pasted is pasted.

use crate::world::{World, in_namespace};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_webtrunk");

fn printed(folder: &std::path::Path, args: &[&str]) -> String {
    let done = Command::new(BINARY).args(args).current_dir(folder).output().expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("UTF-8")
}

/// Runs `text` as the input of a program.
fn paste(program: &mut Command, text: &str) -> String {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let done = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && errors.is_empty(), "{program:?}: {errors}\n{text}");
    String::from_utf8(done.stdout).expect("UTF-8")
}

#[test]
fn the_firewall_commands_open_every_port() {
    in_namespace("pasted::the_firewall_commands_open_every_port", || {
        let world = World::new("");
        let folder = world.folder();
        let text = printed(folder, &["ports", "-c", "webtrunk.toml", "--ufw"]);
        let stub = folder.join("ufw");
        fs::write(&stub, "#!/bin/sh\nprintf '<%s>' \"$@\"\necho\n").expect("written");
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).expect("set");
        for shell in ["sh", "bash"] {
            let mut shell = Command::new(shell);
            let ran =
                paste(shell.env("PATH", format!("{}:/usr/bin:/bin", folder.display())), &text);
            for port in ["8088/tcp", "8088/udp", "20000:20099/udp", "5060/udp"] {
                let wanted = format!("<allow><{port}><comment><webtrunk: ");
                assert!(ran.contains(&wanted), "{wanted} is not in\n{ran}");
            }
            assert_eq!(ran.lines().count(), text.lines().count(), "one rule a line\n{ran}");
        }
        let text = printed(folder, &["ports", "-c", "webtrunk.toml", "--nft"]);
        if Command::new("nft").arg("--version").output().is_err() {
            return eprintln!("skipped: nft is not installed");
        }
        // An empty ruleset, and one that refuses everything at its end.
        for before in [
            "",
            "table inet filter {\n chain input {\n  type filter hook input priority filter; \
             policy drop;\n  ct state established accept\n  reject\n }\n}\n",
        ] {
            paste(Command::new("nft").args(["-f", "-"]), &format!("flush ruleset\n{before}"));
            paste(Command::new("nft").args(["-f", "-"]), &text);
            let rules = paste(Command::new("nft").args(["list", "ruleset"]), "");
            let at = |what: &str| rules.find(what).unwrap_or_else(|| panic!("{what} in\n{rules}"));
            for rule in ["tcp dport 8088 accept", "udp dport 20000-20099 accept"] {
                assert!(before.is_empty() || at(rule) < at("reject"), "{rules}");
                at(rule);
            }
        }
    });
}

/// The words of a command of the unit after the program, which is this build's.
fn words<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let head = format!("{key}=/usr/bin/webtrunk ");
    let command = unit.lines().find_map(|l| l.strip_prefix(head.as_str()));
    command.unwrap_or_else(|| panic!("{key} in\n{unit}")).split(' ').collect()
}

#[test]
fn the_systemd_unit_is_sound_and_its_commands_run() {
    let unit = include_str!("../../interop/systemd/webtrunk.service");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("webtrunk.service");
    fs::write(&file, unit.replace("/usr/bin/webtrunk", BINARY)).expect("written");
    match Command::new("systemd-analyze").arg("verify").arg(&file).output() {
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            let ours = said.lines().filter(|l| l.contains("webtrunk")).collect::<Vec<_>>();
            assert!(ours.is_empty(), "{ours:#?}");
        }
        Err(_) => eprintln!("skipped: systemd-analyze is not installed"),
    }
    in_namespace("pasted::the_systemd_unit_is_sound_and_its_commands_run", || {
        let world = World::new("");
        let mut start = words(unit, "ExecStart");
        let config = start.iter_mut().find(|w| **w == "/etc/webtrunk/webtrunk.toml");
        *config.expect("the configuration") = "webtrunk.toml";
        let mut gateway = world.serve_as(&start, "10.9.1.1:8088");
        let reload = world.command(&words(unit, "ExecReload")).output().expect("it runs");
        assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
        let stop = world.command(&words(unit, "ExecStop")).output().expect("it runs");
        assert!(stop.status.success(), "{}", String::from_utf8_lossy(&stop.stderr));
        // What systemd does once that has ended.
        gateway.terminate();
    });
}
