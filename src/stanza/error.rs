//! Stanza errors (RFC 6120 section 8.3).

use crate::setting::{Setting, Value, no_such_word, one_of, quote, wanted};
use crate::xml::{Builder, Element, ns};
use std::borrow::Cow;

macro_rules! conditions {
    ($( $variant:ident $text:literal $kind:literal $code:literal, )*) => {
        /// Defined conditions (RFC 6120 section 8.3.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Condition { $( #[doc = concat!("`", $text, "`, type `", $kind, "`.")] $variant, )* }

        /// Names of all conditions.
        const NAMES: &[&str] = &[ $( $text ),* ];

        impl Condition {
            /// The condition of that name.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $( $text => Some(Self::$variant), )* _ => None }
            }

            /// Element name.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }

            /// The error type that section 8.3.3 gives the condition.
            pub fn error_type(self) -> &'static str {
                match self { $( Self::$variant => $kind, )* }
            }

            /// The number that stood for it before there were conditions (XEP-0086 section 3).
            fn code(self) -> &'static str {
                match self { $( Self::$variant => $code, )* }
            }
        }
    };
}

conditions! {
    BadRequest "bad-request" "modify" "400",
    Conflict "conflict" "cancel" "409",
    FeatureNotImplemented "feature-not-implemented" "cancel" "501",
    Forbidden "forbidden" "auth" "403",
    Gone "gone" "cancel" "302",
    InternalServerError "internal-server-error" "cancel" "500",
    ItemNotFound "item-not-found" "cancel" "404",
    JidMalformed "jid-malformed" "modify" "400",
    NotAcceptable "not-acceptable" "modify" "406",
    NotAllowed "not-allowed" "cancel" "405",
    NotAuthorized "not-authorized" "auth" "401",
    PolicyViolation "policy-violation" "modify" "406",
    RecipientUnavailable "recipient-unavailable" "wait" "404",
    Redirect "redirect" "modify" "302",
    RegistrationRequired "registration-required" "auth" "407",
    RemoteServerNotFound "remote-server-not-found" "cancel" "404",
    RemoteServerTimeout "remote-server-timeout" "wait" "504",
    ResourceConstraint "resource-constraint" "wait" "500",
    ServiceUnavailable "service-unavailable" "cancel" "503",
    SubscriptionRequired "subscription-required" "auth" "407",
    UndefinedCondition "undefined-condition" "cancel" "500",
    UnexpectedRequest "unexpected-request" "wait" "400",
}

/// Operators choose one by its name.
impl Setting for Condition {
    fn kind() -> String {
        one_of(NAMES)
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let word = value.text().ok_or_else(|| wanted::<Self>(value))?;
        Self::parse(word).ok_or_else(|| no_such_word(word, NAMES))
    }

    fn show(&self) -> String {
        quote(self.as_str())
    }
}

/// A condition with what may stand beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// The defined condition.
    pub condition: Condition,
    /// Replaces the usual error type where a XEP asks for another.
    pub error_type: Option<&'static str>,
    /// For a human reader, in English.
    pub text: Option<Cow<'static, str>>,
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
        StanzaError { text: Some(Cow::Borrowed(text)), ..self.into() }
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
        self.build_coded(b, false);
    }

    /// As [`StanzaError::build`]; `coded` adds the number that old clients read.
    pub fn build_coded(&self, b: &mut Builder, coded: bool) {
        b.open(ns::CLIENT, "error").attr("type", self.error_type.unwrap_or_else(|| self.condition.error_type()));
        if coded {
            b.attr("code", self.condition.code());
        }
        b.open(ns::STANZA_ERROR, self.condition.as_str()).close();
        if let Some(text) = &self.text {
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
