//! Reading the JsSIP REGISTER, beside rsip in the same run.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use webtrunk::sip::parse::{Framing, Index};
use webtrunk::sip::Message;

const REGISTER: &[u8] = include_bytes!("../corpus/jssip-asterisk/003_c2s_REGISTER.sip");

fn sip(c: &mut Criterion) {
    let mut group = c.benchmark_group("JsSIP REGISTER");
    group.throughput(Throughput::Elements(1));
    let mut buf = REGISTER.to_vec();
    group.bench_function("webtrunk: head, no allocation", |b| b.iter(|| Index::parse(black_box(&mut buf)).map(|i| i.fields().len())));
    group.bench_function("webtrunk: message, checked, every value typed", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(REGISTER).to_vec(), Framing::WebSocket).expect("sound");
            message.check().map(|()| message.contact().is_some())
        })
    });
    group.bench_function("rsip: message, values not yet typed", |b| b.iter(|| rsip::SipMessage::try_from(black_box(REGISTER).to_vec()).is_ok()));
    group.finish();
}

criterion_group!(benches, sip);
criterion_main!(benches);
