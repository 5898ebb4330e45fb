use super::*;

#[test]
fn a_client_that_knows_one_profile_only_is_served_with_it() {
    PROFILES.iter().for_each(|(_, name, profile)| served(*name, *profile));
}

fn served(name: SrtpProtectionProfile, profile: Profile) {
    let server = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let pem = new_certificate().expect("a certificate");
    let client = Arc::new(DtlsIdentity::offering(&pem, vec![name]).expect("a certificate"));
    let print = |i: &DtlsIdentity| -> Fingerprint {
        let bytes: Vec<u8> =
            i.fingerprint.split(':').map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
        bytes.try_into().expect("sha-256")
    };
    let mut ours = Handshake::new(server.clone(), vec![print(&client)]);
    let mut theirs = Handshake::new(client.clone(), vec![print(&server)]);
    let now = Instant::now();
    let (mut up, mut down, mut chosen) = (Vec::new(), Vec::new(), None);
    theirs.start(now, &mut |d| up.push(d.to_vec()));
    for _ in 0..10 {
        for d in std::mem::take(&mut up) {
            chosen = ours
                .receive(now, &d, &mut |d| down.push(d.to_vec()))
                .expect("sound")
                .map(|k| k.profile)
                .or(chosen);
        }
        for d in std::mem::take(&mut down) {
            theirs.receive(now, &d, &mut |d| up.push(d.to_vec())).expect("sound");
        }
    }
    assert_eq!(chosen, Some(profile));
}

#[test]
fn chromium_lists_cm_before_gcm_and_gcm_is_seen_all_the_same() {
    let first: &[u8] =
        include_bytes!("../../../tests/corpus/dtls/01_chromium156_clienthello_frag1.bin");
    let second: &[u8] =
        include_bytes!("../../../tests/corpus/dtls/02_chromium156_clienthello_frag2.bin");
    let mut hello = Hello::default();
    assert!(hello.push(first).is_none());
    let whole = hello.push(second).expect("both fragments");
    let profiles = whole.profiles();
    assert_eq!(profiles.first(), Some(&1), "AES_CM_128_HMAC_SHA1_80 comes first");
    assert!(profiles.contains(&7), "AEAD_AES_128_GCM is among them: {profiles:?}");
}
