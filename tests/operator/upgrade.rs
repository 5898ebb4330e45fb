//! A new process replaces the running one during a call: media continues, peers are sent
//! nothing; and where it does not come up, the old one continues as if nothing had happened.

use crate::phone::Phone;
use crate::restart::{Voice, media_of, the_record_after};
use crate::server::Server;
use crate::trunk::{Trunk, accepted, reply};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use webtrunk::handover::{Link, LinkMessage, PROTOCOL};

/// No figure of the gateway: what a debug build on a shared machine keeps to. It is measured by
/// `interop/soak`.
const GAP: Duration = Duration::from_millis(1_000);
const SOON: Duration = Duration::from_secs(10);
const OUT: &str =
    "[[route]]\nname = \"Out\"\nmatch = \"700\"\ndo = [{ dial = [\"trunk:peer\"] }]\n";

fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_trunks_call_continues_in_a_new_process_again_and_again() {
    let mut server = Server::start("");
    let (mut trunk, mut voice) = (Trunk::new(&server), Voice::new());
    let ok = trunk.call_with_media("9196", voice.port());
    voice.speak(media_of(&ok));
    voice.hears(&server, 100);
    for _ in 0..2 {
        let before = server.pid();
        let said = server.upgrade(&[]);
        assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
        assert!(said.out.contains(", 1 calls continue"), "{said:?}");
        assert_ne!(server.pid(), before);
        voice.hears(&server, 50);
    }
    let (jumps, gap) = voice.breaks();
    assert!(jumps == 0 && gap < GAP, "{jumps} jumps, {gap:?}\n{}", server.log());
    assert!(!trunk.got_a_message(), "{}", server.log());
    trunk.hang_up();
    the_record_after(&server, 2);
    // Without systemd the first process stays as the others' parent; it ends as the last one does.
    let last = server.pid();
    server.stop();
    assert!(!lives(last));
}

#[test]
fn a_browsers_call_continues_in_a_new_process() {
    let mut server = Server::start_with_routes(OUT);
    let (mut trunk, mut voice) = (Trunk::new(&server), Voice::new());
    let socket = server.socket();
    let phone = std::thread::spawn(move || {
        let control = socket.to_str().expect("UTF-8");
        let login = ["--as", "alice", "--password", "secret-a"];
        let more = ["--for", "10s", "--control", control];
        Server::offline(&[&["call", "700"][..], &login, &more].concat())
    });
    let invite = trunk.answer_with_media(voice.port());
    voice.speak(media_of(&invite));
    voice.hears(&server, 100);
    let said = server.upgrade(&[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
    voice.hears(&server, 100);
    let (jumps, gap) = voice.breaks();
    assert!(jumps == 0 && gap < GAP, "{jumps} jumps, {gap:?}\n{}", server.log());
    assert!(!trunk.got_a_message(), "{}", server.log());
    trunk.expect("BYE");
    let said = phone.join().expect("it ran");
    assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
    assert_eq!(the_record_after(&server, 1)["hangup_by"], "caller");
}

/// 1012 is "service restart" (RFC 6455's registry): a page comes back at once.
#[test]
fn a_page_gets_a_service_restart_and_is_served_by_the_new_process() {
    let mut server = Server::start("");
    let mut phone = Phone::register(server.web, "wt.test", "alice", "secret-a");
    let said = server.upgrade(&[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
    assert_eq!(phone.closed(), Some(1012));
    Phone::register(server.web, "wt.test", "alice", "secret-a");
}

/// A script in the place of a new binary.
fn script(server: &Server, text: &str) -> String {
    let path = server.folder.join("next");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    path.to_str().expect("UTF-8").to_owned()
}

/// A link of a process that says it is a successor.
fn successor(server: &Server, reads: &[u16]) -> Link {
    let stream = UnixStream::connect(server.socket()).expect("it listens");
    let link = Link::new(stream).expect("a link");
    let (version, reads) = ("9.9.9".to_owned(), reads.to_vec());
    link.say(&LinkMessage::Hello { protocol: PROTOCOL, version, reads }).expect("said");
    link
}

/// The format that this version writes, as it says itself.
fn written(server: &Server) -> u16 {
    let LinkMessage::Refused { why } =
        successor(server, &[]).receive(SOON).expect("a word").message
    else {
        panic!("it reads nothing")
    };
    let number = why.split_once("this one writes ").and_then(|(_, rest)| rest.split_once(':'));
    number.and_then(|(number, _)| number.parse().ok()).expect("a number")
}

#[test]
fn the_old_process_continues_if_no_new_one_comes_up() {
    let mut server = Server::start("");
    let (mut trunk, mut voice) = (Trunk::new(&server), Voice::new());
    let ok = trunk.call_with_media("9196", voice.port());
    voice.speak(media_of(&ok));
    voice.hears(&server, 50);
    let before = server.pid();
    let fails = |server: &mut Server, more: &[&str], why: &str| {
        let said = server.upgrade(more);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(why), "{said:?}\n{}", server.log());
        assert_eq!(server.pid(), before);
    };
    fails(&mut server, &["--binary", "/nonexistent"], "cannot be started");
    let ends = script(&server, "exit 7");
    fails(&mut server, &["--binary", &ends], "it ended with exit status: 7");
    server.edit("webtrunk.toml", "workers = 1", "workers = -1");
    fails(&mut server, &[], "workers = -1");
    server.edit("webtrunk.toml", "workers = -1", "workers = 1");
    let refused = successor(&server, &[98, 99]).receive(SOON).expect("a word").message;
    let LinkMessage::Refused { why } = refused else { panic!("{refused:?}") };
    assert!(why.contains("9.9.9 reads calls of format 98, 99"), "{why}");
    // One that dies with all calls in its hands; and meanwhile there is no other.
    let link = successor(&server, &[written(&server)]);
    let offered = link.receive(SOON).expect("a word");
    assert!(matches!(&offered.message, LinkMessage::Sockets { names, .. }
        if names.len() == offered.sockets.len() && names.iter().any(|name| name == "sip.udp")));
    fails(&mut server, &[], "another upgrade is under way");
    link.say(&LinkMessage::Ready).expect("said");
    let given = link.receive(SOON).expect("a word");
    let LinkMessage::Calls { draining: false, ports, .. } = &given.message else {
        panic!("{given:?}")
    };
    assert_eq!((ports.len(), given.sockets.len()), (1, 2));
    drop((link, offered, given));
    voice.hears(&server, 50);
    let (jumps, gap) = voice.breaks();
    assert!(jumps == 0 && gap < GAP, "{jumps} jumps, {gap:?}\n{}", server.log());
    assert!(!trunk.got_a_message(), "{}", server.log());
    // And a good one comes up after all of that.
    assert_eq!(server.upgrade(&[]).code, 0, "{}", server.log());
    voice.hears(&server, 50);
    trunk.hang_up();
    the_record_after(&server, 1);
}

/// A call with a voice, which upgrades are not to harm.
fn talking(server: &Server) -> (Trunk, Voice) {
    let (mut trunk, mut voice) = (Trunk::new(server), Voice::new());
    let ok = trunk.call_with_media("9196", voice.port());
    voice.speak(media_of(&ok));
    voice.hears(server, 50);
    (trunk, voice)
}

/// Takes the sockets as a successor does that reads this format.
fn takes_sockets(server: &Server, reads: u16) -> Link {
    let mut taken = None;
    // The one before may not have been given up yet.
    server.until(|| {
        let link = successor(server, &[reads]);
        let offered = link.receive(SOON).expect("a word").message;
        taken = matches!(offered, LinkMessage::Sockets { .. }).then_some(link);
        taken.is_some()
    });
    taken.expect("it was given them")
}

#[test]
fn a_file_that_is_no_program_of_this_machine_costs_nothing() {
    let mut server = Server::start("");
    let (mut trunk, voice) = talking(&server);
    let before = server.pid();
    let mut fails = |path: &Path, why: &str| {
        let said = server.upgrade(&["--binary", path.to_str().expect("UTF-8")]);
        assert!(said.code == 1 && said.err.contains(why), "{said:?}");
        assert_eq!(server.pid(), before);
    };
    let folder = crate::server::Folder::new("no-program");
    fails(&folder, "cannot be started");
    let text = folder.join("text");
    std::fs::write(&text, "webtrunk").expect("written");
    fails(&text, "cannot be started");
    // The header of a program for a processor that nobody has.
    let foreign = folder.join("foreign");
    let header = [&b"\x7fELF\x02\x01\x01"[..], &[0; 9], &[2, 0, 0xff, 0xfe], &[0; 44]].concat();
    std::fs::write(&foreign, header).expect("written");
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o755)).expect("set");
    fails(&foreign, "not upgraded");
    let ends = script(&server, "exit 0");
    let said = server.upgrade(&["--binary", &ends]);
    assert!(said.err.contains("it ended with exit status: 0"), "{said:?}");
    voice.hears(&server, 50);
    let (jumps, gap) = voice.breaks();
    assert!(jumps == 0 && gap < GAP, "{jumps} jumps, {gap:?}");
    trunk.hang_up();
}

#[test]
fn a_new_process_that_says_nothing_is_ended_and_the_old_one_continues() {
    let mut server = Server::start("");
    let (mut trunk, voice) = talking(&server);
    let (before, pid) = (server.pid(), server.folder.join("pid"));
    let hangs = script(&server, &format!("echo $$ > {}\nexec sleep 600", pid.display()));
    let said = server.upgrade(&["--binary", &hangs]);
    assert!(said.code == 1 && said.err.contains("it says nothing"), "{said:?}");
    let hung = std::fs::read_to_string(pid).expect("it ran");
    assert!(!lives(hung.trim().parse().expect("a number")), "it was ended");
    voice.hears(&server, 50);
    let (jumps, gap) = voice.breaks();
    assert!(jumps == 0 && gap < GAP, "{jumps} jumps, {gap:?}\n{}", server.log());
    assert_eq!(server.pid(), before);
    trunk.hang_up();
}

/// Each ends at another point of the handover, the last with all calls in its hands.
#[test]
fn a_new_process_that_ends_or_hangs_with_the_sockets_costs_nothing_but_a_moment() {
    let server = Server::start("");
    let (mut trunk, voice) = talking(&server);
    let format = written(&server);
    drop(takes_sockets(&server, format));
    let refuses = takes_sockets(&server, format);
    refuses.say(&LinkMessage::Refused { why: "its disk is full".into() }).expect("said");
    server.until(|| server.log().contains("its disk is full"));
    voice.hears(&server, 50);
    let (jumps, gap) = voice.breaks();
    assert!(jumps == 0 && gap < GAP, "{jumps} jumps, {gap:?}\n{}", server.log());
    let hangs = takes_sockets(&server, format);
    hangs.say(&LinkMessage::Ready).expect("said");
    let given = hangs.receive(SOON).expect("a word");
    assert!(matches!(given.message, LinkMessage::Calls { .. }), "{given:?}");
    // It has them, and says nothing any more.
    voice.hears(&server, 50);
    assert!(voice.breaks().1 < Duration::from_secs(5), "{:?}", voice.breaks());
    server.logs("the new process is gone or hangs");
    assert!(!trunk.got_a_message(), "{}", server.log());
    trunk.hang_up();
    the_record_after(&server, 0);
}

/// There is no way back from then on: the process ends, and its supervisor starts it again.
#[test]
fn calls_outlive_a_new_process_that_dies_as_it_takes_them() {
    let mut server = Server::start("");
    server.provokes("WT-5009");
    let (mut trunk, voice) = talking(&server);
    let link = takes_sockets(&server, written(&server));
    link.say(&LinkMessage::Ready).expect("said");
    let given = link.receive(SOON).expect("a word");
    assert!(matches!(given.message, LinkMessage::Calls { .. }), "{given:?}");
    link.say(&LinkMessage::Taken).expect("said");
    assert_eq!(link.receive(SOON).expect("a word").message, LinkMessage::Go);
    drop((link, given));
    let mut end = None;
    server.comes_true_of(|server| {
        end = server.ended();
        end.is_some()
    });
    assert_eq!(end.and_then(|end| end.code()), Some(70), "{}", server.log());
    server.start_again();
    voice.hears(&server, 50);
    assert!(!trunk.got_a_message(), "{}", server.log());
    trunk.hang_up();
    the_record_after(&server, 1);
}

#[test]
fn a_call_that_rings_is_waited_for() {
    let mut server = Server::start_with_routes(OUT);
    let mut trunk = Trunk::new(&server);
    trunk.ring("700");
    let invite = trunk.expect("INVITE");
    trunk.send(&reply(&invite).replacen("200 OK", "180 Ringing", 1));
    let socket = server.socket();
    let upgrade = std::thread::spawn(move || {
        let control = ["--control", socket.to_str().expect("UTF-8")];
        Server::offline(&[&["upgrade", "--wait", "20s"][..], &control].concat())
    });
    // New ones are refused meanwhile.
    let status = || server.control("GET", "/api/v1/status", "");
    server.until(|| status().contains("\"calls_left\":0,"));
    trunk.send(&accepted(
        &invite,
        trunk.own,
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n\
        c=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n",
    ));
    trunk.expect("ACK");
    let said = upgrade.join().expect("it ran");
    server.note_successor(&said);
    assert!(said.code == 0 && said.out.contains(", 1 calls continue"), "{said:?}");
    server.logs("upgraded: 1 of 1 calls continue");
    let status = server.control("GET", "/api/v1/status", "");
    assert!(!status.contains("\"calls_left\":0,"), "{status}");
}

#[test]
fn a_call_that_rings_for_too_long_is_ended_on_both_sides() {
    let mut server = Server::start_with_routes(OUT);
    let mut trunk = Trunk::new(&server);
    trunk.ring("700");
    let invite = trunk.expect("INVITE");
    trunk.send(&reply(&invite).replacen("200 OK", "180 Ringing", 1));
    trunk.expect("SIP/2.0 180");
    let said = server.upgrade(&["--wait", "0s"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
    trunk.expect("SIP/2.0 503");
    // Its INVITE is repeated first: a CANCEL follows a provisional response only.
    trunk.send(&reply(&invite).replacen("200 OK", "180 Ringing", 1));
    trunk.expect("CANCEL");
}

#[test]
fn systemd_learns_the_new_main_process_and_a_drain_continues() {
    let folder = crate::server::Folder::new("upgrade-notify");
    let path = folder.join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("set");
    let notified = || {
        let mut buf = [0; 256];
        let n = socket.recv(&mut buf).expect("a notification");
        String::from_utf8_lossy(&buf[..n]).into_owned()
    };
    let until = |wanted: &str| {
        let all: Vec<String> =
            std::iter::repeat_with(notified).take_while(|said| said != wanted).collect();
        let other = |said: &String| said == "WATCHDOG=1" || said.starts_with("FDSTORE=1\n");
        assert!(all.iter().all(other), "{all:?} before {wanted}");
    };
    let mut server = Server::start_notifying(&path);
    until("READY=1");
    assert_eq!(server.run(&["drain", "--no-wait"]).code, 0);
    let first = server.pid();
    let said = server.upgrade(&[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
    until(&format!("MAINPID={}", server.pid()));
    until("READY=1");
    server.until(|| !lives(first));
    server.until(|| server.get("/readyz").starts_with("HTTP/1.1 503"));
}

/// What systemd hears of a process, with what came along.
type Notified = Arc<Mutex<Vec<(String, Vec<OwnedFd>)>>>;

/// Listens as systemd does.
fn listen(path: &Path) -> Notified {
    let socket = UnixDatagram::bind(path).expect("a socket");
    let notified = Notified::default();
    let all = notified.clone();
    std::thread::spawn(move || {
        loop {
            let mut buf = [0; 256];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut buf)];
            let read = recvmsg(&socket, &mut parts, &mut control, RecvFlags::empty());
            let Ok(n) = read.map(|read| read.bytes) else { return };
            let mut sockets: Vec<OwnedFd> = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    sockets.extend(some);
                }
            }
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            all.lock().expect("sound").push((text, sockets));
        }
    });
    notified
}

#[test]
fn sockets_that_systemd_kept_are_read_by_the_next_process() {
    let folder = crate::server::Folder::new("fd-store");
    let path = folder.join("notify.sock");
    let notified = listen(&path);
    let mut server = Server::start_notifying(&path);
    let said = |start: &str| {
        notified.lock().expect("sound").iter().any(|(text, _)| text.starts_with(start))
    };
    for name in ["web.listen", "sip.udp", "metrics.listen", "media-0"] {
        server.until(|| said(&format!("FDSTORE=1\nFDNAME={name}")));
    }
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    // The pair of the call, too.
    server.until(|| said("FDSTORE=1\nFDNAME=rtp-") && said("FDSTORE=1\nFDNAME=rtcp-"));
    server.kill();
    // It comes while nobody is there: the port is open all the same.
    trunk.ring("9196");
    let kept = std::mem::take(&mut *notified.lock().expect("sound"));
    let named = |name: &str| {
        let kept = kept.iter().find(|(text, _)| text.ends_with(&format!("FDNAME={name}")));
        let (_, sockets) = kept.expect("it was kept");
        sockets[0].try_clone().expect("a descriptor")
    };
    let (udp, other) = (named("sip.udp"), named("media-0"));
    drop(kept);
    // What nobody wants any more is forgotten.
    server.start_again_with([("sip.udp", udp), ("sip.tls", other)], &path);
    trunk.expect("SIP/2.0 200");
    server.until(|| said("FDSTOREREMOVE=1\nFDNAME=sip.tls"));
}
