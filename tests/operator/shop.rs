//! A web application that stores what it is sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

/// A web application: it stores what it is sent, and returns the answer it was given.
pub(crate) struct Shop {
    pub at: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<String>>,
}

impl Shop {
    pub(crate) fn open() -> Shop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let (got, answer) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new("{}".to_owned())));
        let (kept, said) = (got.clone(), answer.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, said) = (kept.clone(), said.clone());
                std::thread::spawn(move || Shop::serve(stream, &kept, &said));
            }
        });
        Shop { at, got, answer }
    }

    fn serve(mut stream: TcpStream, kept: &Mutex<Vec<String>>, said: &Mutex<String>) {
        let (mut bytes, mut buf) = (Vec::new(), [0; 8_192]);
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let length = text
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .and_then(|n| n.trim().parse::<usize>().ok());
            let length = length.or(text.starts_with("GET ").then_some(0));
            if let (Some((_, body)), Some(length)) = (text.split_once("\r\n\r\n"), length)
                && body.len() >= length
            {
                kept.lock().expect("sound").push(text.clone());
                let answer = said.lock().expect("sound").clone();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                    answer.len()
                );
                bytes.clear();
                continue;
            }
            match stream.read(&mut buf) {
                Ok(n) if n > 0 => bytes.extend_from_slice(&buf[..n]),
                _ => return,
            }
        }
    }

    pub(crate) fn got(&self) -> Vec<String> {
        self.got.lock().expect("sound").clone()
    }

    pub(crate) fn answer_with(&self, text: &str) {
        *self.answer.lock().expect("sound") = text.to_owned();
    }
}
