//! A phone on a WebSocket, as far as it registers.

use crate::dice::Dice;
use crate::place::{Place, Socket, hear, say};
use crate::texts;
use std::net::IpAddr;

pub(crate) struct Phone {
    pub(crate) socket: Socket,
    domain: String,
    user: String,
    password: String,
    id: u64,
    cseq: u32,
    /// The challenge that was answered last, and how often.
    challenge: Option<(String, u32)>,
}

/// What a REGISTER came to.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Phone {
    pub(crate) async fn connect(
        place: &Place,
        source: IpAddr,
        (user, password): (&str, &str),
        dice: &mut Dice,
    ) -> anyhow::Result<Phone> {
        Ok(Phone {
            socket: place.websocket(source).await?,
            domain: place.domain.clone(),
            user: user.to_owned(),
            password: password.to_owned(),
            id: dice.number(),
            cseq: 0,
            challenge: None,
        })
    }

    /// Another password, for the next try.
    pub(crate) fn password(&mut self, password: &str) {
        self.password = password.to_owned();
    }

    fn request(&mut self) -> String {
        self.cseq += 1;
        let (user, domain, id, cseq) = (&self.user, &self.domain, self.id, self.cseq);
        let authorization = self.challenge.as_mut().map_or(String::new(), |(challenge, count)| {
            *count += 1;
            let who = (user.as_str(), self.password.as_str());
            let what = ("REGISTER", format!("sip:{domain}"));
            let value = texts::credentials(challenge, who, (what.0, &what.1), *count);
            format!("Authorization: {value}\r\n")
        });
        format!(
            "REGISTER sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/WSS {id:x}.invalid;branch=z9hG4bK{id:x}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{domain}>;tag={id:x}\r\n\
             To: <sip:{user}@{domain}>\r\nCall-ID: {id:x}@phone\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{user}@{id:x}.invalid;transport=ws>;expires=300\r\n\
             {authorization}Content-Length: 0\r\n\r\n"
        )
    }

    /// One REGISTER and its answer; a challenge is kept for the next.
    pub(crate) async fn ask(&mut self) -> anyhow::Result<Answer> {
        let request = self.request();
        say(&mut self.socket, request).await?;
        loop {
            let text = hear(&mut self.socket).await?;
            let Some(status) = texts::status(&text).filter(|s| *s >= 200) else { continue };
            if let Some(challenge) = texts::header(&text, "WWW-Authenticate") {
                self.challenge = Some((challenge.to_owned(), 0));
            }
            return Ok(Answer { status, text });
        }
    }

    /// Registers: at most one challenge is answered.
    pub(crate) async fn register(&mut self) -> anyhow::Result<u16> {
        let first = self.ask().await?.status;
        Ok(if first == 401 { self.ask().await?.status } else { first })
    }
}
