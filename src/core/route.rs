//! Where a stanza for a local account goes, as a pure function (RFC 6121 section 8.5).

use crate::stanza::{Condition, IqType, Kind, MessageType, PresenceType};

/// What is known of the addressee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// Section 8.5.1: there is no such account.
    NoAccount,
    /// Section 8.5.2: the bare address.
    Bare {
        /// A session is available with a priority of zero or more.
        reachable: bool,
        /// A session is available with any priority.
        available: bool,
    },
    /// Section 8.5.3.1: a full address with its session there.
    FullPresent,
    /// Section 8.5.3.2: a full address without.
    FullAbsent {
        /// As for the bare address.
        reachable: bool,
    },
}

/// What to do with the stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the session of that full address.
    Session,
    /// To all available sessions of the highest priority that is zero or more.
    Highest,
    /// To all available sessions of priority zero or more.
    NonNegative,
    /// To all available sessions.
    Available,
    /// The server answers on the account's behalf.
    Account,
    /// The account's subscriptions are asked.
    Subscription,
    /// Nobody can take it now: modules may keep it, otherwise it bounces.
    Undelivered,
    /// Back to the sender.
    Bounce(Condition),
    /// Silently dropped.
    Drop,
}

/// The whole of section 8.5, with Table 1, on one screen.
///
/// Where the RFC leaves a choice: a chat or normal message to a bare address goes to all sessions of the highest
/// priority (section 8.5.2.1.1, case 1, as Prosody does; carbons serve the others); a chat message to a session that
/// has gone is treated as one to the bare address, a normal one is returned.
pub fn decide(kind: Kind, addressee: Addressee) -> Verdict {
    use Addressee::{Bare, FullAbsent, FullPresent, NoAccount};
    use MessageType::{Chat, Error, Groupchat, Headline, Normal};
    let unavailable = Verdict::Bounce(Condition::ServiceUnavailable);
    match (kind, addressee) {
        (Kind::Message(Error), NoAccount | Bare { .. } | FullAbsent { .. }) => Verdict::Drop,
        (Kind::Message(_), NoAccount) => unavailable,
        (Kind::Message(Normal | Chat), Bare { reachable: true, .. }) => Verdict::Highest,
        (Kind::Message(Normal | Chat), Bare { reachable: false, .. }) => Verdict::Undelivered,
        (Kind::Message(Headline), Bare { .. }) => Verdict::NonNegative,
        (Kind::Message(Groupchat), Bare { .. } | FullAbsent { .. }) => unavailable,
        (Kind::Message(Chat), FullAbsent { reachable: true }) => Verdict::Highest,
        (Kind::Message(Chat), FullAbsent { reachable: false }) => Verdict::Undelivered,
        (Kind::Message(Normal), FullAbsent { .. }) => unavailable,
        (Kind::Message(Headline), FullAbsent { .. }) => Verdict::Drop,
        (Kind::Message(_), FullPresent) => Verdict::Session,

        (Kind::Presence(PresenceType::Error), NoAccount | Bare { .. } | FullAbsent { .. }) => Verdict::Drop,
        (Kind::Presence(_), NoAccount) => Verdict::Drop,
        (Kind::Presence(PresenceType::Available | PresenceType::Unavailable), Bare { available: true, .. }) => {
            Verdict::Available
        }
        (Kind::Presence(PresenceType::Available | PresenceType::Unavailable), Bare { .. } | FullAbsent { .. }) => {
            Verdict::Drop
        }
        (Kind::Presence(PresenceType::Available | PresenceType::Unavailable | PresenceType::Error), FullPresent) => {
            Verdict::Session
        }
        // Subscriptions and probes concern accounts; a resource in their address is ignored.
        (
            Kind::Presence(
                PresenceType::Subscribe
                | PresenceType::Subscribed
                | PresenceType::Unsubscribe
                | PresenceType::Unsubscribed
                | PresenceType::Probe,
            ),
            _,
        ) => Verdict::Subscription,

        (Kind::Iq(IqType::Get | IqType::Set), NoAccount | FullAbsent { .. }) => unavailable,
        (Kind::Iq(IqType::Get | IqType::Set), Bare { .. }) => Verdict::Account,
        (Kind::Iq(IqType::Result | IqType::Error), NoAccount | Bare { .. } | FullAbsent { .. }) => Verdict::Drop,
        (Kind::Iq(_), FullPresent) => Verdict::Session,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNCE: Verdict = Verdict::Bounce(Condition::ServiceUnavailable);

    /// Table 1 of section 8.5.3.2.1: for each type of message what each kind of addressee makes of it.
    #[test]
    fn messages_follow_table_1() {
        let addressees = [
            Addressee::NoAccount,
            Addressee::Bare { reachable: true, available: true },
            Addressee::Bare { reachable: false, available: true },
            Addressee::Bare { reachable: false, available: false },
            Addressee::FullPresent,
            Addressee::FullAbsent { reachable: true },
            Addressee::FullAbsent { reachable: false },
        ];
        use Verdict::{Drop, Highest, NonNegative, Session, Undelivered};
        let table = [
            (MessageType::Normal, [BOUNCE, Highest, Undelivered, Undelivered, Session, BOUNCE, BOUNCE]),
            (MessageType::Chat, [BOUNCE, Highest, Undelivered, Undelivered, Session, Highest, Undelivered]),
            (MessageType::Groupchat, [BOUNCE, BOUNCE, BOUNCE, BOUNCE, Session, BOUNCE, BOUNCE]),
            (MessageType::Headline, [BOUNCE, NonNegative, NonNegative, NonNegative, Session, Drop, Drop]),
            (MessageType::Error, [Drop, Drop, Drop, Drop, Session, Drop, Drop]),
        ];
        for (kind, row) in table {
            for (addressee, expected) in addressees.into_iter().zip(row) {
                assert_eq!(decide(Kind::Message(kind), addressee), expected, "{kind:?} {addressee:?}");
            }
        }
    }

    #[test]
    fn requests_are_answered_and_answers_never() {
        for addressee in [Addressee::NoAccount, Addressee::FullAbsent { reachable: true }] {
            assert_eq!(decide(Kind::Iq(IqType::Get), addressee), BOUNCE);
            assert_eq!(decide(Kind::Iq(IqType::Result), addressee), Verdict::Drop);
            assert_eq!(decide(Kind::Presence(PresenceType::Available), addressee), Verdict::Drop);
        }
        let bare = Addressee::Bare { reachable: false, available: false };
        assert_eq!(decide(Kind::Iq(IqType::Set), bare), Verdict::Account);
        assert_eq!(decide(Kind::Iq(IqType::Error), bare), Verdict::Drop);
    }
}
