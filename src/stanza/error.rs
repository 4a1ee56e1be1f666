//! Stanza errors (RFC 6120 section 8.3).

use crate::xml::{Builder, Element, ns};

macro_rules! conditions {
    ($( $variant:ident $text:literal $kind:literal, )*) => {
        /// Defined conditions (RFC 6120 section 8.3.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Condition { $( #[doc = concat!("`", $text, "`, type `", $kind, "`.")] $variant, )* }

        impl Condition {
            /// Element name.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }

            /// The error type that section 8.3.3 gives the condition.
            pub fn error_type(self) -> &'static str {
                match self { $( Self::$variant => $kind, )* }
            }
        }
    };
}

conditions! {
    BadRequest "bad-request" "modify",
    Conflict "conflict" "cancel",
    FeatureNotImplemented "feature-not-implemented" "cancel",
    Forbidden "forbidden" "auth",
    Gone "gone" "cancel",
    InternalServerError "internal-server-error" "cancel",
    ItemNotFound "item-not-found" "cancel",
    JidMalformed "jid-malformed" "modify",
    NotAcceptable "not-acceptable" "modify",
    NotAllowed "not-allowed" "cancel",
    NotAuthorized "not-authorized" "auth",
    PolicyViolation "policy-violation" "modify",
    RecipientUnavailable "recipient-unavailable" "wait",
    Redirect "redirect" "modify",
    RegistrationRequired "registration-required" "auth",
    RemoteServerNotFound "remote-server-not-found" "cancel",
    RemoteServerTimeout "remote-server-timeout" "wait",
    ResourceConstraint "resource-constraint" "wait",
    ServiceUnavailable "service-unavailable" "cancel",
    SubscriptionRequired "subscription-required" "auth",
    UndefinedCondition "undefined-condition" "cancel",
    UnexpectedRequest "unexpected-request" "wait",
}

/// A condition with what may stand beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// The defined condition.
    pub condition: Condition,
    /// Replaces the usual error type where a XEP asks for another.
    pub error_type: Option<&'static str>,
    /// For a human reader, in English.
    pub text: Option<&'static str>,
    /// Application-specific condition.
    pub application: Option<Box<Element>>,
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> Self {
        Self { condition, error_type: None, text: None, application: None }
    }
}

impl Condition {
    /// The condition with a text for a human reader.
    pub fn because(self, text: &'static str) -> StanzaError {
        StanzaError { text: Some(text), ..self.into() }
    }
}

impl StanzaError {
    /// The same with an application-specific condition.
    #[must_use]
    pub fn with_application(mut self, ns: &str, name: &str) -> Self {
        self.application = Some(Box::new(Element::empty(ns, name)));
        self
    }

    /// Adds the `<error/>` child to a stanza.
    pub fn build(&self, b: &mut Builder) {
        b.open(ns::CLIENT, "error").attr("type", self.error_type.unwrap_or_else(|| self.condition.error_type()));
        b.open(ns::STANZA_ERROR, self.condition.as_str()).close();
        if let Some(text) = self.text {
            b.open(ns::STANZA_ERROR, "text").attr_ns(ns::XML, "lang", "en");
            b.text(text);
            b.close();
        }
        if let Some(application) = &self.application {
            b.copy(application.root());
        }
        b.close();
    }
}
