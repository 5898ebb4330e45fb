//! A call's record as spans: the whole, its ringing, its talking, and each try at a trunk or a
//! phone.

use crate::call::Cdr;
use crate::journal::WallClock;
use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use std::time::{Duration, Instant, SystemTime};

pub(super) struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// Starts the exporter's own task.
    ///
    /// # Errors
    /// The endpoint is no URL.
    pub(crate) fn start(endpoint: &str) -> anyhow::Result<Spans> {
        let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        // Its client blocks, and must be made where no runtime is.
        let exporter = std::thread::spawn(move || {
            SpanExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(endpoint)
                .with_timeout(Duration::from_secs(10))
                .build()
        });
        let exporter =
            exporter.join().map_err(|_| anyhow::anyhow!("the exporter could not be made"))??;
        let resource = Resource::builder()
            .with_service_name("webtrunk")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("webtrunk");
        Ok(Spans { provider, tracer })
    }

    pub(crate) fn tell(&self, cdr: &Cdr, clock: &WallClock) {
        let at = |moment: Instant| SystemTime::UNIX_EPOCH + clock.since_epoch(moment);
        let end = cdr.end.unwrap_or(cdr.start);
        let mut attributes = vec![
            KeyValue::new("sip.method", "INVITE"),
            KeyValue::new("sip.call_id", cdr.caller_call_id.clone()),
            KeyValue::new("sip.code", i64::from(cdr.status)),
            KeyValue::new("sip.user_agent.original", cdr.user_agent.clone()),
            KeyValue::new("webtrunk.call", cdr.call.to_string()),
            KeyValue::new("webtrunk.direction", if cdr.inbound { "inbound" } else { "outbound" }),
            KeyValue::new("webtrunk.context", cdr.context.clone()),
            KeyValue::new("webtrunk.outcome", cdr.outcome()),
        ];
        attributes.extend(cdr.route.clone().map(|r| KeyValue::new("webtrunk.route", r)));
        attributes.extend(
            cdr.answered_by.as_ref().map(|a| KeyValue::new("webtrunk.answered_by", a.as_callee())),
        );
        attributes.extend(cdr.remotes[0].map(|ip| KeyValue::new("client.address", ip.to_string())));
        let mut whole = self
            .tracer
            .span_builder(format!("INVITE {}", cdr.context))
            .with_kind(SpanKind::Server)
            .with_start_time(at(cdr.start))
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &Context::new());
        if let Some(verdict) = cdr.fault() {
            whole.set_attribute(KeyValue::new("error.type", verdict.code.to_string()));
            whole.set_status(Status::error(verdict.sentence.clone()));
        }
        let context = Context::new().with_remote_span_context(whole.span_context().clone());
        let part = |name: String, from: SystemTime, to: SystemTime, attributes: Vec<KeyValue>| {
            let builder = self
                .tracer
                .span_builder(name)
                .with_kind(SpanKind::Internal)
                .with_start_time(from)
                .with_attributes(attributes);
            builder.start_with_context(&self.tracer, &context).end_with_timestamp(to);
        };
        // Tries follow one another, or ring together; the record keeps how long each took.
        let mut from = cdr.start;
        for tried in &cdr.tried {
            let until = from + Duration::from_millis(tried.ms);
            part(
                format!("try {}", tried.target.as_callee()),
                at(from),
                at(until.min(end)),
                vec![KeyValue::new("sip.code", i64::from(tried.status.unwrap_or(0)))],
            );
            from = if tried.status == Some(200) { from } else { until.min(end) };
        }
        if let Some(ringing) = cdr.ringing {
            part("ringing".to_owned(), at(ringing), at(cdr.answered.unwrap_or(end)), Vec::new());
        }
        if let Some(answered) = cdr.answered {
            let codec = |leg: &Option<crate::media::Statistics>| {
                leg.as_ref().and_then(|s| s.codec).unwrap_or("-")
            };
            part(
                "talking".to_owned(),
                at(answered),
                at(end),
                vec![KeyValue::new(
                    "webtrunk.codecs",
                    format!("{} {}", codec(&cdr.caller_media), codec(&cdr.callee_media)),
                )],
            );
        }
        whole.end_with_timestamp(at(end));
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        // What waits is sent by a thread of the provider's own; a collector that is gone must not
        // hold up the stop.
        let _ = self.provider.shutdown_with_timeout(Duration::from_secs(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CallId;
    use crate::cdr::Party;
    use crate::sip::message::Message;
    use crate::sip::parse::Framing;
    use std::io::{Read, Write};

    #[test]
    fn a_call_is_exported_as_spans_to_a_collector() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let collector = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it comes");
            let (mut got, mut buf) = (Vec::new(), [0; 4_096]);
            let whole = |got: &[u8]| {
                let text = String::from_utf8_lossy(got).to_lowercase();
                let length = text
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|r| r.split("\r\n").next()?.parse::<usize>().ok());
                let head = got.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
                head.zip(length).is_some_and(|(head, length)| got.len() >= head + length)
            };
            while !whole(&got) {
                let n = stream.read(&mut buf).expect("bytes");
                got.extend_from_slice(&buf[..n]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            String::from_utf8_lossy(&got).into_owned()
        });
        let invite = "INVITE sip:1@x SIP/2.0\r\nVia: SIP/2.0/WS a;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:1@x>\r\nCall-ID: c1@lab\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
        let now = Instant::now();
        let mut cdr = Cdr::new(
            CallId(7),
            now,
            Party::Trunk("pbx".into()),
            &Message::parse(invite.as_bytes().to_vec(), Framing::WebSocket).expect("a message"),
        );
        cdr.context = "us-outbound".into();
        cdr.tried.push(crate::cdr::Tried {
            target: Party::Trunk("carrier".into()),
            status: Some(503),
            ms: 40,
            rang: None,
            refused: true,
        });
        cdr.ringing = Some(now + Duration::from_millis(300));
        cdr.answered = Some(now + Duration::from_secs(2));
        cdr.end = Some(now + Duration::from_secs(9));
        let spans = Spans::start(&format!("http://{at}")).expect("an exporter");
        spans.tell(&cdr, &WallClock::now());
        drop(spans);
        let posted = collector.join().expect("a request");
        assert!(posted.starts_with("POST /v1/traces "), "{posted}");
        for wanted in [
            "INVITE us-outbound",
            "try trunk:carrier",
            "ringing",
            "talking",
            "c1@lab",
            "sip.code",
            "service.name",
        ] {
            assert!(posted.contains(wanted), "{wanted} is not in {posted}");
        }
    }
}
