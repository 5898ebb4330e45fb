//! No address named from outside is sent to unless its policy allows it: each address
//! of the table in each place that can name one.

use crate::lab::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use webtrunk::resolver::Records;
use webtrunk::sdp::offer_answer::Remote;
use webtrunk::sip::transaction::Hop;
use webtrunk::worker::WorkerCommand;

const TABLE: &str = include_str!("../corpus/addresses.txt");

/// The addresses of the table: as written, as SIP writes a host, and SDP's family.
fn table() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    TABLE.split_whitespace().map(|text| {
        let ip: IpAddr = text.parse().expect("an address");
        let host = if ip.is_ipv6() { format!("[{text}]") } else { text.to_owned() };
        (text, host, if ip.is_ipv6() { "IP6" } else { "IP4" })
    })
}

fn is_unspecified(text: &str) -> bool {
    text.parse::<IpAddr>().expect("an address").is_unspecified()
}

/// The remote addresses given to media.
fn targets(lab: &Lab) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for command in &lab.media {
        if let WorkerCommand::Configure { settings, .. } = command
            && let Remote::Rtp { rtp, rtcp, .. } = &settings.negotiated.remote
        {
            found.extend([*rtp, *rtcp]);
        }
    }
    found.retain(|to| to.port() != 0 && !to.ip().is_unspecified());
    found
}

/// Nothing was sent, resolved or given to media except for the lab's peers.
fn expect_only_peers(lab: &Lab, seen: &[Hop], what: &str) {
    for hop in lab.inbox.iter().map(|(hop, _)| hop).chain(seen) {
        let known = match *hop {
            Hop::Flow(_) | Hop::Suspended => true,
            Hop::Udp(to) | Hop::UdpFrom(to, _) => {
                [T1, T2].iter().any(|peer| peer.hop() == Hop::Udp(to))
            }
            Hop::Tcp(_) | Hop::Tls(..) | Hop::Node(_) => false,
        };
        assert!(known, "{what}: sent to {hop:?}\n{}", lab.picture());
    }
    assert!(lab.asked.is_empty(), "{what}: DNS was asked {:?}", lab.asked);
    assert!(lab.disconnected.is_empty(), "{what}");
    let trunk: IpAddr = [127, 0, 0, 10].into();
    assert!(targets(lab).iter().all(|to| to.ip() == trunk), "{what}: {:?}", targets(lab));
}

/// A call from the trunk to alice with this description: its status, and where media goes.
fn called_with(sdp: &str) -> (Lab, bool) {
    let mut lab = Lab::with_phones();
    lab.invite(T1, "+12065550111", sdp);
    if lab.got(T1, "488") {
        lab.take(T1, "488");
        return (lab, false);
    }
    let invite = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &invite, 200, ANSWER);
    let ok = lab.take(T1, "200");
    lab.ack(T1, &ok);
    let bye = lab.in_dialog(T1, &ok, "BYE", 90, "peer", "");
    lab.says(T1, &bye);
    let bye = lab.take(ALICE, "BYE");
    lab.reply(ALICE, &bye, 200, "");
    (lab, true)
}

#[test]
fn no_description_names_where_media_goes_against_the_policy() {
    let line = "c=IN IP4 127.0.0.10";
    for (address, _, family) in table() {
        let named = format!("c=IN {family} {address}");
        let of_media = format!("RTP/AVP 0 101\r\n{named}\r\n");
        for (place, sdp) in [
            ("c= of the session", TRUNK_SDP.replace(line, &named)),
            ("c= of the media", TRUNK_SDP.replace("RTP/AVP 0 101\r\n", &of_media)),
        ] {
            let (mut lab, taken) = called_with(&sdp);
            assert_eq!(taken, is_unspecified(address), "{place} {address}");
            expect_only_peers(&lab, &[], &format!("{place} {address}"));
            lab.expect_idle();
        }
    }
}

/// An address that is not needed costs no call, and gets nothing.
#[test]
fn no_attribute_names_where_rtcp_or_checks_go_against_the_policy() {
    for (address, _, family) in table() {
        for (place, line) in [
            ("a=rtcp", format!("a=rtcp:5001 IN {family} {address}\r\n")),
            (
                "a=rtcp without mux",
                format!("a=rtcp:5001 IN {family} {address}\r\na=rtcp-mux-only\r\n"),
            ),
            ("a=candidate", format!("a=candidate:1 1 UDP 2130706431 {address} 5000 typ host\r\n")),
            (
                "a=candidate of RTCP, and its related address",
                format!(
                    "a=candidate:1 2 UDP 213 {address} 5001 typ srflx raddr {address} rport 9\r\n"
                ),
            ),
            ("a=remote-candidates", format!("a=remote-candidates:1 {address} 5000\r\n")),
        ] {
            let (mut lab, taken) = called_with(&format!("{TRUNK_SDP}{line}"));
            assert!(taken, "{place} {address}\n{}", lab.picture());
            expect_only_peers(&lab, &[], &format!("{place} {address}"));
            lab.expect_idle();
        }
    }
    for (rtcp, obeyed) in [
        ("5001", true),
        ("5001 IN IP4 8.8.8.8", true),
        ("80", false),
        ("22 IN IP4 8.8.8.8", false),
        ("0", false),
        ("99999", true),
    ] {
        let (lab, taken) = called_with(&format!("{TRUNK_SDP}a=rtcp:{rtcp}\r\n"));
        assert!(taken, "{rtcp}");
        assert_eq!(targets(&lab).len().is_multiple_of(2), obeyed, "{rtcp}: {:?}", targets(&lab));
    }
}

#[test]
fn no_answer_names_where_media_goes_against_the_policy() {
    for (address, _, family) in table().filter(|(address, ..)| !is_unspecified(address)) {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let sdp = TRUNK_SDP.replace("c=IN IP4 127.0.0.10", &format!("c=IN {family} {address}"));
        lab.reply(T1, &invite, 200, &sdp);
        lab.take(T1, "ACK");
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
        lab.take(ALICE, "488");
        expect_only_peers(&lab, &[], address);
        lab.advance(Duration::from_secs(1));
        lab.expect_idle();
    }
}

#[test]
fn our_own_addresses_take_no_media_but_that_of_joined_legs() {
    let own = [("public_ip = \"192.0.2.1\"", "public_ip = \"8.8.4.4\"")];
    for (port, taken) in [(5060, false), (6379, false), (30_000, false), (20_050, true)] {
        let mut lab = Lab::changed(&own, "");
        let sdp = TRUNK_SDP
            .replace("c=IN IP4 127.0.0.10", "c=IN IP4 8.8.4.4")
            .replace("audio 4000", &format!("audio {port}"));
        lab.invite(T1, "+12065550111", &sdp);
        assert_eq!(lab.got(T1, "488"), !taken, "{port}\n{}", lab.picture());
    }
}

#[test]
fn no_header_names_where_messages_go() {
    for (address, host, _) in table() {
        // Of a call that comes in.
        let mut lab = Lab::with_phones();
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
        let contact = text.lines().find(|l| l.starts_with("Contact:")).expect("a Contact");
        let text = text.replacen(contact, &format!("Contact: <sip:pbx@{host}:5060>"), 1);
        let record = format!("Record-Route: <sip:{host}:5060;lr>\r\nMax-Forwards");
        let text = text.replacen("Max-Forwards", &record, 1);
        let via = text.lines().find(|l| l.starts_with("Via:")).expect("a Via");
        let (_, branch) = via.split_once(";branch=").expect("a branch");
        let branch = branch.split(';').next().expect("its value");
        let forged = format!(
            "Via: SIP/2.0/UDP {host}:5060;branch={branch};received={address};rport=7;maddr={address}"
        );
        lab.says(T1, &text.replacen(via, &forged, 1));
        let invite = lab.take(ALICE, "INVITE");
        lab.reply(ALICE, &invite, 200, ANSWER);
        let hops: Vec<Hop> = lab.inbox.iter().map(|(hop, _)| *hop).collect();
        let ok = lab.take(T1, "200");
        lab.ack(T1, &ok);
        expect_only_peers(&lab, &hops, &format!("Via {address}"));
        let bye = lab.in_dialog(ALICE, &invite, "BYE", 90, "peer", "");
        lab.says(ALICE, &bye);
        expect_only_peers(&lab, &[], &format!("Contact {address}"));
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
        lab.expect_idle();
        // Of one that goes out: the callee's Contact and Record-Route, and where it redirects to.
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let more = format!("Record-Route: <sip:{host};lr>\r\n");
        lab.reply_with(T1, &invite, 200, TRUNK_SDP, "peer", &more);
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        let bye = lab.in_dialog(ALICE, &ok, "BYE", 91, "", "");
        lab.says(ALICE, &bye);
        expect_only_peers(&lab, &[], &format!("Record-Route {address}"));
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
        lab.invite(ALICE, "+12065550124", OFFER);
        let invite = lab.take(T1, "INVITE");
        let contact = format!("Contact: <sip:+1999@{host}:5080>\r\n");
        lab.reply_with(T1, &invite, 302, "", "peer", &contact);
        expect_only_peers(&lab, &[], &format!("302 to {address}"));
        lab.advance(Duration::from_secs(40));
        lab.expect_idle();
    }
}

#[test]
fn dns_is_believed_within_the_policy() {
    let by_name = [("uri = \"sip:127.0.0.10\"", "uri = \"sip:carrier.example:5060\"")];
    let private = |ip: &IpAddr| match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.octets()[0] == 100,
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    for (address, ..) in table() {
        let ip: IpAddr = address.parse().expect("an address");
        // One PBX by name in the same network is as good as another.
        if private(&ip) {
            continue;
        }
        let mut lab = Lab::changed(&by_name, "");
        lab.invite(ALICE, "+12065550123", OFFER);
        while let Some(query) = lab.asked.pop() {
            let answer = Ok((Records::Address(vec![ip]), 60));
            lab.handle(webtrunk::gateway::Input::Dns { query, answer });
        }
        expect_only_peers(&lab, &[], address);
        assert!(lab.got(ALICE, "500"), "{address}\n{}", lab.picture());
    }
}
