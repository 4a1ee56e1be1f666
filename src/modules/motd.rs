//! Message of the day: what the operator wants to say to everybody who comes online, once for each session. With the
//! module `commands` administrators set another by their clients (XEP-0133 sections 4.24 to 4.26).

use super::{Module, Xep};
use crate::core::Core;
use crate::core::flight::InFlight;
#[cfg(feature = "commands")]
use crate::core::{
    Answer,
    commands::{Call, Field, Offer},
    disco::Disco,
    notices::{field, offer},
    settings::Settings,
};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Kind, MessageType, Stanza, StanzaError};
use crate::xml::ns;

section! {
    /// Message of the day.
    pub struct Config in "modules.motd" {
        /// What every client is told when it comes online, such as "Back at noon: a new disk."; empty says nothing. An
        /// administrator's command can say something else, until another deletes that.
        pub text: String = String::new(),
    }
}

#[cfg(feature = "commands")]
const VAR: &str = "motd";
#[cfg(feature = "commands")]
const TEXT: [Field; 1] = field(VAR, "Message of the day");
/// Set, edit, delete.
#[cfg(feature = "commands")]
const OFFERS: [Offer; 3] = [
    offer("http://jabber.org/protocol/admin#set-motd", "Set the message of the day", &TEXT, false),
    offer("http://jabber.org/protocol/admin#edit-motd", "Edit the message of the day", &TEXT, true),
    offer("http://jabber.org/protocol/admin#delete-motd", "Delete the message of the day", &[], false),
];

/// The module.
pub struct Motd {
    config: Config,
}

impl Motd {
    /// What is to be said at a host.
    #[cfg(feature = "commands")]
    fn text(&self, core: &mut Core, host: &str) -> Result<String, StanzaError> {
        Ok(core.notice(host, VAR)?.unwrap_or_else(|| self.config.text.clone()))
    }

    /// What is to be said at a host.
    #[cfg(not(feature = "commands"))]
    fn text(&self, _: &mut Core, _: &str) -> Result<String, StanzaError> {
        Ok(self.config.text.clone())
    }
}

impl Module for Motd {
    const XEPS: &'static [Xep] = &[];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config }
    }

    #[cfg(feature = "commands")]
    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        disco.commands.extend(OFFERS);
    }

    /// Who is online hears of a new message at once, and need not hear of each mended word.
    #[cfg(feature = "commands")]
    fn command(&mut self, core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
        match OFFERS.contains(&call.offer) {
            true => core.notice_command(call, VAR, &self.config.text, call.offer == OFFERS[0]),
            false => Ok(Answer::NotMine),
        }
    }

    /// Initial presence (RFC 6121 section 4.2): later ones and a resumption say nothing new.
    fn presence(&mut self, core: &mut Core, stanza: &mut Stanza) -> Result<(), StanzaError> {
        let (Some(from), None) = (&stanza.from, &stanza.to) else { return Ok(()) };
        let Some(session) = core.sessions.find(from) else { return Ok(()) };
        if core.sessions.get(session).is_none_or(|s| s.available.is_some()) {
            return Ok(());
        }
        let text = self.text(core, from.domain())?;
        let text = text.trim();
        if !text.is_empty() {
            let host = Jid::parse(from.domain()).ok();
            let message = Stanza::build(Kind::Message(MessageType::Headline), |b| {
                b.leaf(ns::CLIENT, "body", text);
            });
            core.send(InFlight::promising(message.addressed(host, Some(from.clone()))).to_session(session));
        }
        Ok(())
    }
}
